//! Randomness: one seed, one named stream per purpose, so that changing the lengths never changes the arrivals.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// The stream of a purpose; its number is the name's bytes.
pub(crate) fn stream(seed: u64, name: [u8; 8]) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from_le_bytes(name));
    rng
}

/// Uniform in [0, 1), 53 bits.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}
