//! The smallest size of a shape that keeps the promises: step by step, so that many shapes can be searched side by side.
//!
//! More replicas never break a promise that fewer keep; where prompts and decodes are apart, that holds for each side alone.

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
    most: u32,
}

impl Count {
    /// The next number to try above what has failed; `None` if there is no more.
    fn up(&self) -> Option<u32> {
        let from = self.failed.max(self.reached);
        (from < self.most).then(|| (from + 1 + from / GROWTH).min(self.most))
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
    /// Replicas at most.
    most: u32,
    /// Whether trades between the sides are tried: they may come back to what was refuted.
    trades: bool,
}

impl Search {
    /// Begins at sizes that are known to be the least possible; `most` replicas in all.
    pub(crate) fn new(mode: PlanMode, (least, least_decode): (u32, u32), most: u32) -> Search {
        let apart = mode == PlanMode::Apart;
        let count = |least: u32, most: u32| Count { failed: least.saturating_sub(1), reached: 0, holds: None, most };
        let (first, second) = if apart {
            (count(least, most.saturating_sub(1)), count(least_decode, most.saturating_sub(1)))
        } else {
            (count(least, most), Count { failed: 0, reached: 0, holds: Some(0), most: 0 })
        };
        Search {
            apart,
            first,
            second,
            phase: Phase::Up,
            best: None,
            last: None,
            least: (least, least_decode),
            most,
            trades: true,
        }
    }

    /// The size to try next; `None` if the smallest that holds is known, or that none does.
    pub(crate) fn next(&self) -> Option<Size> {
        match self.phase {
            Phase::Done => None,
            Phase::Up if !self.apart => self.first.up().map(Size::Together),
            Phase::Up => {
                let size = Size::Apart(self.first.up()?, self.second.up()?);
                (size.replicas() <= self.most).then_some(size).or_else(|| self.squeezed())
            }
            Phase::Prefill if !self.apart => self.first.down().map(Size::Together),
            Phase::Prefill => Some(Size::Apart(self.first.down()?, self.second.holds?)),
            Phase::Decode => Some(Size::Apart(self.first.holds?, self.second.down()?)),
            Phase::Trade(at) => self.traded(at),
        }
    }

    /// The smallest sizes that have not failed, where growing by steps would leave the limit.
    fn squeezed(&self) -> Option<Size> {
        let above = |count: &Count| count.failed.max(count.reached) + 1;
        let size = Size::Apart(above(&self.first), above(&self.second));
        (size.replicas() <= self.most).then_some(size)
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
            _ if self.apart => self.first.failed + self.second.failed + 2,
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
    }

    /// What held on a part of the requests fails on all of them: it is too small.
    pub(crate) fn refuted(&mut self, size: Size, side: Side) {
        self.best = None;
        match size {
            Size::Together(replicas) => self.first = Count { failed: replicas, holds: None, ..self.first },
            Size::Apart(prefill, decode) => {
                let too_few = |count: Count, tried: u32, blamed: bool| {
                    let failed = if blamed { tried } else { count.failed };
                    Count { failed, reached: tried - 1, holds: None, ..count }
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
    fn searched(mut search: Search, holds: impl Fn(Size) -> (bool, Side)) -> (Option<Size>, usize) {
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
