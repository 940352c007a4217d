//! The smallest size of a shape that keeps the promises: step by step, so that many shapes can be searched side by side.
//!
//! More replicas never break a promise that fewer keep; where prompts and decodes are apart, that holds for each side alone. So if any split of
//! up to so many replicas holds, one of exactly so many does: before the search gives up, all of these were tried, or are smaller than one that failed.

use overbook_scenarios::scenario::PlanMode;

use super::space::Size;

/// Sizes above a known failure that are tried in the first search: a quarter more each time.
const GROWTH: u32 = 4;

/// A number of replicas that is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Count {
    /// Known to be too few.
    failed: u32,
    /// Tried without success, for whatever reason.
    reached: u32,
    /// Known to be enough.
    holds: Option<u32>,
}

impl Count {
    /// The next number to try above what has failed, up to `limit`; `None` if there is no more.
    fn up(&self, limit: u32) -> Option<u32> {
        let from = self.failed.max(self.reached);
        (from < limit).then(|| (from + 1 + from / GROWTH).min(limit))
    }

    /// The next number to try below what holds; `None` if the smallest is known.
    fn down(&self) -> Option<u32> {
        let holds = self.holds?;
        (holds > self.failed + 1).then(|| self.failed + (holds - self.failed) / 2)
    }
}

/// How much further a run must come for a change to have helped.
const HELPED: f64 = 1.05;

/// Which side of a fleet that is apart a failure is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Prefill,
    Decode,
    Both,
}

/// Where the search stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing holds yet.
    Up,
    /// Fewer replicas for prompts, or for all.
    Prefill,
    /// Fewer replicas that decode.
    Decode,
    /// One of the trades between the sides that would save a replica.
    Trade(usize),
    Done,
}

/// Trades between the sides, each of which saves one replica.
const TRADES: [(i64, i64); 4] = [(-2, 1), (1, -2), (-3, 2), (2, -3)];

/// The search over the sizes of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    apart: bool,
    first: Count,
    second: Count,
    phase: Phase,
    /// The smallest that is known to hold.
    best: Option<Size>,
    /// How far the last failure came, and its size.
    last: Option<(Size, f64)>,
    /// What bounds leave at least, of each side.
    least: (u32, u32),
    /// Replicas at most that are tried now.
    limit: u32,
    /// Splits that failed and are not smaller than another that did.
    failures: Vec<(u32, u32)>,
    /// Where the last failure points: more replicas for prompts than this, or fewer.
    hint: Option<(u32, Side)>,
    /// No split of so many replicas or fewer holds.
    refuted_up_to: u32,
    /// Whether trades between the sides are tried: they may come back to what was refuted.
    trades: bool,
}

impl Search {
    /// Begins at sizes that are known to be the least possible; `most` replicas in all.
    pub(crate) fn new(mode: PlanMode, (least, least_decode): (u32, u32), most: u32) -> Search {
        let apart = mode == PlanMode::Apart;
        let count = |least: u32| Count { failed: least.saturating_sub(1), reached: 0, holds: None };
        let second = if apart { count(least_decode) } else { Count { holds: Some(0), ..count(1) } };
        let first = count(least);
        Search {
            apart,
            first,
            second,
            phase: Phase::Up,
            best: None,
            last: None,
            least: (least.max(1), least_decode.max(1)),
            limit: most,
            failures: Vec::new(),
            hint: None,
            refuted_up_to: 0,
            trades: true,
        }
    }

    /// Tries no more than so many replicas from now on, until something holds.
    pub(crate) fn within(&mut self, limit: u32) {
        if self.limit != limit {
            self.limit = limit;
            self.refute();
        }
    }

    /// Whether anything was tried and failed, and nothing is left of so many replicas.
    fn refute(&mut self) {
        if self.apart && self.phase == Phase::Up && self.limit > self.refuted_up_to && self.split().is_none() {
            self.refuted_up_to = self.limit;
        }
    }

    /// The size to try next; `None` if the smallest that holds is known, or that none does.
    pub(crate) fn next(&self) -> Option<Size> {
        match self.phase {
            Phase::Done => None,
            Phase::Up if !self.apart => self.first.up(self.limit).map(Size::Together),
            Phase::Up => {
                let grown = self.first.up(self.limit).zip(self.second.up(self.limit));
                let grown = grown.map(|(prefill, decode)| Size::Apart(prefill, decode));
                grown.filter(|size| size.replicas() <= self.limit).or_else(|| self.split())
            }
            Phase::Prefill if !self.apart => self.first.down().map(Size::Together),
            Phase::Prefill => Some(Size::Apart(self.first.down()?, self.second.holds?)),
            Phase::Decode => Some(Size::Apart(self.first.holds?, self.second.down()?)),
            Phase::Trade(at) => self.traded(at),
        }
    }

    /// The next split of all replicas that may be tried, where growing by steps would go beyond them. The middle of what the last failure points to
    /// comes first.
    fn split(&self) -> Option<Size> {
        if self.limit <= self.refuted_up_to {
            return None;
        }
        let (least, least_decode) = self.least;
        let open: Vec<u32> = (least..=self.limit.saturating_sub(least_decode))
            .filter(|&p| !self.failures.iter().any(|&(prefill, decode)| p <= prefill && self.limit - p <= decode))
            .collect();
        let pointed = |p: &&u32| match self.hint {
            Some((at, Side::Prefill)) => **p > at,
            Some((at, Side::Decode)) => **p < at,
            _ => true,
        };
        let near: Vec<&u32> = open.iter().filter(pointed).collect();
        let prefill = near.get(near.len() / 2).copied().or_else(|| open.get(open.len() / 2))?;
        Some(Size::Apart(*prefill, self.limit - prefill))
    }

    fn traded(&self, at: usize) -> Option<Size> {
        let (prefill, decode) = (i64::from(self.first.holds?), i64::from(self.second.holds?));
        let (prefill, decode) = (prefill + TRADES[at].0, decode + TRADES[at].1);
        let (least, least_decode) = (i64::from(self.least.0), i64::from(self.least.1));
        (prefill >= least && decode >= least_decode).then_some(Size::Apart(prefill as u32, decode as u32))
    }

    /// Replicas that any size which holds has at least.
    pub(crate) fn least(&self) -> u32 {
        match self.best {
            Some(best) if self.phase == Phase::Done => best.replicas(),
            _ if self.apart => (self.first.failed + self.second.failed + 2).max(self.refuted_up_to + 1),
            _ => self.first.failed + 1,
        }
    }

    pub(crate) fn best(&self) -> Option<Size> {
        self.best
    }

    /// A size was tried and holds.
    pub(crate) fn held(&mut self, size: Size) {
        self.best = Some(size);
        match size {
            Size::Together(replicas) => self.first.holds = Some(replicas),
            Size::Apart(prefill, decode) => {
                self.first.holds = Some(prefill);
                self.second.holds = Some(decode);
            }
        }
        if self.phase == Phase::Up {
            self.phase = Phase::Prefill;
        } else if let Phase::Trade(_) = self.phase {
            self.phase = Phase::Done;
        }
        self.settle();
    }

    /// A size was tried and fails, for that side, having come so far: a share of the requests.
    pub(crate) fn failed(&mut self, size: Size, side: Side, came: f64) {
        self.note(size, side);
        match (size, self.phase) {
            (_, Phase::Trade(at)) => {
                self.phase = if at + 1 < TRADES.len() { Phase::Trade(at + 1) } else { Phase::Done }
            }
            (Size::Together(replicas), _) => self.first.failed = self.first.failed.max(replicas),
            (Size::Apart(prefill, _), Phase::Prefill) => self.first.failed = prefill,
            (Size::Apart(_, decode), Phase::Decode) => self.second.failed = decode,
            (Size::Apart(prefill, decode), _) => {
                // A side that was made larger alone, and it helped, had been too small. If it did not help, the other may be.
                let grew = self.last.map(|(before, then)| (before, came > then * HELPED));
                let both = match (grew, side) {
                    (_, Side::Both) => true,
                    (Some((Size::Apart(p, d), helped)), Side::Prefill) if d == decode && p < prefill => {
                        self.first.failed = self.first.failed.max(if helped { p } else { 0 });
                        !helped
                    }
                    (Some((Size::Apart(p, d), helped)), Side::Decode) if p == prefill && d < decode => {
                        self.second.failed = self.second.failed.max(if helped { d } else { 0 });
                        !helped
                    }
                    _ => false,
                };
                if both || side == Side::Prefill {
                    self.first.reached = self.first.reached.max(prefill);
                }
                if both || side == Side::Decode {
                    self.second.reached = self.second.reached.max(decode);
                }
                self.last = Some((size, came));
            }
        }
        self.settle();
        self.refute();
    }

    /// Keeps a split that failed, in place of those that are smaller.
    fn note(&mut self, size: Size, side: Side) {
        if let Size::Apart(prefill, decode) = size {
            self.failures.retain(|&(p, d)| p > prefill || d > decode);
            self.failures.push((prefill, decode));
            self.hint = Some((prefill, side));
        }
    }

    /// What held on a part of the requests fails on all of them: it is too small.
    pub(crate) fn refuted(&mut self, size: Size, side: Side) {
        self.note(size, side);
        self.best = None;
        match size {
            Size::Together(replicas) => self.first = Count { failed: replicas, holds: None, ..self.first },
            Size::Apart(prefill, decode) => {
                let too_few = |count: Count, tried: u32, blamed: bool| {
                    let failed = if blamed { tried } else { count.failed };
                    Count { failed, reached: tried - 1, holds: None }
                };
                self.first = too_few(self.first, prefill, side != Side::Decode);
                self.second = too_few(self.second, decode, side != Side::Prefill);
                self.trades = false;
            }
        }
        self.last = None;
        self.phase = Phase::Up;
    }

    /// Goes on to the next phase where one has nothing left to try.
    fn settle(&mut self) {
        if self.phase == Phase::Prefill && self.first.down().is_none() {
            self.phase = if self.apart { Phase::Decode } else { Phase::Done };
        }
        if self.phase == Phase::Decode && self.second.down().is_none() {
            self.phase = if self.trades { Phase::Trade(0) } else { Phase::Done };
        }
        while let Phase::Trade(at) = self.phase {
            if self.traded(at).is_some() {
                break;
            }
            self.phase = if at + 1 < TRADES.len() { Phase::Trade(at + 1) } else { Phase::Done };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a rule; what it found, and how many sizes it tried.
    fn searched(mut search: Search, mut holds: impl FnMut(Size) -> (bool, Side)) -> (Option<Size>, usize) {
        let mut tried = 0;
        while let Some(size) = search.next() {
            tried += 1;
            assert!(tried < 200, "it does not end");
            let (held, side) = holds(size);
            if held { search.held(size) } else { search.failed(size, side, f64::from(size.replicas())) }
        }
        (search.best(), tried)
    }

    #[test]
    fn the_smallest_number_is_found_from_any_bound() {
        for needed in [1, 2, 7, 23, 100] {
            for least in [1, needed / 2 + 1, needed] {
                let search = Search::new(PlanMode::Together, (least, 1), 128);
                let (found, tried) = searched(search, |size| (size.replicas() >= needed, Side::Both));
                assert_eq!(found, Some(Size::Together(needed)), "from {least}");
                assert!(tried <= 24, "{tried} tries for {needed} from {least}");
            }
        }
        let search = Search::new(PlanMode::Together, (1, 1), 16);
        assert_eq!(searched(search, |size| (size.replicas() >= 17, Side::Both)).0, None);
    }

    #[test]
    fn both_sides_are_found() {
        for (prefill, decode) in [(1, 1), (8, 3), (2, 9), (20, 30)] {
            let rule = |size: Size| match size {
                Size::Apart(p, d) if p < prefill && d < decode => (false, Side::Both),
                Size::Apart(p, _) if p < prefill => (false, Side::Prefill),
                Size::Apart(_, d) if d < decode => (false, Side::Decode),
                _ => (true, Side::Both),
            };
            let (found, _) = searched(Search::new(PlanMode::Apart, (1, 1), 256), rule);
            assert_eq!(found, Some(Size::Apart(prefill, decode)));
        }
    }

    #[test]
    fn a_side_that_does_not_help_is_not_made_larger_for_ever() {
        // The first token waits for the decoding side, and only that: blamed is the other.
        let mut search = Search::new(PlanMode::Apart, (1, 1), 64);
        while let Some(size) = search.next() {
            let Size::Apart(_, decode) = size else { panic!("apart") };
            if decode >= 4 { search.held(size) } else { search.failed(size, Side::Prefill, f64::from(decode)) }
        }
        let found = search.best();
        assert_eq!(found, Some(Size::Apart(1, 4)));
    }

    #[test]
    fn what_fits_into_few_replicas_is_found_whoever_is_blamed() {
        // End-to-end promises blame both sides, and a small limit leaves few splits.
        for most in [6, 9, 64] {
            let search = Search::new(PlanMode::Apart, (1, 1), most);
            let found = searched(search, |size| {
                let Size::Apart(prefill, decode) = size else { panic!("apart") };
                (prefill >= 5 && decode >= 1, Side::Both)
            });
            assert_eq!(found.0, Some(Size::Apart(5, 1)), "up to {most}");
        }
        for seed in 0..2000u64 {
            let draw = |n: u64, below: u64| {
                (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(7 * n as u32).wrapping_mul(n | 1) >> 40) % below
            };
            let (prefill, decode) = (1 + draw(1, 12) as u32, 1 + draw(2, 12) as u32);
            let both = 2 + draw(3, 20) as u32;
            let most = 2 + draw(4, 24) as u32;
            let holds = |p: u32, d: u32| p >= prefill && d >= decode && p + d >= both;
            let exists = (1..most).any(|p| holds(p, most - p));
            let search = Search::new(PlanMode::Apart, (1, 1), most);
            let mut tried = 0;
            let (found, _) = searched(search, |size| {
                let Size::Apart(p, d) = size else { panic!("apart") };
                tried += 1;
                (holds(p, d), [Side::Prefill, Side::Decode, Side::Both][draw(5 + tried, 3) as usize])
            });
            assert_eq!(found.is_some(), exists, "{prefill}, {decode}, {both} of {most}");
            assert!(found.is_none_or(|size| matches!(size, Size::Apart(p, d) if holds(p, d))));
        }
    }

    #[test]
    fn a_limit_that_moves_is_kept() {
        let mut search = Search::new(PlanMode::Apart, (1, 1), 40);
        search.within(5);
        while let Some(size) = search.next() {
            assert!(size.replicas() <= 5);
            search.failed(size, Side::Both, 0.0);
        }
        assert_eq!((search.least(), search.best()), (6, None));
        search.within(40);
        assert!(search.next().is_some_and(|size| size.replicas() > 5));
    }

    #[test]
    fn a_refuted_size_is_grown_from() {
        let mut search = Search::new(PlanMode::Together, (1, 1), 64);
        while let Some(size) = search.next() {
            if size.replicas() >= 5 { search.held(size) } else { search.failed(size, Side::Both, 0.0) }
        }
        assert_eq!((search.best(), search.least()), (Some(Size::Together(5)), 5));
        search.refuted(Size::Together(5), Side::Both);
        assert_eq!((search.best(), search.least()), (None, 6));
        let (found, _) = searched(search, |size| (size.replicas() >= 8, Side::Both));
        assert_eq!(found, Some(Size::Together(8)));
    }
}
