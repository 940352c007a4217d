//! The slots and blocks of a standing set: sums that change when members come and go, or reach their budgets, and at no other step.
//!
//! A member without a budget gains a slot in every step, and a block whenever its residue comes round. One with a budget does so until
//! its slots are as many as its budget and the tokens that it may have beyond it. At that clock, its *cut*, some go. From then on it
//! gains no block, and its slots stand still (one goes in every step) or go up and down between budget and cut.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::kv::{Pace, Seat};
use crate::serving::request::{Phase, Request};

/// Sums over the members of a standing set.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pace: Pace,
    /// Whether members have their blocks ahead, each its own: what they gain in a step is not known beforehand.
    ahead: bool,
    /// Members whose slots grow from step to step.
    growing: u32,
    /// Sum over them of (slots - joined): what they keep at clock 0, so to say.
    base: i64,
    /// Slots that the others attend to in a step, the current one included.
    standing: u64,
    /// `residues[r]`: members that need a new block in steps planned at clock ≡ r (mod block size).
    residues: Vec<u32>,
    /// Sum of the residues.
    filling: u32,
    /// (clock of a cut, seq, seat); stale entries are recognised by [`Slots::is_current`].
    cuts: BinaryHeap<Reverse<(u64, u32, Seat)>>,
}

/// How a member counts at some clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    /// It gains blocks.
    fills: bool,
    /// What it adds to `base`; `None`: its slots stand still.
    base: Option<i64>,
}

impl Slots {
    pub(super) fn new(pace: Pace, ahead: bool) -> Self {
        Slots {
            pace,
            ahead,
            growing: 0,
            base: 0,
            standing: 0,
            residues: vec![0; pace.block_tokens as usize],
            filling: 0,
            cuts: BinaryHeap::new(),
        }
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// Clocks after which residues repeat.
    pub(super) fn cycle(&self) -> u64 {
        self.residues.len() as u64
    }

    /// Members whose slots grow from step to step.
    pub(super) fn growing(&self) -> u32 {
        self.growing
    }

    /// Slots attended in the step planned at a clock, the current ones included.
    pub(super) fn attended(&self, clock: u64) -> u64 {
        (self.base + i64::from(self.growing) * (clock as i64 + 1)) as u64 + self.standing
    }

    /// Blocks needed in the step planned at some clock.
    pub(super) fn growth_at(&self, clock: u64) -> u64 {
        u64::from(self.residues[(clock % self.cycle()) as usize])
    }

    /// Blocks needed in the steps planned from one clock to another.
    pub(super) fn growth_between(&self, from: u64, to: u64) -> u64 {
        let rest: u64 = (from..from + (to - from) % self.cycle()).map(|clock| self.growth_at(clock)).sum();
        (to - from) / self.cycle() * u64::from(self.filling) + rest
    }

    /// Visits the steps planned from one clock to another that need blocks: the clock and how many.
    pub(super) fn each_growth(&self, from: u64, to: u64, mut tell: impl FnMut(u64, u64)) {
        let mut at = (from % self.cycle()) as usize;
        for clock in from..to {
            let blocks = self.residues[at];
            if blocks > 0 {
                tell(clock, u64::from(blocks));
            }
            at += 1;
            if at == self.residues.len() {
                at = 0;
            }
        }
    }

    /// How many steps from a clock on fit into `free` blocks.
    pub(super) fn steps_within(&self, clock: u64, free: u64) -> u64 {
        if self.filling == 0 {
            return u64::MAX;
        }
        let mut steps = free / u64::from(self.filling) * self.cycle();
        let mut left = free % u64::from(self.filling);
        loop {
            let need = self.growth_at(clock + steps);
            if need > left {
                return steps;
            }
            left -= need;
            steps += 1;
        }
    }

    /// The clocks, modulo the block size, at which a member needs a block.
    pub(super) fn residue(&self, request: &Request) -> usize {
        (request.joined as i64 - i64::from(request.kv.kept())).rem_euclid(self.cycle() as i64) as usize
    }

    /// Whether a member needs a block in the step planned at a clock.
    pub(super) fn needs_block(&self, request: &Request, clock: u64) -> bool {
        self.residue(request) as u64 == clock % self.cycle() && self.part(request, clock).fills
    }

    /// The clock at which a member is cut first.
    fn first_cut(&self, request: &Request) -> u64 {
        request.joined + u64::from(request.kv.most(self.pace) - request.kv.kept())
    }

    fn part(&self, request: &Request, clock: u64) -> Part {
        let base = i64::from(request.kv.kept()) - request.joined as i64;
        if request.kv.budget() == 0 {
            return Part { fills: !self.ahead, base: Some(base) };
        }
        let Some(beyond) = clock.checked_sub(self.first_cut(request)) else {
            return Part { fills: request.kv.fills(self.pace), base: Some(base) };
        };
        let every = u64::from(self.pace.every);
        let cut = (beyond / every + 1) * every;
        Part { fills: false, base: (every > 1).then(|| base - cut as i64) }
    }

    fn add(&mut self, request: &Request, part: Part, count: i32) {
        if part.fills {
            let residue = self.residue(request);
            self.residues[residue] = self.residues[residue].wrapping_add_signed(count);
            self.filling = self.filling.wrapping_add_signed(count);
        }
        if let Some(base) = part.base {
            self.growing = self.growing.wrapping_add_signed(count);
            self.base += i64::from(count) * base;
        } else {
            let slots = i64::from(request.kv.most(self.pace));
            self.standing = self.standing.wrapping_add_signed(i64::from(count) * slots);
        }
    }

    /// A member has joined.
    #[inline]
    pub(super) fn enter(&mut self, seat: Seat, request: &Request) {
        self.add(request, self.part(request, request.joined), 1);
        if request.kv.budget() > 0 {
            self.cuts.push(Reverse((self.first_cut(request), request.seq, seat)));
        }
    }

    /// A member leaves before the step planned at a clock.
    #[inline]
    pub(super) fn leave(&mut self, request: &Request, clock: u64) {
        self.add(request, self.part(request, clock), -1);
    }

    fn is_current(&self, requests: &[Request], (at, seq, seat): (u64, u32, Seat)) -> bool {
        let request = &requests[seat as usize];
        if request.phase != Phase::Decode || request.seq != seq || request.kv.budget() == 0 {
            return false;
        }
        let every = u64::from(self.pace.every);
        at.checked_sub(self.first_cut(request)).is_some_and(|since| since == 0 || (every > 1 && since % every == 0))
    }

    /// The next cut of a member, stale entries dropped.
    fn next_cut(&mut self, requests: &[Request]) -> Option<(u64, u32, Seat)> {
        while let Some(&Reverse(cut)) = self.cuts.peek() {
            if self.is_current(requests, cut) {
                return Some(cut);
            }
            self.cuts.pop();
        }
        None
    }

    /// The clock at which a member is cut next.
    pub(super) fn next_cut_at(&mut self, requests: &[Request]) -> Option<u64> {
        if self.cuts.is_empty() {
            return None;
        }
        self.next_cut(requests).map(|cut| cut.0)
    }

    /// Tokens of members go that have all the slots they may have when the step of this clock is planned. Returns whether that step
    /// attends to fewer slots than the steps before it let expect.
    pub(super) fn cut(&mut self, requests: &[Request], clock: u64) -> bool {
        let mut fewer = false;
        while let Some(cut) = self.next_cut(requests).filter(|cut| cut.0 <= clock) {
            // A member that left and came back may stand there twice.
            while self.cuts.peek() == Some(&Reverse(cut)) {
                self.cuts.pop();
            }
            let (at, seq, seat) = cut;
            let request = &requests[seat as usize];
            self.add(request, self.part(request, at - 1), -1);
            self.add(request, self.part(request, at), 1);
            if self.pace.every > 1 {
                self.cuts.push(Reverse((at + u64::from(self.pace.every), seq, seat)));
                fewer = true;
            }
        }
        fewer
    }

    /// Adds up what members count at a clock, to compare.
    ///
    /// # Errors
    /// The sums are others.
    pub(super) fn audit<'a>(&self, members: impl Iterator<Item = &'a Request>, clock: u64) -> Result<(), String> {
        let mut sums = Slots::new(self.pace, self.ahead);
        members.for_each(|request| sums.add(request, sums.part(request, clock), 1));
        let mine = (self.growing, self.base, self.standing, self.filling);
        let theirs = (sums.growing, sums.base, sums.standing, sums.filling);
        if mine != theirs || self.residues != sums.residues {
            return Err(format!(
                "standing set disagrees with the running list: {mine:?} slots, {theirs:?} by its members"
            ));
        }
        Ok(())
    }
}
