//! How bursty a workload is, and how long its requests are: one pass, constant memory but for what sessions need.

use std::collections::BTreeMap;
use std::fmt;

use overbook_sim::results::histogram::Histogram;
use overbook_sim::time::{NS_PER_S, Span, Time};
use overbook_sim::workload::arrival::{Arrival, SessionId, Workload, WorkloadError};

const NS_PER_MS: u64 = NS_PER_S / 1000;

/// Statistics of a workload. Rates are in requests/s, CV and index of dispersion are 1 for a Poisson process.
#[derive(Clone, PartialEq, Debug)]
pub struct BurstStats {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Requests that failed in the trace; they have no lengths.
    pub failed: u64,
    /// Time between the first and the last.
    pub span: Span,
    /// Requests at the very time of the one before.
    pub ties: u64,
    /// Standard deviation over mean of the gaps between requests; 0 with fewer than two gaps or only ties.
    pub gap_cv: f64,
    /// Counts per second.
    pub second: Bins,
    /// Counts per minute.
    pub minute: Bins,
    /// Counts per hour.
    pub hour: Bins,
    /// Prompt lengths [tokens].
    pub prompt_tokens: Histogram,
    /// Output lengths [tokens].
    pub output_tokens: Histogram,
    /// Names and counts of the request classes.
    pub classes: Vec<(String, u64)>,
    /// How long the recorded service took for whole answers [ms], where the trace knows it.
    pub recorded_e2el_ms: Histogram,
    /// Sessions, where the workload knows them.
    pub sessions: SessionStats,
}

/// Statistics of sessions: requests of one user that follow one another.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SessionStats {
    /// Requests per session; it counts the sessions.
    pub turns: Histogram,
    /// Time between the arrivals of two turns [ms].
    pub gap_ms: Histogram,
    /// The same, less the recorded time that the answer before took [ms]; empty if the trace does not know it.
    pub think_ms: Histogram,
}

/// Requests counted in equal cells of time from the first request on; the last cell counts if the trace fills it, or if
/// it is the only one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bins {
    /// Length of a cell [ns].
    width_ns: u64,
    /// Closed cells, empty ones included; the largest count in one, and the sum and the sum of squares of all.
    cells: u64,
    peak: u64,
    sum: u128,
    squares: u128,
    /// The open cell, and its count.
    open: u64,
    count: u64,
}

impl Bins {
    fn new(seconds: u64) -> Bins {
        Bins { width_ns: seconds * NS_PER_S, cells: 0, peak: 0, sum: 0, squares: 0, open: 0, count: 0 }
    }

    /// Counts a request, so long after the first; times do not fall.
    fn record(&mut self, since_first_ns: u64) {
        let cell = since_first_ns / self.width_ns;
        if cell != self.open {
            self.close();
            self.cells = cell;
            self.open = cell;
        }
        self.count += 1;
    }

    fn close(&mut self) {
        self.peak = self.peak.max(self.count);
        self.sum += u128::from(self.count);
        self.squares += u128::from(self.count) * u128::from(self.count);
        self.cells += 1;
        self.count = 0;
    }

    /// Ends the count. The open cell is cut off by the end of the trace: it counts for the peak, not for the dispersion.
    fn finish(&mut self) {
        if self.cells == 0 {
            self.close();
        }
        self.peak = self.peak.max(self.count);
    }

    /// Most requests in one cell.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Requests in the busiest cell over its length [requests/s].
    fn peak_rate(&self) -> f64 {
        self.peak as f64 * NS_PER_S as f64 / self.width_ns as f64
    }

    /// Index of dispersion: variance over mean of the counts per cell; `None` with fewer than two whole cells.
    pub fn dispersion(&self) -> Option<f64> {
        if self.cells < 2 || self.sum == 0 {
            return None;
        }
        let n = self.cells as f64;
        let mean = self.sum as f64 / n;
        Some((self.squares as f64 / n - mean * mean) / mean)
    }
}

impl BurstStats {
    /// Mean rate [requests/s]: gaps over span; `None` with fewer than two requests or no time between them.
    pub fn mean_rate(&self) -> Option<f64> {
        let some = self.requests > 1 && self.span > Span::ZERO;
        some.then(|| (self.requests - 1) as f64 / self.span.as_secs_f64())
    }

    /// Rate in the busiest cell [requests/s]. Cells longer than the trace have none, nor have cells of which the end of the trace
    /// has cut off so much that the busiest one is below the mean.
    pub fn peak_rate(&self, bins: &Bins) -> Option<f64> {
        let (mean, peak) = (self.mean_rate()?, bins.peak_rate());
        (self.span.0 >= bins.width_ns && peak >= mean).then_some(peak)
    }

    /// The same over the mean rate.
    pub fn peak_over_mean(&self, bins: &Bins) -> Option<f64> {
        Some(self.peak_rate(bins)? / self.mean_rate()?)
    }

    /// The statistics as lines of text: what, and how much.
    pub fn describe(&self) -> Vec<(String, String)> {
        let shown = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        let mut lines = vec![
            ("requests".to_owned(), self.requests.to_string()),
            ("span".to_owned(), self.span.to_string()),
            ("mean rate".to_owned(), format!("{}/s", shown(self.mean_rate(), 3))),
            ("gap CV".to_owned(), format!("{:.3}", self.gap_cv)),
            ("ties".to_owned(), format!("{:.1} %", 100.0 * self.ties as f64 / self.requests.max(1) as f64)),
        ];
        for (name, bins) in self.scales() {
            let peak = bins.peak();
            let text = match (self.peak_rate(bins), self.peak_over_mean(bins)) {
                (Some(rate), Some(over)) => format!("{peak} requests, {rate:.3}/s, {over:.2} times the mean"),
                _ => format!("{peak} requests; too few whole cells for a rate"),
            };
            lines.push((format!("peak {name}"), text));
        }
        for (name, bins) in self.scales() {
            lines.push((format!("index of dispersion {name}"), shown(bins.dispersion(), 3)));
        }
        if self.failed > 0 {
            lines.push((
                "failed in the trace".to_owned(),
                format!("{} ({:.1} %)", self.failed, self.share(self.failed)),
            ));
        }
        for (name, tokens) in [("prompt tokens", &self.prompt_tokens), ("output tokens", &self.output_tokens)] {
            let quantile = |p| tokens.quantile(p).unwrap_or(0);
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(quantile);
            let (mean, max) = (shown(tokens.mean(), 1), tokens.max().unwrap_or(0));
            lines.push((name.to_owned(), format!("mean {mean}, p50 {p50}, p90 {p90}, p99 {p99}, max {max}")));
        }
        lines.extend(self.sessions.describe());
        if self.recorded_e2el_ms.count() > 0 {
            lines.push(("recorded latency".to_owned(), seconds(&self.recorded_e2el_ms)));
        }
        let classes = self.classes.iter().filter(|(_, count)| *count > 0);
        lines.extend(classes.map(|(name, n)| (format!("class {name}"), format!("{n} ({:.1} %)", self.share(*n)))));
        lines
    }

    /// The counts by the length of their cells.
    pub fn scales(&self) -> [(&'static str, &Bins); 3] {
        [("1 s", &self.second), ("1 min", &self.minute), ("1 h", &self.hour)]
    }

    /// Of all requests [%].
    fn share(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.requests.max(1) as f64
    }
}

impl SessionStats {
    fn describe(&self) -> Vec<(String, String)> {
        let (sessions, turns) = (self.turns.count(), &self.turns);
        if sessions == 0 {
            return Vec::new();
        }
        let [p50, p90] = [0.5, 0.9].map(|p| turns.quantile(p).unwrap_or(0));
        let (mean, max) = (turns.mean().unwrap_or(0.0), turns.max().unwrap_or(0));
        let turns = format!("{sessions} of mean {mean:.2} turns, p50 {p50}, p90 {p90}, max {max}");
        let mut lines = vec![("sessions".to_owned(), turns)];
        for (name, times) in [("time between turns", &self.gap_ms), ("think time", &self.think_ms)] {
            if times.count() > 0 {
                lines.push((name.to_owned(), seconds(times)));
            }
        }
        lines
    }
}

/// Times of a histogram in ms, in words.
fn seconds(ms: &Histogram) -> String {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|p| ms.quantile(p).unwrap_or(0) as f64 / 1e3);
    let (mean, max) = (ms.mean().unwrap_or(0.0) / 1e3, ms.max().unwrap_or(0) as f64 / 1e3);
    format!("mean {mean:.1} s, p50 {p50:.1} s, p90 {p90:.1} s, p99 {p99:.1} s, max {max:.1} s")
}

impl fmt::Display for BurstStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.describe();
        let width = lines.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        lines.iter().try_for_each(|(what, value)| writeln!(f, "{what:width$}  {value}"))
    }
}

/// Counts requests as they pass by.
#[derive(Debug)]
pub struct Burstiness {
    first: Option<Time>,
    last: Time,
    ties: u64,
    /// Sum of the squares of the gaps [s²].
    squares: f64,
    bins: [Bins; 3],
    requests: u64,
    failed: u64,
    prompt_tokens: Histogram,
    output_tokens: Histogram,
    classes: Vec<u64>,
    recorded_e2el_ms: Histogram,
    /// By session: its turns, and the last one.
    sessions: BTreeMap<SessionId, (u64, Turn)>,
    session_stats: SessionStats,
}

/// A turn of a session: its arrival, and how long its answer took.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Time,
    e2el: Option<Span>,
}

impl Default for Burstiness {
    fn default() -> Self {
        Burstiness {
            first: None,
            last: Time::ZERO,
            ties: 0,
            squares: 0.0,
            bins: [1, 60, 3_600].map(Bins::new),
            requests: 0,
            failed: 0,
            prompt_tokens: Histogram::new(),
            output_tokens: Histogram::new(),
            classes: Vec::new(),
            recorded_e2el_ms: Histogram::new(),
            sessions: BTreeMap::new(),
            session_stats: SessionStats::default(),
        }
    }
}

impl Burstiness {
    /// Counts a request; they come in order of arrival.
    pub fn record(&mut self, arrival: &Arrival) {
        let first = *self.first.get_or_insert(arrival.at);
        if self.requests > 0 {
            let gap = arrival.at.since(self.last).as_secs_f64();
            self.squares += gap * gap;
            self.ties += u64::from(arrival.at == self.last);
        }
        self.last = arrival.at;
        let since_first = arrival.at.since(first).0;
        self.bins.iter_mut().for_each(|bins| bins.record(since_first));
        self.requests += 1;
        if arrival.failed_in_trace {
            self.failed += 1;
        } else {
            self.prompt_tokens.record(u64::from(arrival.prompt_tokens));
            self.output_tokens.record(u64::from(arrival.output_tokens));
            if let Some(e2el) = arrival.recorded_e2el {
                self.recorded_e2el_ms.record(e2el.0 / NS_PER_MS);
            }
        }
        if let Some(session) = arrival.session {
            self.turn(session, Turn { at: arrival.at, e2el: arrival.recorded_e2el });
        }
        let class = usize::from(arrival.class.0);
        if class >= self.classes.len() {
            self.classes.resize(class + 1, 0);
        }
        self.classes[class] += 1;
    }

    fn turn(&mut self, session: SessionId, turn: Turn) {
        let (turns, last) = self.sessions.entry(session).or_insert((0, turn));
        *turns += 1;
        if *turns > 1 {
            let gap = turn.at.since(last.at).0;
            self.session_stats.gap_ms.record(gap / NS_PER_MS);
            if let Some(Span(e2el)) = last.e2el {
                self.session_stats.think_ms.record(gap.saturating_sub(e2el) / NS_PER_MS);
            }
        }
        *last = turn;
    }

    /// The statistics of all that was counted, with the names of the classes.
    pub fn finish(mut self, names: &[String]) -> BurstStats {
        self.bins.iter_mut().for_each(Bins::finish);
        let requests = self.requests;
        self.sessions.values().for_each(|(turns, _)| self.session_stats.turns.record(*turns));
        let span = self.first.map_or(Span::ZERO, |first| self.last.since(first));
        let [second, minute, hour] = self.bins;
        let name = |at: usize| names.get(at).cloned().unwrap_or_else(|| format!("class {at}"));
        BurstStats {
            requests,
            failed: self.failed,
            span,
            ties: self.ties,
            gap_cv: gap_cv(requests, span, self.squares),
            second,
            minute,
            hour,
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
            classes: self.classes.iter().enumerate().map(|(at, &count)| (name(at), count)).collect(),
            recorded_e2el_ms: self.recorded_e2el_ms,
            sessions: self.session_stats,
        }
    }
}

fn gap_cv(requests: u64, span: Span, squares: f64) -> f64 {
    if requests < 3 || span == Span::ZERO {
        return 0.0;
    }
    let gaps = (requests - 1) as f64;
    let mean = span.as_secs_f64() / gaps;
    (squares / gaps - mean * mean).max(0.0).sqrt() / mean
}

/// A workload whose requests are counted while they are simulated.
pub struct Tapped {
    workload: Box<dyn Workload>,
    counter: Burstiness,
}

impl Tapped {
    /// Counts what `workload` hands out from now on.
    pub fn new(workload: Box<dyn Workload>) -> Tapped {
        Tapped { workload, counter: Burstiness::default() }
    }

    /// The statistics of what was handed out.
    pub fn stats(self) -> BurstStats {
        self.counter.finish(self.workload.classes())
    }
}

impl Workload for Tapped {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        let arrival = self.workload.next_arrival()?;
        if let Some(arrival) = &arrival {
            self.counter.record(arrival);
        }
        Ok(arrival)
    }

    fn classes(&self) -> &[String] {
        self.workload.classes()
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        self.workload.rows()
    }
}

/// Reads a workload to its end.
///
/// # Errors
/// The workload is broken at some point.
pub fn burstiness(workload: &mut dyn Workload) -> Result<BurstStats, WorkloadError> {
    let mut counter = Burstiness::default();
    while let Some(arrival) = workload.next_arrival()? {
        counter.record(&arrival);
    }
    Ok(counter.finish(workload.classes()))
}
