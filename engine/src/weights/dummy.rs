//! Weights drawn from a seed.

use rayon::prelude::*;

use overbook_sim::counter;

use super::{Source, WeightsError, bf16};

/// Uniform numbers of standard deviation 0.02, the usual initialisation's, never exactly zero; norms lie around 1.
///
/// Number `i` of a tensor is a hash of the seed, the tensor's name and `i`: any thread, or another program, gets the same.
#[derive(Clone, Copy, Debug)]
pub struct Dummy {
    /// Distinguishes models of one shape.
    pub seed: u64,
}

/// Half the width of a uniform distribution of standard deviation 0.02: 0.02 √3.
const HALF_WIDTH: f32 = 0.034_641_016;
/// Numbers that a thread makes at once.
const RUN: usize = 1 << 15;

/// The numbers of a tensor, by their places.
struct Numbers {
    key: u64,
    centre: f32,
}

impl Numbers {
    fn of(seed: u64, name: &str) -> Numbers {
        // Norms scale: around 1. All others add up: around 0.
        Numbers { key: key(seed, name), centre: if name.ends_with("norm.weight") { 1.0 } else { 0.0 } }
    }

    fn at(&self, index: usize) -> f32 {
        self.centre + HALF_WIDTH * unit(self.key, index as u64)
    }
}

impl Source for Dummy {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let numbers = Numbers::of(self.seed, name);
        let mut values = vec![0.0; shape.iter().product::<usize>()];
        values.par_chunks_mut(RUN).enumerate().for_each(|(run, values)| {
            values.iter_mut().enumerate().for_each(|(index, value)| *value = numbers.at(run * RUN + index));
        });
        Ok(values)
    }

    fn narrow(&self, name: &str, first: usize, bytes: &mut [u8]) -> bool {
        let numbers = Numbers::of(self.seed, name);
        bytes.par_chunks_mut(2 * RUN).enumerate().for_each(|(run, bytes)| {
            let first = first + run * RUN;
            for (index, two) in bytes.chunks_exact_mut(2).enumerate() {
                two.copy_from_slice(&(bf16(numbers.at(first + index)) as u16).to_le_bytes());
            }
        });
        true
    }
}

/// FNV-1a of the name, started from the seed.
fn key(seed: u64, name: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(counter::draw(seed, 0), fold)
}

/// Uniform in (-1, 1): an odd multiple of 2⁻²³, so never zero.
fn unit(key: u64, index: u64) -> f32 {
    let bits = counter::draw(key, index) >> 41;
    (2 * bits as i32 + 1 - (1 << 23)) as f32 / (1 << 23) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    #[test]
    fn narrow_numbers_are_the_tensors_from_any_place_on() {
        let (dummy, len) = (Dummy { seed: 3 }, 70_000);
        let whole = dummy.tensor("b.weight", &[len]).unwrap();
        for first in [0, 1, 33_000] {
            let mut bytes = vec![0; 2 * (len - first)];
            assert!(dummy.narrow("b.weight", first, &mut bytes));
            let narrow = whole[first..].iter().flat_map(|value| (bf16(*value) as u16).to_le_bytes());
            assert!(bytes.iter().copied().eq(narrow), "from {first}");
        }
    }

    #[test]
    fn numbers_depend_on_seed_name_and_place_alone() {
        let draw = |seed, name: &str, len| Dummy { seed }.tensor(name, &[len]).unwrap();
        let long = draw(1, "a.weight", 100_000);
        assert_eq!(draw(1, "a.weight", 10), long[..10]);
        assert!(draw(2, "a.weight", 10) != long[..10] && draw(1, "b.weight", 10) != long[..10]);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| draw(1, "a.weight", 100_000)), long);
        assert!(long.iter().all(|value| *value != 0.0 && value.abs() < 0.0347));
        let mean = long.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e5;
        let square = long.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 3e-4 && (square.sqrt() - 0.02).abs() < 2e-4, "{mean} {square}");
        assert!(draw(1, "model.norm.weight", 1000).iter().all(|value| (value - 1.0).abs() < 0.035));
    }
}
