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
}

/// The stream of a purpose under a seed.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// The stream of a purpose under a seed for one decision, whatever was drawn for others: for policies that draw only
/// sometimes.
pub fn keyed(seed: u64, purpose: Purpose, key: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 48 ^ (key + 1));
    rng
}
