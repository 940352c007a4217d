//! Prompts on some replicas, decodes on others: who fetches whose KV, when, and how long that takes.

use std::collections::{BTreeMap, VecDeque};

use super::{Cluster, Event, RANK_PATIENCE, Why};
use crate::cost::{COST_PER_NS, Cost};
use crate::fleet::drive::Books;
use crate::fleet::outcome::RunError;
use crate::kv::Seat;
use crate::results::rows::Recorder;
use crate::routers::Weighed;
use crate::time::{Span, Time};

/// Replicas that compute prompts only, and the way of the KV to those that decode, which take sequences of the same length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disaggregation {
    /// How many of the replicas compute prompts: the first ones. The others decode.
    pub prefill: u32,
    /// Time of an empty transfer.
    pub latency: Span,
    /// Time for the KV of one token.
    pub per_token: Cost,
    /// Layers that are sent one by one while the prompt is computed; 1: all at its end.
    pub layers: u32,
    /// Requests on a decoding replica at once at most.
    pub max_seqs: u32,
    /// Prompt tokens that wait at every replica for prompts above which a decoding replica serves the next request whole.
    pub overflow: Option<u64>,
}

/// KV on its way.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    request: u64,
    from: usize,
    to: usize,
    seat: Seat,
    /// The sender has failed meanwhile.
    lost: bool,
}

/// What is on its way between replicas, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// Prefilled requests (replica, seat, generation) that each decoding replica will fetch, in order.
    bridges: Vec<VecDeque<(usize, Seat, u32)>>,
    /// When the link of each replica is free again. A replica sends or receives one request at a time.
    link_free: Vec<Time>,
    under_way: Vec<Option<Transfer>>,
    /// Moments at which clients of unfinished requests leave.
    patience: BTreeMap<u64, [Option<Time>; 2]>,
}

impl Transfers {
    pub(super) fn new(replicas: usize) -> Transfers {
        Transfers {
            bridges: vec![VecDeque::new(); replicas],
            link_free: vec![Time::ZERO; replicas],
            ..Transfers::default()
        }
    }

    /// Remembers until when a client waits, for the replica to which its request moves.
    pub(super) fn remember(&mut self, request: u64, deadline: Option<Time>, cancel: Option<Time>) {
        if deadline.is_some() || cancel.is_some() {
            self.patience.insert(request, [deadline, cancel]);
        }
    }

    pub(super) fn forget(&mut self, request: u64) {
        self.patience.remove(&request);
    }

    /// The sender of everything that is on its way from there has failed.
    pub(super) fn lose(&mut self, from: usize) {
        self.under_way.iter_mut().flatten().filter(|transfer| transfer.from == from).for_each(|t| t.lost = true);
    }
}

impl Disaggregation {
    /// Time from the end of a prompt (or the moment at which the link is free) until its KV has arrived. Layers that were sent
    /// while the prompt was computed, for `computing`, take no time any more; the last layer always does.
    fn time(&self, tokens: u32, computing: Span) -> Span {
        let whole = u128::from(self.per_token.0) * u128::from(tokens) / u128::from(COST_PER_NS);
        let whole = whole as u64;
        let layers = u64::from(self.layers.max(1));
        let hidden = if layers == 1 { 0 } else { computing.0 };
        Span(self.latency.0 + whole.saturating_sub(hidden).max(whole / layers))
    }
}

impl Cluster {
    /// Replicas among which the router chooses.
    pub(super) fn entrances(&self) -> usize {
        self.spec.disaggregation.map_or(self.replicas.len(), |apart| apart.prefill as usize)
    }

    /// Where a request that was routed to `at` goes: to a decoding replica if too much waits at all that compute prompts
    /// (Splitwise's mixed pool).
    pub(super) fn overflow(&self, at: usize) -> usize {
        let Some((apart, limit)) = self.spec.disaggregation.and_then(|apart| Some((apart, apart.overflow?))) else {
            return at;
        };
        let prefill = apart.prefill as usize;
        let pending = |at: &usize| self.replicas[*at].pending_tokens();
        if (0..prefill).any(|at| pending(&at) <= limit) {
            return at;
        }
        (prefill..self.replicas.len()).min_by_key(pending).unwrap_or(at)
    }

    /// The replica on which a request whose prompt is computed at `at` will decode, as things stand: that with the fewest
    /// requests, by weight.
    pub(super) fn decodes_at(&self, at: usize) -> usize {
        let prefill = self.spec.disaggregation.map_or(0, |apart| apart.prefill as usize);
        if at >= prefill {
            return at;
        }
        let load = |to: &usize| {
            let requests = u64::from(self.replicas[*to].outstanding()) + self.transfers.bridges[*to].len() as u64;
            Weighed { load: requests + 1, weight: self.weight_of(*to) }
        };
        (prefill..self.replicas.len()).min_by_key(load).expect("some replicas decode")
    }

    /// After a step: prompts that are done go to the decoding replica with the fewest requests, by weight; who decodes fetches what it has
    /// room for now.
    pub(super) fn hand_over<R: Recorder>(&mut self, at: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let Some(apart) = self.spec.disaggregation else { return Ok(()) };
        let prefill = apart.prefill as usize;
        if at >= prefill {
            return self.fetch(at, books);
        }
        while let Some((seat, generation)) = self.replicas[at].pop_prefilled() {
            let to = self.decodes_at(at);
            self.transfers.bridges[to].push_back((at, seat, generation));
            self.fetch(to, books)?;
        }
        Ok(())
    }

    /// Starts transfers to a decoding replica, in order, as far as it has places and blocks.
    pub(super) fn fetch<R: Recorder>(&mut self, to: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let Some(apart) = self.spec.disaggregation else { return Ok(()) };
        while let Some(&(from, seat, generation)) = self.transfers.bridges[to].front() {
            if self.replicas[from].is_ready(seat, generation) {
                let (tokens, start) = self.replicas[from].held(seat);
                self.settle(to, books)?;
                if self.replicas[to].outstanding() >= apart.max_seqs || !self.replicas[to].can_receive(tokens) {
                    break;
                }
                self.send(apart, (from, seat), to, (tokens, start), books)?;
            }
            self.transfers.bridges[to].pop_front();
        }
        Ok(())
    }

    fn send<R: Recorder>(
        &mut self,
        apart: Disaggregation,
        (from, seat): (usize, Seat),
        to: usize,
        (tokens, start): (u32, Time),
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let now = self.now;
        self.settle(from, books)?;
        let request = self.replicas[from].depart(seat);
        let id = request.id;
        let seat = self.replicas[to].receive(request);
        for lane in self.lanes_of(to) {
            self.drives[lane].trim(&mut self.replicas[to]);
            self.reschedule(lane);
        }
        let links = &mut self.transfers.link_free;
        let begin = now.max(links[from]).max(links[to]);
        let end = begin + apart.time(tokens, now.since(start));
        (links[from], links[to]) = (end, end);
        let transfer = Some(Transfer { request: id, from, to, seat, lost: false });
        let entries = &mut self.transfers.under_way;
        let number = entries.iter().position(Option::is_none).unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[number] = transfer;
        self.calendar.schedule(end, RANK_PATIENCE, Event::Landed(number as u32));
        let generation = self.replicas[to].generation(seat);
        let patience = self.transfers.patience.get(&id).copied().unwrap_or_default();
        for (until, why) in patience.into_iter().zip([Why::Deadline, Why::Cancel]) {
            if let Some(until) = until {
                let event = Event::Patience { replica: to as u32, seat, generation, why };
                self.calendar.schedule(until.max(now), RANK_PATIENCE, event);
            }
        }
        Ok(())
    }

    /// Somebody has left: others may move up everywhere.
    pub(super) fn fetch_all<R: Recorder>(&mut self, books: &mut Books<'_, R>) -> Result<(), RunError> {
        (self.entrances()..self.replicas.len()).try_for_each(|to| self.fetch(to, books))
    }

    /// The KV of a request has arrived: it decodes from the next step on, and its blocks at the sender are free.
    pub(super) fn landed<R: Recorder>(&mut self, number: u32, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let transfer = self.transfers.under_way[number as usize].take().expect("a transfer ends once");
        let Transfer { request, from, to, seat, lost } = transfer;
        if lost {
            self.replicas[to].cancel(seat, crate::results::rows::Outcome::Failed, self.now);
        }
        self.disturb(to, books, |replica, now| replica.land(seat, now))?;
        self.disturb(from, books, |replica, _| replica.sent(request))?;
        self.fetch(to, books)
    }
}
