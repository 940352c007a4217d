//! KV that comes up from a tier below for a request that waits: it takes blocks at once, and the request's place in the queue
//! when it is there.

use super::Replica;
use super::leak::Leak;
use crate::kv::{KvTraffic, Link, Seat, StoreSpec, TierTraffic};
use crate::serving::request::{Phase, known};
use crate::time::Time;

/// What has become of a request that might have KV below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fetch {
    /// There is none to load.
    Nothing,
    /// It is being loaded; the request has left the queue for that time.
    Begun,
    /// Others that run must give back blocks first.
    NoRoom,
}

/// KV on its way up.
#[derive(Clone, Copy, Debug)]
struct Load {
    at: Time,
    seat: Seat,
}

/// All KV on its way up.
#[derive(Clone, Default, Debug)]
pub(crate) struct Loads {
    /// In the order in which they began.
    under_way: Vec<Load>,
    /// When those end that the driver has not been told of yet.
    untold: Vec<Time>,
}

impl Loads {
    pub(super) fn len(&self) -> u32 {
        self.under_way.len() as u32
    }
}

impl Replica {
    /// Begins to load what a waiting request has below, if the rule says so and it was not loaded for already.
    pub(crate) fn fetch(&mut self, seat: Seat) -> Fetch {
        let request = &self.requests[seat as usize];
        if request.loaded || request.kv.below() > 0 {
            return Fetch::Nothing;
        }
        let contents = known(request.content.as_deref(), request.prompt + request.generated - 1);
        let (hit, below) = self.kv.look_below(contents);
        if below.blocks() == 0 {
            return Fetch::Nothing;
        }
        let need = u64::from(hit.free + below.blocks());
        if need + self.owed_blocks() > self.kv.free() {
            if self.running() + self.loads.len() > 0 {
                return Fetch::NoRoom;
            }
            return Fetch::Nothing;
        }
        if !self.waiting.take(seat, &self.requests) {
            return Fetch::Nothing;
        }
        let request = &mut self.requests[seat as usize];
        self.waiting_tokens -= u64::from(request.prompt);
        let user = request.user();
        let contents = known(request.content.as_deref(), request.prompt + request.generated - 1);
        let at = self.kv.load(seat, &mut request.kv, contents, (hit, &below), user);
        request.phase = Phase::Loading;
        self.loads.under_way.push(Load { at, seat });
        self.loads.untold.push(at);
        Fetch::Begun
    }

    /// Whether loads began since the driver last asked when they end.
    #[inline]
    pub(crate) fn has_new_loads(&self) -> bool {
        !self.loads.untold.is_empty()
    }

    /// When loads end that began since the last call: `land_loads` is to be called then, or [`Replica::land_all`] once they are made.
    pub fn take_loads(&mut self) -> impl Iterator<Item = Time> + '_ {
        self.loads.untold.drain(..)
    }

    /// KV that has come up by now is in the cache, and its requests are back in the queue, where they were.
    pub(crate) fn land_loads(&mut self, now: Time) {
        self.land_expected(now, now);
    }

    /// The same for all KV on its way, whenever it was expected: a driver with real memory has copied it.
    pub fn land_all(&mut self, now: Time) {
        self.land_expected(now, Time::MAX);
    }

    fn land_expected(&mut self, now: Time, by: Time) {
        self.kv.at(now);
        let (landed, under_way) = self.loads.under_way.iter().partition(|load| load.at <= by);
        self.loads.under_way = under_way;
        let landed: Vec<Load> = landed;
        for &Load { seat, .. } in landed.iter().rev() {
            let request = &mut self.requests[seat as usize];
            let user = request.user();
            let contents = known(request.content.as_deref(), request.prompt + request.generated - 1);
            self.kv.loaded(seat, &mut request.kv, contents, user);
            if request.doomed {
                self.end_doomed(seat, now);
                self.leaks(Leak::Loaded);
                continue;
            }
            request.phase = Phase::Waiting;
            request.loaded = true;
            self.waiting_tokens += u64::from(request.prompt);
            self.waiting.push_front(seat, &self.requests[seat as usize]);
        }
    }

    /// The link to other replicas.
    pub(crate) fn network(&mut self) -> &mut Link {
        self.kv.network()
    }

    /// What has gone through its KV store so far; `store` is what it was made with.
    pub fn kv_traffic(&self, store: &StoreSpec) -> KvTraffic {
        let mut traffic = KvTraffic::new(store, self.limits.block_tokens);
        self.add_kv_traffic(&mut traffic);
        traffic
    }

    /// What has gone through the tiers below its GPUs so far, from the nearest to the farthest. Cheap, unlike [`Replica::kv_traffic`].
    pub fn tier_traffic(&self) -> impl Iterator<Item = &TierTraffic> {
        self.kv.tier_traffic()
    }

    /// Adds what has gone through the KV store.
    pub(crate) fn add_kv_traffic(&self, traffic: &mut KvTraffic) {
        self.kv.add_traffic(traffic);
    }
}
