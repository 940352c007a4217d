//! The figures of a replay, by the definitions that simulated runs have, on the client's clock.

use overbook_sim::digest::Digest;
use overbook_sim::fleet::{Effort, RunResult};
use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::results::summary::{Fleet, Slo, Tally};
use overbook_sim::results::timeline::Timeline;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;

use super::reply::Reply;
use super::scrape::Scrape;

/// What is kept of the replies, in the order in which they end.
pub(super) struct Books {
    tally: Tally,
    timeline: Timeline,
    pub(super) rows: Vec<RequestRow>,
    /// How late requests were sent [ns].
    pub(super) late: Vec<u64>,
    /// What went wrong, in the server's words, and how often.
    pub(super) errors: Vec<(String, u64)>,
    /// Finished requests that got another number of tokens than they asked for.
    pub(super) other_length: u64,
}

/// The row of a reply. It starts when it was sent: what lies before is lateness.
fn row(reply: &Reply) -> RequestRow {
    let Reply { number, arrival, sent, end, outcome, pieces, usage, .. } = reply;
    let longest = pieces.windows(2).map(|pair| pair[1] - pair[0]).max();
    let Arrival { at, class, session, prompt_tokens, .. } = arrival;
    RequestRow {
        request: *number,
        replica: 0,
        class: *class,
        session: *session,
        outcome: *outcome,
        arrival: *at,
        start: Some(*sent),
        first_token: pieces.first().copied(),
        end: *end,
        prompt_tokens: usage.map_or(*prompt_tokens, |usage| usage.prompt_tokens),
        output_tokens: usage.map_or(pieces.len() as u32, |usage| usage.completion_tokens),
        cached_tokens: usage.map_or(0, |usage| usage.cached()),
        preemptions: 0,
        recomputed_tokens: 0,
        longest_gap: longest.filter(|_| *outcome == Outcome::Finished),
        swapped_tokens: 0,
        frontend: Span::ZERO,
        attempts: 1,
    }
}

impl Books {
    pub(super) fn new(slo: Slo) -> Self {
        Books {
            tally: Tally::new(slo),
            timeline: Timeline::default(),
            rows: Vec::new(),
            late: Vec::new(),
            errors: Vec::new(),
            other_length: 0,
        }
    }

    /// A request has ended.
    pub(super) fn reply(&mut self, reply: Reply) {
        let row = row(&reply);
        self.tally.request(&row);
        if row.outcome == Outcome::Finished {
            // A client's clock is all that there is; simulated runs have it beside the engine's.
            self.tally.client(&row, Span::ZERO);
        }
        self.timeline.arrival(row.arrival);
        self.timeline.finish(row.end);
        if let Some(first) = row.first_token {
            self.timeline.first_token(first, first - row.arrival);
        }
        for &at in &reply.pieces {
            self.timeline.tokens(at, 1);
        }
        for pair in reply.pieces.windows(2) {
            self.tally.gaps((pair[1] - pair[0]).0, 1);
        }
        self.late.push(reply.sent.since(reply.arrival.at).0);
        if row.outcome == Outcome::Finished && row.output_tokens != reply.arrival.output_tokens {
            self.other_length += 1;
        }
        if let Some(error) = reply.error {
            match self.errors.iter_mut().find(|(text, _)| *text == error) {
                Some((_, count)) => *count += 1,
                None => self.errors.push((error, 1)),
            }
        }
        self.rows.push(row);
    }

    /// Closes the books. Levels are the server's own where it has stated them; else requests under way count as running.
    pub(super) fn finish(&mut self, scrapes: &[Scrape], classes: &[String], interrupted: bool) -> RunResult {
        self.rows.sort_by_key(|row| (row.end, row.request));
        let blocks = scrapes.iter().map(|scrape| scrape.blocks as u64).max().unwrap_or(0);
        if scrapes.len() > 1 {
            self.told_levels(scrapes, blocks);
        } else {
            self.seen_levels();
        }
        let tally = std::mem::replace(&mut self.tally, Tally::new(Slo::default()));
        let (_, end) = tally.span();
        // No lanes: a client sees no steps, and so not what share of the time they took.
        let fleet = Fleet { replicas: 1, lanes: 0, blocks, served: None, gpu_time: None };
        RunResult {
            summary: tally.finish(fleet, classes),
            timeline: std::mem::take(&mut self.timeline),
            readings: Vec::new(),
            end,
            digest: Digest::default(),
            effort: Effort::default(),
            interrupted,
            halted: None,
        }
    }

    fn hold(&mut self, (from, to): (Time, Time), (running, waiting): (u32, u32), (used, blocks): (u64, u64)) {
        self.tally.hold(from, to, running, waiting, used, blocks);
        self.timeline.hold(from, to, running, waiting, used);
    }

    fn told_levels(&mut self, scrapes: &[Scrape], blocks: u64) {
        let (first, last) = self.tally.span();
        for pair in scrapes.windows(2) {
            let [before, after] = pair else { continue };
            let preempted = (after.preemptions - before.preemptions).max(0.0) as u64;
            self.tally.preemptions(preempted);
            self.timeline.preempt(after.at, preempted);
            let (from, to) = (before.at.max(first), after.at.min(last));
            if from < to {
                let used = (before.kv_usage * blocks as f64).round() as u64;
                let levels = (before.running as u32, before.waiting as u32);
                self.hold((from, to), levels, (used, blocks.max(1)));
            }
        }
    }

    fn seen_levels(&mut self) {
        let times = self.rows.iter().filter_map(|row| Some((row.start?, row.end)));
        let mut changes: Vec<(Time, i64)> = times.flat_map(|(start, end)| [(start, 1), (end, -1)]).collect();
        changes.sort_unstable();
        let mut level = 0;
        for pair in changes.windows(2) {
            level += pair[0].1;
            self.hold((pair[0].0, pair[1].0), (level.max(0) as u32, 0), (0, 1));
        }
    }

    /// The median gap between two tokens.
    pub(super) fn median_gap(result: &RunResult) -> Span {
        Span(result.summary.itl.quantile(0.5).unwrap_or(0))
    }
}
