//! The figures of a simulated run, measured in the way of the real run.

use overbook_sim::fleet::RunResult;
use overbook_sim::results::rows::RequestRow;
use overbook_sim::results::summary::{QUANTILES, Summary};
use overbook_sim::results::timeline::Bin;
use overbook_sim::time::Time;

use super::{Curve, Pair, quantile};

/// The part of an endless run that counts as steady: without its beginning, and without what is cut off at the end.
const STEADY: (f64, f64) = (0.3, 0.95);

/// Name of the growth of TTFT from one arrival to the next [s]: what an overload does to later requests.
const SLOPE: &str = "ttft_slope";

/// Name of preemptions per second, where only that was measured [1/s].
const PREEMPTION_RATE: &str = "preemption_rate";

/// A part of the requests of a run, by their order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The first third.
    FirstThird,
    /// The other two.
    Rest,
}

impl Part {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Part::FirstThird => "first third",
            Part::Rest => "last two thirds",
        }
    }

    fn of<T>(self, list: &[T]) -> &[T] {
        let (first, rest) = list.split_at(list.len() / 3);
        if self == Part::FirstThird { first } else { rest }
    }
}

/// A simulated run with the rows of its finished requests.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What it gave.
    pub result: &'a RunResult,
    /// Its finished requests.
    pub rows: &'a [RequestRow],
    /// KV blocks of its fleet.
    pub blocks: u64,
    /// The part of it that was measured.
    pub window: Window,
}

/// The part of a run that was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// All of it.
    Whole,
    /// The steady part of an endless run.
    Steady,
    /// While the batch of so many sequences was full: throughput and levels. Latencies are of the whole run.
    FullBatch(usize),
}

impl Observed<'_> {
    /// Every figure that both have; `arrivals` are the measured (arrival, TTFT) [s] of an overloaded run, if known.
    pub fn pairs(&self, measured: &dyn Fn(&str) -> Option<f64>, arrivals: Option<&[(f64, f64)]>) -> Vec<Pair> {
        let mut names = Summary::metric_names();
        names.push(PREEMPTION_RATE.to_owned());
        let pair = |metric: String| {
            let measured = measured(&metric)?;
            let simulated = match self.window {
                Window::Whole => self.figure(&metric),
                Window::Steady => self.steady(&metric),
                Window::FullBatch(seqs) => self.full_batch(&metric, seqs),
            };
            Some(Pair { measured, simulated: simulated?, metric })
        };
        let mut pairs: Vec<Pair> = names.into_iter().filter_map(pair).collect();
        let mine: Vec<(f64, f64)> = self
            .rows
            .iter()
            .filter_map(|row| Some(((row.arrival - Time::ZERO).as_secs_f64(), row.ttft()?.as_secs_f64())))
            .collect();
        if let Some((measured, simulated)) = arrivals.and_then(slope).zip(slope(&mine)) {
            pairs.push(Pair { metric: SLOPE.to_owned(), measured, simulated });
        }
        pairs
    }

    /// A figure of the whole run: latencies as the client sees them, where it is simulated.
    fn figure(&self, metric: &str) -> Option<f64> {
        let summary = &self.result.summary;
        if metric == PREEMPTION_RATE {
            return Some(summary.metric("preemptions")? / summary.metric("makespan").filter(|&seconds| seconds > 0.0)?);
        }
        summary.metric(&format!("client_{metric}")).or_else(|| summary.metric(metric))
    }

    /// Latencies of a part of the requests; `measured` are time to first token, per token and to the last one [s] in order of
    /// arrival.
    pub fn part(&self, measured: &[(f64, Option<f64>, f64)], part: Part) -> Vec<Pair> {
        let mut rows: Vec<&RequestRow> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.request);
        let (measured, rows) = (part.of(measured), part.of(&rows));
        let pair = |(latency, statistic): (&str, &str)| {
            let metric = format!("{latency}_{statistic}");
            let taken = measured.iter().filter_map(|row| match latency {
                "ttft" => Some(row.0),
                "tpot" => row.1,
                _ => Some(row.2),
            });
            let measured = statistic_of(taken.collect(), statistic)?;
            Some(Pair { measured, simulated: latency_of(&metric, rows)?, metric })
        };
        let statistics = ["mean", "p50", "p99"];
        let all = ["ttft", "tpot", "e2el"].into_iter().flat_map(|l| statistics.map(|s| (l, s)));
        all.filter_map(pair).collect()
    }

    /// `running`, `waiting` or `kv_usage` over time.
    pub fn level(&self, level: &str) -> Curve {
        let at = |time: Time| (time - Time::ZERO).as_secs_f64();
        let middle = |from: Time, to: Time| f64::midpoint(at(from), at(to));
        let of = |bin: &Bin| match level {
            "running" => bin.running,
            "waiting" => bin.waiting,
            _ => bin.used_blocks / self.blocks as f64,
        };
        self.result.timeline.bins(self.result.end).map(|bin| (middle(bin.from, bin.to), of(&bin))).collect()
    }

    /// A figure of a run whose batch was full for a while. It begins when as many requests as fill the batch have their first tokens and
    /// ends when all but those that fill it, and one more, have ended, as ML.ENERGY's benchmark has it. Tokens of a request count evenly
    /// between its first and its last.
    fn full_batch(&self, metric: &str, seqs: usize) -> Option<f64> {
        let at = |time: Time| (time - Time::ZERO).as_secs_f64();
        let made =
            |row: &RequestRow| Some(Made { first: at(row.first_token?), end: at(row.end), tokens: row.output_tokens });
        let all = || self.rows.iter().filter_map(made).collect::<Vec<_>>();
        match metric {
            "output_throughput" => full_window(&all(), seqs).map(|window| tokens_a_second(&all(), window)),
            "running_mean" => {
                full_window(&all(), seqs).and_then(|(from, to)| self.level_within(from, to, |bin| bin.running))
            }
            _ if metric.starts_with("itl_") => self.figure(metric),
            _ => None,
        }
    }

    /// The mean of a level between two moments [s].
    fn level_within(&self, from: f64, to: f64, of: fn(&Bin) -> f64) -> Option<f64> {
        let inside = |time: Time| (from..to).contains(&(time - Time::ZERO).as_secs_f64());
        let bins = || self.result.timeline.bins(self.result.end).filter(|bin| inside(bin.from) && inside(bin.to));
        let seconds: f64 = bins().map(|bin| bin.seconds()).sum();
        (seconds > 0.0).then(|| bins().map(|bin| of(&bin) * bin.seconds()).sum::<f64>() / seconds)
    }

    /// A figure of the steady part. Counts have no meaning there.
    fn steady(&self, metric: &str) -> Option<f64> {
        let end = (self.result.end - Time::ZERO).as_secs_f64();
        let (from, to) = (end * STEADY.0, end * STEADY.1);
        let at = |time: Time| (time - Time::ZERO).as_secs_f64();
        let inside = |time: Time| (from..to).contains(&at(time));
        let rows: Vec<&RequestRow> = self.rows.iter().filter(|row| inside(row.end)).collect();
        let total = |of: fn(&RequestRow) -> u64| rows.iter().map(|row| of(row)).sum::<u64>() as f64;
        let tokens = |row: &RequestRow| u64::from(row.output_tokens);
        let level = |of: fn(&Bin) -> f64| self.level_within(from, to, of);
        match metric {
            "request_throughput" => Some(rows.len() as f64 / (to - from)),
            "output_throughput" => Some(total(tokens) / (to - from)),
            "total_token_throughput" => {
                Some(total(|row| u64::from(row.prompt_tokens + row.output_tokens)) / (to - from))
            }
            PREEMPTION_RATE => Some(total(|row| u64::from(row.preemptions)) / (to - from)),
            "running_mean" => level(|bin| bin.running),
            "waiting_mean" => level(|bin| bin.waiting),
            "kv_usage_mean" => level(|bin| bin.used_blocks).map(|used| used / self.blocks as f64),
            "itl_mean" => {
                let decode: f64 = rows.iter().filter_map(|row| Some(at(row.end) - at(row.first_token?))).sum();
                let gaps = total(|row| u64::from(row.output_tokens.saturating_sub(1)));
                (gaps > 0.0).then(|| decode / gaps)
            }
            _ => latency_of(metric, &rows),
        }
    }
}

/// A latency's mean or percentile over such requests [s].
fn latency_of(metric: &str, rows: &[&RequestRow]) -> Option<f64> {
    let (latency, statistic) = metric.rsplit_once('_')?;
    let of = |row: &RequestRow| match latency {
        "ttft" => row.ttft(),
        "tpot" => row.tpot(),
        "e2el" => Some(row.e2el()),
        _ => None,
    };
    let values: Vec<f64> = rows.iter().filter_map(|row| Some(of(row)?.as_secs_f64())).collect();
    statistic_of(values, statistic)
}

fn statistic_of(values: Vec<f64>, statistic: &str) -> Option<f64> {
    if statistic == "mean" {
        return (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    }
    QUANTILES.iter().find(|(name, _)| *name == statistic).and_then(|&(_, p)| quantile(values, p))
}

/// Growth of the second value from one point to the next, in order of the first: least squares.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = points.len() as f64;
    let (x_mean, y_mean) = ((n - 1.0) / 2.0, points.iter().map(|point| point.1).sum::<f64>() / n);
    let numbered = || points.iter().enumerate().map(|(index, point)| (index as f64 - x_mean, point.1 - y_mean));
    let spread: f64 = numbered().map(|(x, _)| x * x).sum();
    (spread > 0.0).then(|| numbered().map(|(x, y)| x * y).sum::<f64>() / spread)
}

/// When a request had its first and its last token [s], and how many.
#[derive(Clone, Copy, Debug)]
struct Made {
    first: f64,
    end: f64,
    tokens: u32,
}

/// From when to when a batch of `seqs` is full [s]; `None` if there are not enough requests for that.
fn full_window(requests: &[Made], seqs: usize) -> Option<(f64, f64)> {
    let nth = |of: fn(&Made) -> f64, n: usize| {
        let mut times: Vec<f64> = requests.iter().map(of).collect();
        times.sort_by(f64::total_cmp);
        times.get(n).copied()
    };
    let from = nth(|request| request.first, seqs.checked_sub(1)?)?;
    let to = nth(|request| request.end, requests.len().checked_sub(seqs + 2)?)?;
    (to > from).then_some((from, to))
}

/// Tokens between two moments, a second: a request's first where it came, the others evenly up to the last.
fn tokens_a_second(requests: &[Made], (from, to): (f64, f64)) -> f64 {
    let inside = |request: &Made| {
        let first = if (from..to).contains(&request.first) { 1.0 } else { 0.0 };
        let (gaps, seconds) = (f64::from(request.tokens.saturating_sub(1)), request.end - request.first);
        let shared = (request.end.min(to) - request.first.max(from)).max(0.0);
        first + if seconds > 0.0 { gaps * shared / seconds } else { 0.0 }
    };
    requests.iter().map(inside).sum::<f64>() / (to - from)
}

#[cfg(test)]
mod tests {
    use super::{Made, Part, full_window, slope, tokens_a_second};

    #[test]
    fn parts_are_the_whole() {
        let list: Vec<u32> = (0..7).collect();
        assert_eq!(Part::FirstThird.of(&list), [0, 1]);
        assert_eq!(Part::Rest.of(&list), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_slope_is_that_of_the_order_of_arrival() {
        let line = [(9.0, 7.0), (0.0, 1.0), (0.5, 3.0), (8.0, 5.0)];
        assert!((slope(&line).expect("a slope") - 2.0).abs() < 1e-12);
        assert_eq!(slope(&line[..1]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn a_full_batch_is_measured_without_its_ramps() {
        // Two at a time, 11 tokens in 10 s each, and the next ones at once; the last begins alone.
        let request = |first: f64| Made { first, end: first + 10.0, tokens: 11 };
        let requests: Vec<Made> = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0, 30.0].map(request).into();
        let window = full_window(&requests, 2);
        // From the second first token to the fourth end: three have not ended then.
        assert_eq!(window, Some((1.0, 21.0)));
        // Four requests share 20 s with it, one of them from its first token on; three first tokens are within it.
        let gaps = (9.0 + 10.0 + 10.0 + 10.0 + 1.0) * 1.0;
        let first = 4.0;
        assert!((tokens_a_second(&requests, (1.0, 21.0)) - (gaps + first) / 20.0).abs() < 1e-12);
        assert_eq!(full_window(&requests, 0), None);
        assert_eq!(full_window(&requests, 6), None, "it is never full and not about to end");
        assert_eq!(full_window(&requests[..1], 2), None);
    }
}
