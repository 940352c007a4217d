//! Dummy weights whose logits lie apart.

use super::{Dummy, Source, WeightsError};

/// [`Dummy`], but for norms times a factor: attention looks at some positions more than at others, and rounding does not decide what is
/// drawn. To compare what two devices compute.
#[derive(Clone, Copy, Debug)]
pub struct Loud {
    /// Distinguishes models of one shape.
    pub seed: u64,
    /// What all numbers but those of norms are multiplied with.
    pub factor: f32,
}

impl Source for Loud {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let mut values = Dummy { seed: self.seed }.tensor(name, shape)?;
        if !name.ends_with("norm.weight") {
            for value in &mut values {
                *value *= self.factor;
            }
        }
        Ok(values)
    }
}
