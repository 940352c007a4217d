//! The laws over a replica, recomputed from its requests.

use super::{Lanes, Replica};
use crate::kv::KvHolding;
use crate::serving::request::Phase;

impl Replica {
    /// Whether slots and blocks of a holding follow from what it has computed.
    fn holds_rightly(&self, kv: &KvHolding, slots: u32) -> bool {
        let keep = &self.limits.retention;
        let block_tokens = self.limits.block_tokens;
        if kv.is_ahead() {
            // Blocks of drafts stay: at most those of the step before, from its first token on.
            let most = self.limits.slots_ahead(slots.saturating_sub(1)).max(slots);
            let blocks = u64::from(slots.div_ceil(block_tokens))..=u64::from(most.div_ceil(block_tokens));
            return kv.kept() == kv.positions() && blocks.contains(&kv.blocks());
        }
        let least = u64::from(kv.kept().div_ceil(block_tokens));
        if kv.kept() == kv.positions() {
            return kv.blocks() == least;
        }
        // Once it was cut, it may have all blocks that its budget and what it may have beyond take.
        let full = u64::from(keep.budget.saturating_add(keep.every).div_ceil(block_tokens));
        kv.kept() < kv.positions() && kv.kept() >= keep.least_kept() && (kv.blocks() == least || kv.blocks() <= full)
    }

    /// Laws 1, 2 and 4 over the whole replica, recomputed from the requests.
    ///
    /// # Errors
    /// What disagrees.
    pub fn audit(&self) -> Result<(), String> {
        for lane in &self.lanes {
            lane.audit(&self.requests)?;
        }
        let mut holdings: Vec<(u64, &KvHolding)> = self.outgoing.iter().map(|o| (o.kv.blocks(), &o.kv)).collect();
        let (mut waiting, mut running, mut ready, mut tokens) = (0, 0, 0, 0);
        for request in &self.requests {
            ready += u32::from(request.phase == Phase::Ready);
            match request.phase {
                Phase::Vacant => continue,
                Phase::Waiting => {
                    waiting += 1;
                    tokens += if request.kv.below() == 0 { u64::from(request.prompt) } else { 0 };
                }
                Phase::Loading => waiting += 1,
                _ => running += 1,
            }
            let kv = &request.kv;
            if kv.below() > 0 && request.phase != Phase::Waiting {
                return Err(format!("request {} runs with its KV below the GPUs' memory", request.id));
            }
            let slots = self.lanes[usize::from(request.lane)].kept(request);
            if !self.holds_rightly(kv, slots) {
                return Err(format!("request {} has {} blocks for {} slots", request.id, kv.blocks(), kv.kept()));
            }
            let blocks = self.lanes[usize::from(request.lane)].blocks(request);
            if kv.named().len() as u64 > blocks {
                return Err(format!("request {} has more named blocks than blocks", request.id));
            }
            holdings.push((blocks, kv));
        }
        self.kv.audit(holdings.into_iter())?;
        if (waiting, running) != (self.waiting(), self.running()) || waiting + running != self.outstanding {
            return Err(format!("{waiting} waiting and {running} running requests, counters disagree"));
        }
        if tokens != self.waiting_tokens {
            return Err(format!("{tokens} prompt tokens wait, the counter says {}", self.waiting_tokens));
        }
        let queued = self.ready.iter().filter(|&&(seat, generation)| {
            let request = &self.requests[seat as usize];
            request.generation == generation && request.phase == Phase::Ready
        });
        // Those that another replica will fetch are in its queue.
        let queued = if self.limits.lanes == Lanes::Prefill { ready as usize } else { queued.count() };
        if (ready, queued) != (self.ready_len, self.ready_len as usize) {
            return Err(format!("{ready} requests are ready, the queue says {}", self.ready_len));
        }
        Ok(())
    }
}
