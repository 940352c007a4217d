//! Named random streams: one seed, one independent ChaCha8 stream per purpose.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// What a stream is for. Adding a purpose never changes the draws of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// Choices of the router.
    Routing = 101,
    /// Think times of closed-loop clients.
    Thinking = 102,
    /// Predicted output lengths.
    Lengths = 103,
    /// Pauses before clients send a request again.
    Retrying = 104,
    /// Failures of replicas.
    Failing = 105,
    /// How far single steps lie from what their shape costs.
    Jitter = 106,
}

/// The stream of a purpose under a seed.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// Uniform in [0, 1), a function of the seed, the purpose and the key alone: for draws that may be skipped. SplitMix64's
/// finaliser over the words of the key.
pub fn keyed(seed: u64, purpose: Purpose, key: &[u64]) -> f64 {
    let mut state = seed;
    for &word in [purpose as u64].iter().chain(key) {
        let mut x = (state ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state = x ^ (x >> 31);
    }
    (state >> 11) as f64 / (1_u64 << 53) as f64
}
