//! Progress: whether the plans of a replica lead anywhere.

use super::{Chunk, Replica};
use crate::kv::Seat;
use crate::serving::request::Phase;

/// How many times more barren plans may follow each other while other replicas will free memory of this one.
const AWAITED: u64 = 64;

/// Plans in a row that led nowhere.
#[derive(Clone, Default, Debug)]
pub(crate) struct Progress {
    barren: u64,
    /// Requests that had ended by the last barren plan.
    ended: u64,
    /// Most tokens that the request in each seat had computed when it was preempted, as far as any was. Most runs have none: it is
    /// not kept in the requests.
    reached: Vec<u32>,
}

impl Progress {
    /// The request in a seat is preempted with so many tokens computed.
    pub(crate) fn note(&mut self, seat: Seat, computed: u32) {
        if self.reached.len() <= seat as usize {
            self.reached.resize(seat as usize + 1, 0);
        }
        let reached = &mut self.reached[seat as usize];
        *reached = computed.max(*reached);
    }

    /// The request in a seat is gone.
    pub(super) fn forget(&mut self, seat: Seat) {
        if let Some(reached) = self.reached.get_mut(seat as usize) {
            *reached = 0;
        }
    }

    fn reached(&self, seat: Seat) -> u32 {
        self.reached.get(seat as usize).copied().unwrap_or(0)
    }
}

impl Replica {
    /// Notes whether the plan just made leads on. It does if it decodes (a token that was generated is never lost), takes a
    /// prompt further than its request ever was, or follows the end of a request. One that only computes again what
    /// preemptions have dropped, or only preempts, is *barren*.
    pub(super) fn note_progress(&mut self, busy: bool) {
        let further = |chunk: &Chunk| chunk.past + chunk.tokens > self.progress.reached(chunk.seat);
        if self.step.decode_seqs > 0 || self.step.chunks.iter().any(further) {
            self.progress.barren = 0;
        } else if busy || !self.step.preempted.is_empty() {
            let ended = std::mem::replace(&mut self.progress.ended, self.ended_count);
            self.progress.barren = if ended == self.ended_count { self.progress.barren + 1 } else { 0 };
        }
    }

    /// Whether the requests here preempt each other for ever (law 14).
    ///
    /// What was dropped and is computed again fits into the pool, and a barren plan computes a token of it at least. So if none is
    /// preempted meanwhile, fewer barren plans follow each other than the pool has tokens; and if some are, then under any policy
    /// that spares one request until it has got further, fewer than the longest sequence has. Twice the pool is beyond both.
    ///
    /// Finished prompts that wait to be taken to another replica hold memory, too, and what decodes there frees it: as long as there are
    /// some, a prompt that finds no room may be computed and dropped many times more.
    pub fn is_stuck(&self) -> bool {
        let most = self.barren_max();
        self.progress.barren > most && (self.progress.barren > AWAITED * most || !self.awaits_transfer())
    }

    fn awaits_transfer(&self) -> bool {
        self.requests.iter().any(|request| matches!(request.phase, Phase::Ready | Phase::Prefilled))
    }

    /// Barren plans in a row that no policy makes under which requests get on.
    pub fn barren_max(&self) -> u64 {
        2 * self.limits.blocks.saturating_mul(u64::from(self.limits.block_tokens))
    }
}
