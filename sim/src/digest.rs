//! The digest of a run, which is the same with jumps and single steps (law 13).

use crate::time::Time;

/// Kinds of events that the digest covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum EventKind {
    /// Taken from the queue.
    Admit = 1,
    /// Its first token was delivered.
    FirstToken,
    /// It lost its blocks.
    Preempt,
    /// It ended with all its tokens.
    Finish,
    /// It ended otherwise.
    End,
}

/// An order-free sum of well-mixed event hashes: equal for equal sets of events.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest(pub u128);

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ (x >> 32)
}

impl Digest {
    /// Adds an event with the lane's completed steps and busy time [ns] at that moment.
    pub fn add(&mut self, at: Time, kind: EventKind, request: u64, replica: u32, steps: u64, busy: u64) {
        let a = mix(at.0 ^ mix(request ^ mix((kind as u64) << 32 | u64::from(replica))));
        let b = mix(a ^ mix(steps ^ mix(busy)));
        self.0 = self.0.wrapping_add(u128::from(a) << 64 | u128::from(b));
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
