//! The KV memory of a replica.

pub mod blocks;
pub(crate) mod radix;

/// Where an active request sits in the tables of its replica; reused after the request has ended. (A *slot* is one token's keys
/// and values in one layer and head.)
pub type Seat = u32;
