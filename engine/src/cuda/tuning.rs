//! Algorithms of matrix products that were timed once, in a file for each GPU and version of cuBLASLt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blas::{Algorithm, Blas, Shape};
use super::driver::Facts;

/// One product's.
#[derive(Serialize, Deserialize)]
struct Entry {
    rows: u32,
    inputs: u32,
    outputs: u32,
    wide: bool,
    /// 64 bytes, as the library writes them, in hex.
    algorithm: String,
}

/// Where they are kept.
fn place(folder: &Path, gpu: &Facts) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = gpu.name.chars().map(plain).collect();
    folder.join(format!("cublaslt-{}-{name}-sm{}.tuned", Blas::version(), gpu.sm))
}

/// Those of earlier times. What cannot be read is measured again.
pub(super) fn load(folder: Option<&Path>, gpu: &Facts) -> BTreeMap<Shape, Algorithm> {
    // Their file is named after the library's version.
    let folder = folder.filter(|_| Blas::find().is_ok());
    let text = folder.and_then(|folder| super::compile::kept(&place(folder, gpu))).unwrap_or_default();
    let entries: Vec<Entry> = serde_json::from_slice(&text).unwrap_or_default();
    let known = entries.into_iter().filter_map(|entry| {
        let Entry { rows, inputs, outputs, wide, algorithm } = entry;
        Some((Shape { rows, inputs, outputs, wide }, from_hex(&algorithm)?))
    });
    known.collect()
}

/// Keeps them, with those that others have kept meanwhile.
pub(super) fn keep(folder: Option<&Path>, gpu: &Facts, tuned: &BTreeMap<Shape, Algorithm>) {
    let Some(folder) = folder else { return };
    let mut all = load(Some(folder), gpu);
    all.extend(tuned);
    let entries = all.iter().map(|(shape, algorithm)| Entry {
        rows: shape.rows,
        inputs: shape.inputs,
        outputs: shape.outputs,
        wide: shape.wide,
        algorithm: to_hex(algorithm),
    });
    let entries: Vec<Entry> = entries.collect();
    let place = place(folder, gpu);
    if let Ok(text) = serde_json::to_string_pretty(&entries) {
        super::compile::keep(&place, text.as_bytes());
    }
}

fn to_hex(algorithm: &Algorithm) -> String {
    algorithm.iter().fold(String::new(), |text, word| text + &format!("{word:016x}"))
}

fn from_hex(text: &str) -> Option<Algorithm> {
    let word = |index: usize| u64::from_str_radix(text.get(16 * index..16 * index + 16)?, 16).ok();
    let mut algorithm = [0; 8];
    for (index, into) in algorithm.iter_mut().enumerate() {
        *into = word(index)?;
    }
    (text.len() == 128).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hex_is_read_as_it_is_written_and_nothing_else() {
        let algorithm = [1, u64::MAX, 0, 5, 6, 7, 8, 0x0123_4567_89ab_cdef];
        let text = to_hex(&algorithm);
        assert_eq!(from_hex(&text), Some(algorithm));
        assert_eq!((from_hex(&text[1..]), from_hex(""), from_hex(&format!("{text}0"))), (None, None, None));
    }
}
