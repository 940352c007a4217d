//! The driver's KV store: what of it the engine has, and what went through it.

use overbook_sim::kv::retention::RetentionFigures;
use overbook_sim::kv::{KvTraffic, StoreSpec};
use overbook_sim::time::Time;

use super::{DriveError, Driver, Observer};
use crate::executor::Copied;

impl Driver {
    /// KV that the last plan has begun to load is there: the executor has been given the copies, and makes them before any step that it
    /// is given from now on. Returns whether there was any.
    pub(super) fn land(&mut self, now: Time, observer: &mut dyn Observer) -> bool {
        if self.replica.take_loads().next().is_none() {
            return false;
        }
        self.replica.land_all(now);
        self.tell(now, observer);
        true
    }

    /// What became of requests under a budget of slots; `None` where there is none.
    pub fn retained(&self) -> Option<RetentionFigures> {
        let retained = self.replica.retained();
        (*retained != RetentionFigures::default()).then(|| retained.clone())
    }

    /// What has gone through the KV store, with the time that copies took; `None` where it is vLLM's.
    ///
    /// # Errors
    /// The executor failed.
    pub fn kv_traffic(&mut self) -> Result<Option<(KvTraffic, Copied)>, DriveError> {
        if self.store == StoreSpec::default() {
            return Ok(None);
        }
        let copied = self.executor.copied()?;
        let mut traffic = self.replica.kv_traffic(&self.store);
        if let Some(tier) = traffic.tiers.first_mut() {
            tier.traffic.busy = (copied.up.time + copied.down.time).as_nanos() as u64;
        }
        Ok(Some((traffic, copied)))
    }
}

/// What the engine does not have of a KV store.
pub(crate) fn unfit_store(store: &StoreSpec) -> Option<&'static str> {
    if store.tiers.len() > 1 {
        Some("it has one tier below its pool, the memory of the host; leave one in `engine.prefix_cache.tiers`")
    } else if store.tiers.iter().any(|tier| tier.network) {
        Some("its tier is the memory of this machine; remove `over_network` from `engine.prefix_cache.tiers`")
    } else {
        None
    }
}
