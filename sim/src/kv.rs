//! The KV memory of a replica: one [store](KvStore) of blocks, and what each request holds of it.

pub mod blocks;
pub mod eviction;
mod holding;
mod names;
pub(crate) mod radix;
pub mod replay;
mod store;

pub(crate) use holding::KvHolding;
pub(crate) use store::KvStore;

/// Where an active request sits in the tables of its replica; reused after the request has ended. (A *slot* is one token's keys
/// and values in one layer and head.)
pub type Seat = u32;
