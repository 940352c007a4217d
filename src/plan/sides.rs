//! The search over both sides of a fleet whose prompts and decodes run on replicas of different kinds: the split that weighs least, and not the one
//! with the fewest replicas.
//!
//! More replicas of a side never break a promise that fewer keep. So a split that fails rules out all that are no larger on either side, and the
//! heaviest splits that are lighter than one that holds stand for all lighter ones: when each of them is ruled out, that one is the answer.

use super::search::Side;
use super::space::Size;
use super::weigh::Weight;

/// The search of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Sides {
    weight: Weight,
    /// GPUs of a fleet at most.
    gpus_most: u32,
    /// What bounds leave at least, of each side.
    least: (u32, u32),
    /// The most that a split may weigh now.
    limit: u64,
    /// The lightest that is known to hold.
    best: Option<(u32, u32)>,
    /// Splits that failed and are not smaller than another that did.
    failures: Vec<(u32, u32)>,
    /// The last failure, what it was about, and how far it came.
    last: Option<((u32, u32), Side, f64)>,
    /// Whether the failure before it was about the same side and came as far: that side alone does not help.
    stuck: bool,
}

impl Sides {
    /// Begins at sizes that are known to be the least possible.
    pub(crate) fn new(weight: Weight, (least, least_decode): (u32, u32), gpus_most: u32) -> Sides {
        Sides {
            weight,
            gpus_most,
            least: (least.max(1), least_decode.max(1)),
            limit: u64::MAX,
            best: None,
            failures: Vec::new(),
            last: None,
            stuck: false,
        }
    }

    /// Whether there is any split of so few GPUs.
    pub(crate) fn has_room(&self) -> bool {
        self.weight.gpus(Size::Apart(self.least.0, self.least.1)) <= self.gpus_most
    }

    /// Tries nothing that weighs more from now on.
    pub(crate) fn within(&mut self, limit: u64) {
        self.limit = limit;
    }

    fn units(&self, (prefill, decode): (u32, u32)) -> u64 {
        self.weight.units(Size::Apart(prefill, decode))
    }

    fn fits(&self, (prefill, decode): (u32, u32), limit: u64) -> bool {
        self.weight.gpus(Size::Apart(prefill, decode)) <= self.gpus_most && self.units((prefill, decode)) <= limit
    }

    fn is_ruled_out(&self, (prefill, decode): (u32, u32)) -> bool {
        self.failures.iter().any(|&(p, d)| prefill <= p && decode <= d)
    }

    /// The splits up to a limit that are not smaller than another one, and not ruled out: by rising replicas for prompts.
    fn frontier(&self, limit: u64) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        let mut decode = self.gpus_most;
        for prefill in self.least.0..=self.gpus_most {
            // More for prompts leave no more for decodes.
            while decode >= self.least.1 && !self.fits((prefill, decode), limit) {
                decode -= 1;
            }
            if decode < self.least.1 {
                break;
            }
            if !self.is_ruled_out((prefill, decode)) {
                all.push((prefill, decode));
            }
        }
        all
    }

    /// The split to try next; `None` if the lightest that holds is known, or that none does within the limit.
    pub(crate) fn next(&self) -> Option<(u32, u32)> {
        let Some(best) = self.best else { return self.grown().or_else(|| self.pointed(self.limit)) };
        let lighter = self.units(best).checked_sub(1)?.min(self.limit);
        self.shrunk(best).or_else(|| self.pointed(lighter))
    }

    /// Larger by a quarter, on the side that the last failure is about.
    fn grown(&self) -> Option<(u32, u32)> {
        let up = |replicas: u32| replicas + 1 + replicas / 4;
        let grown = match self.last {
            None => self.least,
            Some(((prefill, decode), _, _)) if self.stuck => (up(prefill), up(decode)),
            Some(((prefill, decode), Side::Prefill, _)) => (up(prefill), decode),
            Some(((prefill, decode), Side::Decode, _)) => (prefill, up(decode)),
            Some(((prefill, decode), Side::Both, _)) => (up(prefill), up(decode)),
        };
        (self.fits(grown, self.limit) && !self.is_ruled_out(grown)).then_some(grown)
    }

    /// Half of what one side may have too much, the other left as it is.
    fn shrunk(&self, (prefill, decode): (u32, u32)) -> Option<(u32, u32)> {
        let low = self.failures.iter().filter(|(_, d)| *d >= decode).map(|(p, _)| *p).max().unwrap_or(0);
        let low = low.max(self.least.0 - 1);
        if low + 1 < prefill {
            return Some((low.midpoint(prefill), decode));
        }
        let low = self.failures.iter().filter(|(p, _)| *p >= prefill).map(|(_, d)| *d).max().unwrap_or(0);
        let low = low.max(self.least.1 - 1);
        (low + 1 < decode).then(|| (prefill, low.midpoint(decode)))
    }

    /// The middle of the heaviest splits within a limit that are still open, on the side to which the last failure points.
    fn pointed(&self, limit: u64) -> Option<(u32, u32)> {
        let open = self.frontier(limit);
        let near: Vec<&(u32, u32)> = match self.last {
            Some(((prefill, _), Side::Prefill, _)) => open.iter().filter(|(p, _)| *p > prefill).collect(),
            Some(((_, decode), Side::Decode, _)) => open.iter().filter(|(_, d)| *d > decode).collect(),
            _ => Vec::new(),
        };
        near.get(near.len() / 2).copied().copied().or_else(|| open.get(open.len() / 2).copied())
    }

    /// The lightest split that is not ruled out: what any split which holds weighs at least.
    pub(crate) fn lightest(&self) -> (u32, u32) {
        if let Some(best) = self.best.filter(|_| self.next().is_none()) {
            return best;
        }
        let most = self.failures.iter().map(|(p, _)| *p).max().unwrap_or(0).max(self.least.0) + 1;
        let corner = |prefill: u32| {
            let failed = self.failures.iter().filter(|(p, _)| *p >= prefill).map(|(_, d)| d + 1).max();
            (prefill, failed.unwrap_or(0).max(self.least.1))
        };
        let corners = (self.least.0..=most).map(corner);
        corners.min_by_key(|&split| self.units(split)).unwrap_or(self.least)
    }

    pub(crate) fn best(&self) -> Option<(u32, u32)> {
        self.best
    }

    /// A split was tried and holds.
    pub(crate) fn held(&mut self, split: (u32, u32)) {
        if self.best.is_none_or(|best| self.units(split) < self.units(best)) || self.shrinks(split) {
            self.best = Some(split);
        }
    }

    /// Whether it is no larger than the best on either side: where servers are counted, both may weigh the same.
    fn shrinks(&self, (prefill, decode): (u32, u32)) -> bool {
        self.best.is_some_and(|(p, d)| prefill <= p && decode <= d)
    }

    /// A split was tried and fails, for that side, having come so far: a share of the requests.
    pub(crate) fn failed(&mut self, split: (u32, u32), side: Side, came: f64) {
        let as_before = |&((..), before, then): &((u32, u32), Side, f64)| before == side && came <= then;
        self.stuck = self.best.is_none() && self.last.as_ref().is_some_and(as_before);
        self.failures.retain(|&(p, d)| p > split.0 || d > split.1);
        self.failures.push(split);
        self.last = Some((split, side, came));
    }

    /// What held on a part of the requests fails on all of them.
    pub(crate) fn refuted(&mut self, split: (u32, u32), side: Side) {
        self.best = None;
        self.failed(split, side, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use overbook_scenarios::scenario::PlanObjective;

    use super::super::weigh::SideWeight;
    use super::*;

    fn weight(gpus: (u32, u32), usd: (f64, f64), objective: PlanObjective) -> Weight {
        let side = |gpus, usd| SideWeight { gpus, per_server: Some(8), idle: None, usd: Some(usd) };
        Weight { first: side(gpus.0, usd.0), second: Some(side(gpus.1, usd.1)), objective }
    }

    /// What the search finds, and how many splits it tries.
    fn searched(
        mut search: Sides,
        holds: impl Fn(u32, u32) -> bool,
        mut blame: impl FnMut() -> Side,
    ) -> (Sides, usize) {
        let mut tried = 0;
        while let Some((prefill, decode)) = search.next() {
            tried += 1;
            assert!(tried < 400, "it does not end");
            if holds(prefill, decode) {
                search.held((prefill, decode));
            } else {
                search.failed((prefill, decode), blame(), f64::from(prefill + decode));
            }
        }
        (search, tried)
    }

    #[test]
    fn the_lightest_split_is_that_of_trying_all_whoever_is_blamed() {
        let (mut most_tried, mut found) = (0, 0);
        for seed in 0..1500u64 {
            let draw = |n: u64, below: u64| {
                (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(7 * n as u32).wrapping_mul(n | 1) >> 40) % below
            };
            let gpus = ([1, 2, 4][draw(1, 3) as usize], [1, 2, 4][draw(2, 3) as usize]);
            let usd = (1.0 + draw(3, 40) as f64 / 10.0, 1.0 + draw(4, 40) as f64 / 10.0);
            let objective = [PlanObjective::Usd, PlanObjective::Gpus, PlanObjective::Servers][draw(5, 3) as usize];
            let weight = weight(gpus, usd, objective);
            let (prefill, decode, both) = (1 + draw(6, 9) as u32, 1 + draw(7, 9) as u32, 2 + draw(8, 30) as u32);
            // What one side lacks, more of the other may make good.
            let holds = |p: u32, d: u32| p >= prefill && d >= decode && 2 * p + 3 * d >= both;
            let most = 4 + draw(9, 40) as u32;
            let all = (1..=most).flat_map(|p| (1..=most).map(move |d| (p, d)));
            let fits = |&(p, d): &(u32, u32)| weight.gpus(Size::Apart(p, d)) <= most;
            let least =
                all.filter(fits).filter(|&(p, d)| holds(p, d)).map(|(p, d)| weight.units(Size::Apart(p, d))).min();
            let mut n = 10;
            let blame = || {
                n += 1;
                [Side::Prefill, Side::Decode, Side::Both][draw(n % 9 + 10, 3) as usize]
            };
            let (search, tried) = searched(Sides::new(weight, (1, 1), most), holds, blame);
            let units = search.best().map(|(p, d)| weight.units(Size::Apart(p, d)));
            assert_eq!(units, least, "seed {seed}");
            found += usize::from(least.is_some());
            most_tried = most_tried.max(tried);
        }
        assert!(found > 500 && found < 1500, "{found} of the spaces have an answer");
        assert!(most_tried <= 60, "{most_tried} tries");
    }

    #[test]
    fn what_is_lightest_is_known_before_the_end_and_limits_are_kept() {
        let weight = weight((1, 2), (2.0, 3.0), PlanObjective::Usd);
        let mut search = Sides::new(weight, (2, 1), 64);
        assert_eq!(search.lightest(), (2, 1));
        search.failed((2, 1), Side::Prefill, 0.1);
        // One more for prompts costs $2, one more that decodes $6.
        assert_eq!(search.lightest(), (3, 1));
        search.failed((9, 1), Side::Decode, 0.1);
        assert_eq!(search.lightest(), (2, 2));
        search.within(weight.units(Size::Apart(2, 1)));
        assert_eq!(search.next(), None, "all within the limit are ruled out");
        search.within(u64::MAX);
        search.held((4, 4));
        search.refuted((4, 4), Side::Both);
        assert!(search.best().is_none() && search.next().is_some_and(|(p, d)| p > 4 || d > 4));
    }
}
