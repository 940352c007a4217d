//! The KV memory of a replica: one store of blocks (`store.rs`), and what each request holds of it.

pub mod blocks;
pub mod eviction;
mod holding;
mod link;
mod names;
mod places;
pub(crate) mod radix;
mod record;
pub mod replay;
pub mod retention;
mod spec;
mod store;
mod table;
mod tiers;
mod traffic;
mod turns;
mod watch;

pub(crate) use holding::{KvHolding, Pace};
pub(crate) use link::Link;
pub use record::{Bound, Record};
pub use spec::{LoadRule, StoreSpec, TierSpec, WriteRule};
pub(crate) use store::KvStore;
pub use tiers::TierTraffic;
pub use traffic::{KvTraffic, NamedTraffic};
pub(crate) use watch::User;

/// Where an active request sits in the tables of its replica; reused after the request has ended. (A *slot* is one token's keys
/// and values in one layer and head.)
pub type Seat = u32;
