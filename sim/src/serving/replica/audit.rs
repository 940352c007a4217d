//! The laws over a replica, recomputed from its requests.

use super::{Lanes, Replica};
use crate::serving::request::Phase;

impl Replica {
    /// Laws 1, 2 and 4 over the whole replica, recomputed from the requests.
    ///
    /// # Errors
    /// What disagrees.
    pub fn audit(&self) -> Result<(), String> {
        self.pool.audit()?;
        for lane in &self.lanes {
            lane.audit(&self.requests, &self.pool)?;
        }
        let mut anonymous = 0;
        let mut hashed: Vec<usize> = Vec::new();
        let (mut waiting, mut running, mut ready, mut tokens, mut on_host) = (0, 0, 0, 0, 0);
        for request in &self.requests {
            ready += u32::from(request.phase == Phase::Ready);
            match request.phase {
                Phase::Vacant => continue,
                Phase::Waiting => {
                    waiting += 1;
                    tokens += if request.on_host() == 0 { u64::from(request.prompt) } else { 0 };
                }
                _ => running += 1,
            }
            on_host += self.pool.blocks_for(u64::from(request.on_host()));
            if request.swapped && request.phase != Phase::Waiting {
                return Err(format!("request {} runs with its KV on the host", request.id));
            }
            let computed = self.lanes[usize::from(request.lane)].computed(request);
            anonymous += self.pool.blocks_for(u64::from(computed)) - request.hashed.len() as u64;
            hashed.extend(request.hashed.iter().map(|b| b.index()));
        }
        for outgoing in &self.outgoing {
            anonymous += outgoing.anonymous;
            hashed.extend(outgoing.hashed.iter().map(|b| b.index()));
        }
        hashed.sort_unstable();
        hashed.dedup();
        if anonymous + hashed.len() as u64 != self.pool.used() {
            return Err(format!(
                "requests hold {} blocks, the pool says {}",
                anonymous + hashed.len() as u64,
                self.pool.used()
            ));
        }
        if on_host != self.swapped_blocks || on_host > self.limits.swap.blocks {
            return Err(format!("{on_host} blocks on the host, the replica says {}", self.swapped_blocks));
        }
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
