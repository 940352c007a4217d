//! What a router sees of the fleet: live, or as the replicas last reported.

use std::collections::{BTreeSet, VecDeque};

use super::RequestInfo;
use crate::serving::replica::Replica;
use crate::time::{Span, Time};

/// What a router may see of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaView {
    /// Waiting requests, preempted ones included.
    pub waiting: u32,
    /// Waiting and running requests.
    pub outstanding: u32,
    /// Prompt tokens not computed yet, of waiting and running requests.
    pub pending_tokens: u64,
    /// KV blocks that requests hold.
    pub used_blocks: u64,
    /// All KV blocks.
    pub blocks: u64,
    /// Tokens per block.
    pub block_tokens: u32,
}

impl ReplicaView {
    #[inline]
    fn of(replica: &Replica) -> ReplicaView {
        let pool = replica.pool();
        ReplicaView {
            waiting: replica.waiting(),
            outstanding: replica.outstanding(),
            pending_tokens: replica.pending_tokens(),
            used_blocks: pool.used(),
            blocks: pool.total(),
            block_tokens: pool.block_tokens(),
        }
    }
}

/// How old a router's view is: a property of the environment, not of the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterView {
    /// Time between two reports of a replica, above 0; all report at the same moments.
    pub interval: Span,
    /// Time that a report takes to the router.
    pub delay: Span,
}

/// The replicas among which a router chooses, as it sees them.
#[derive(Clone, Copy, Debug)]
pub struct FleetView<'a> {
    replicas: &'a [Replica],
    reports: Option<&'a Reports>,
    open: &'a [u32],
    weights: &'a [u32],
}

impl<'a> FleetView<'a> {
    /// A view of the replicas with the numbers in `open`: as they are, or as they have reported. `weights` are those of all
    /// replicas; empty where all are alike.
    pub(crate) fn new(
        replicas: &'a [Replica],
        reports: Option<&'a Reports>,
        open: &'a [u32],
        weights: &'a [u32],
    ) -> Self {
        FleetView { replicas, reports, open, weights }
    }

    /// Whether replicas have different weights.
    pub fn is_weighted(&self) -> bool {
        !self.weights.is_empty()
    }

    /// What load on a replica counts: at twice the weight half as much.
    pub fn weight(&self, at: usize) -> u64 {
        u64::from(self.weights.get(self.number(at)).copied().unwrap_or(1))
    }

    /// The number of a replica in the whole fleet.
    pub fn number(&self, at: usize) -> usize {
        self.open[at] as usize
    }

    /// Number of replicas in view.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is no replica in view.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// One replica.
    pub fn replica(&self, at: usize) -> ReplicaView {
        let number = self.open[at] as usize;
        match self.reports {
            Some(reports) => reports.seen(number),
            None => ReplicaView::of(&self.replicas[number]),
        }
    }

    /// Leading blocks of a prompt that a replica has cached.
    pub fn hits(&self, at: usize, prefix: &[u64]) -> u32 {
        let number = self.open[at] as usize;
        match self.reports {
            Some(reports) => reports.hits(number, prefix),
            None => self.replicas[number].pool().lookup(prefix).blocks,
        }
    }
}

/// What a decision of the router adds to a replica, until a report covers it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Routed {
    at: Time,
    tokens: u64,
    blocks: u64,
}

/// A report on its way.
#[derive(Debug)]
struct Report {
    taken: Time,
    view: ReplicaView,
    changes: Vec<(u64, bool)>,
}

/// What the router knows of one replica.
#[derive(Debug)]
struct Known {
    view: ReplicaView,
    cached: BTreeSet<u64>,
    sent: VecDeque<Report>,
    own: VecDeque<Routed>,
    /// Sums over `own`.
    routed: Routed,
}

/// The reports of all replicas, those on their way and those that have come. Like Dynamo's, the router adds to a report what it
/// has decided itself since it was taken: the request waits, its prompt has yet to be computed and will take its blocks.
#[derive(Debug)]
pub(crate) struct Reports {
    delay: Span,
    known: Vec<Known>,
}

impl Reports {
    /// Follows these replicas, all of them idle.
    pub(crate) fn new(delay: Span, replicas: &mut [Replica], follow: bool) -> Self {
        let known = replicas.iter_mut().map(|replica| {
            if follow {
                replica.pool_mut().follow();
            }
            Known {
                view: ReplicaView::of(replica),
                cached: BTreeSet::new(),
                sent: VecDeque::new(),
                own: VecDeque::new(),
                routed: Routed::default(),
            }
        });
        Reports { delay, known: known.collect() }
    }

    /// A replica reports.
    pub(crate) fn take(&mut self, number: usize, now: Time, replica: &mut Replica) {
        let (changes, view) = (replica.pool_mut().take_changes(), ReplicaView::of(replica));
        let Known { sent, own, .. } = &mut self.known[number];
        // One that says what the one before says, with no decision in between, would change nothing.
        let old = sent.back().is_some_and(|last| last.view == view && own.back().is_none_or(|own| own.at < last.taken));
        if !old || !changes.is_empty() {
            sent.push_back(Report { taken: now, view, changes });
        }
    }

    /// The reports that have come by now are known.
    pub(crate) fn deliver(&mut self, now: Time) {
        for known in &mut self.known {
            while known.sent.front().is_some_and(|report| report.taken + self.delay <= now) {
                let Some(report) = known.sent.pop_front() else { break };
                known.view = report.view;
                for (content, there) in report.changes {
                    if there {
                        known.cached.insert(content);
                    } else {
                        known.cached.remove(&content);
                    }
                }
                // A report is taken before what happens at the same moment.
                while known.own.front().is_some_and(|own| own.at < report.taken) {
                    let own = known.own.pop_front().unwrap_or_default();
                    known.routed.tokens -= own.tokens;
                    known.routed.blocks -= own.blocks;
                }
            }
        }
    }

    /// The router has chosen this replica.
    pub(crate) fn chosen(&mut self, number: usize, now: Time, request: RequestInfo<'_>) {
        let block = u64::from(self.known[number].view.block_tokens);
        let hits = u64::from(self.hits(number, request.prefix));
        let tokens = u64::from(request.prompt_tokens) - hits * block;
        let own = Routed { at: now, tokens, blocks: tokens.div_ceil(block) };
        let known = &mut self.known[number];
        known.own.push_back(own);
        known.routed.tokens += own.tokens;
        known.routed.blocks += own.blocks;
    }

    fn seen(&self, number: usize) -> ReplicaView {
        let Known { view, own, routed, .. } = &self.known[number];
        let mine = own.len() as u32;
        ReplicaView {
            waiting: view.waiting + mine,
            outstanding: view.outstanding + mine,
            pending_tokens: view.pending_tokens + routed.tokens,
            used_blocks: view.used_blocks + routed.blocks,
            ..*view
        }
    }

    fn hits(&self, number: usize, prefix: &[u64]) -> u32 {
        let cached = &self.known[number].cached;
        prefix.iter().take_while(|content| cached.contains(*content)).count() as u32
    }
}
