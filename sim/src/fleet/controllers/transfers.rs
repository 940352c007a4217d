//! Prompts on some replicas, decodes on others: which replica fetches whose KV, when, and how long that takes.

use std::collections::VecDeque;

use crate::cost::{COST_PER_NS, Cost};
use crate::fleet::RunError;
use crate::fleet::controller::{Action, Controller, Event, Place, Placement, Timer, Topics};
use crate::fleet::kernel::{Kernel, RANK_PATIENCE};
use crate::kv::Seat;
use crate::routers::Weighed;
use crate::time::Span;
use crate::workload::arrival::Arrival;

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

/// KV on its way.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    request: u64,
    from: usize,
    place: Place,
    /// The sender has failed meanwhile.
    lost: bool,
}

/// A request whose prompt is computed, where it is.
type Prefilled = (usize, Seat, u32);

/// What is on its way between replicas, and what waits for it.
#[derive(Debug)]
pub(super) struct Control {
    apart: Disaggregation,
    /// Prefilled requests that each decoding replica will fetch, in order.
    bridges: Vec<VecDeque<Prefilled>>,
    /// Prefilled requests for which no decoding replica is up.
    stranded: VecDeque<Prefilled>,
    under_way: Vec<Option<Transfer>>,
}

impl Control {
    pub(super) fn new(apart: Disaggregation, replicas: u32) -> Control {
        let replicas = replicas as usize;
        Control { apart, bridges: vec![VecDeque::new(); replicas], stranded: VecDeque::new(), under_way: Vec::new() }
    }

    /// The replicas that decode.
    fn decoders(&self) -> std::ops::Range<usize> {
        self.apart.prefill as usize..self.bridges.len()
    }

    /// Where a request that was routed to `at` goes: to a decoding replica if too much waits at all that compute prompts
    /// (Splitwise's mixed pool).
    fn overflow(&self, at: usize, kernel: &Kernel<'_>) -> usize {
        let Some(limit) = self.apart.overflow else { return at };
        let pending = |at: &usize| kernel.replicas[*at].pending_tokens();
        if kernel.open().iter().any(|&at| pending(&(at as usize)) <= limit) {
            return at;
        }
        self.decoders().filter(|&to| kernel.takes_requests(to)).min_by_key(pending).unwrap_or(at)
    }

    /// The decoding replica with the fewest requests, by weight, as things stand; none if all are down.
    fn least_loaded(&self, kernel: &Kernel<'_>) -> Option<usize> {
        let load = |to: &usize| {
            let requests = u64::from(kernel.replicas[*to].outstanding()) + self.bridges[*to].len() as u64;
            Weighed { load: requests + 1, weight: kernel.pools.weight(*to) }
        };
        self.decoders().filter(|&to| kernel.takes_requests(to)).min_by_key(load)
    }

    /// A request whose prompt is computed goes to a decoding replica, which fetches it as soon as it has room.
    fn assign(&mut self, prefilled: Prefilled, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        let Some(to) = self.least_loaded(kernel) else {
            self.stranded.push_back(prefilled);
            // The end of a hold is a tick: the run must go on to it.
            kernel.counts.held = self.stranded.len() as u64;
            return Ok(());
        };
        self.bridges[to].push_back(prefilled);
        self.fetch(to, kernel)
    }

    /// After a step: prompts that are done are assigned; a decoding replica fetches the requests that fit now.
    fn boundary(&mut self, at: usize, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        if self.decoders().contains(&at) {
            return self.fetch(at, kernel);
        }
        while let Some((seat, generation)) = kernel.replicas[at].pop_prefilled() {
            self.assign((at, seat, generation), kernel)?;
        }
        Ok(())
    }

    /// Starts transfers to a decoding replica, in order, as far as it has places and blocks.
    fn fetch(&mut self, to: usize, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        while let Some(&(from, seat, generation)) = self.bridges[to].front() {
            if kernel.replicas[from].is_ready(seat, generation) {
                let (tokens, start) = kernel.replicas[from].held(seat);
                kernel.settle(to)?;
                let replica = &kernel.replicas[to];
                if replica.outstanding() >= self.apart.max_seqs || !replica.can_receive(tokens) {
                    break;
                }
                self.send((from, seat), to, self.apart.time(tokens, kernel.now.since(start)), kernel)?;
            }
            self.bridges[to].pop_front();
        }
        Ok(())
    }

    fn send(
        &mut self,
        (from, seat): (usize, Seat),
        to: usize,
        length: Span,
        kernel: &mut Kernel<'_>,
    ) -> Result<(), RunError> {
        let (request, place) = kernel.move_request(from, seat, to)?;
        let [sender, receiver] =
            kernel.replicas.get_disjoint_mut([from, to]).expect("a transfer is between two replicas");
        let end = sender.network().carry_with(receiver.network(), kernel.now, length);
        let number = self.under_way.iter().position(Option::is_none).unwrap_or_else(|| {
            self.under_way.push(None);
            self.under_way.len() - 1
        });
        self.under_way[number] = Some(Transfer { request, from, place, lost: false });
        kernel.timer(end, RANK_PATIENCE, Timer::Landed(number as u32));
        Ok(())
    }

    /// Requests have left from somewhere: others may move up everywhere.
    fn fetch_all(&mut self, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        self.decoders().try_for_each(|to| self.fetch(to, kernel))
    }

    /// A decoding replica takes no requests: those that it has not fetched yet go to others.
    fn closed(&mut self, at: usize, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        let left = std::mem::take(&mut self.bridges[at]);
        left.into_iter().try_for_each(|prefilled| self.assign(prefilled, kernel))
    }

    /// A replica takes requests again: if it decodes, those for which there was none go there.
    fn opened(&mut self, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        let stranded = std::mem::take(&mut self.stranded);
        kernel.counts.held = 0;
        stranded.into_iter().try_for_each(|prefilled| self.assign(prefilled, kernel))
    }

    /// The sender of everything that is on its way from there has failed.
    fn lose(&mut self, from: usize) {
        self.under_way.iter_mut().flatten().filter(|transfer| transfer.from == from).for_each(|t| t.lost = true);
    }

    /// The KV of a request has arrived: it decodes from the next step on, and its blocks at the sender are free.
    fn landed(&mut self, number: u32) -> Option<Action> {
        let Transfer { request, from, place, lost } = self.under_way[number as usize].take()?;
        Some(Action::Land { request, from, place, lost })
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::PLACING.and(Topics::BOUNDARY).and(Topics::LEFT).and(Topics::DOORS).and(Topics::TIMERS)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Boundary { replica } => self.boundary(replica, kernel)?,
            Event::Left => self.fetch_all(kernel)?,
            Event::Failed { replica } => {
                self.lose(replica);
                self.fetch_all(kernel)?;
            }
            Event::Landed { replica } => self.fetch(replica, kernel)?,
            Event::Closed { replica } => self.closed(replica, kernel)?,
            Event::Opened => self.opened(kernel)?,
            Event::Timer(Timer::Landed(number)) => return Ok(self.landed(number).into_iter().collect()),
            _ => {}
        }
        Ok(Vec::new())
    }

    fn place(&mut self, _: &mut Arrival, placement: &mut Placement, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        if let Some(at) = placement.replica {
            let at = self.overflow(at, kernel);
            placement.replica = Some(at);
            placement.decodes_at = if self.decoders().contains(&at) { None } else { self.least_loaded(kernel) };
        }
        Ok(())
    }
}
