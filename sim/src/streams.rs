//! Named random streams: one seed, one independent ChaCha8 stream per purpose.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::counter::mix;

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
    /// Choices of random eviction.
    Evicting = 107,
    /// How early commands of a power policy land.
    Commands = 108,
    /// Drafts that are accepted under speculative decoding.
    Speculating = 110,
    /// Points of a sweep.
    Sweeping = 109,
    /// First weights of a model that is trained.
    Weights = 121,
    /// Sequences that a model is trained on.
    Training = 122,
    /// Sequences that settings are chosen on.
    Tuning = 123,
    /// Sequences that results are measured on.
    Testing = 124,
}

/// The stream of a purpose under a seed.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// Uniform in [0, 1), a function of the seed, the purpose and the key alone: for draws that may be skipped.
pub fn keyed(seed: u64, purpose: Purpose, key: &[u64]) -> f64 {
    let state = [purpose as u64].iter().chain(key).fold(seed, |state, &word| mix(state, word));
    (state >> 11) as f64 / (1_u64 << 53) as f64
}
