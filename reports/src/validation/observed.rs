//! The figures of a simulated run, as whoever measured the real one would have taken them.

use overbook_sim::cluster::RunResult;
use overbook_sim::rows::RequestRow;
use overbook_sim::summary::{QUANTILES, Summary};
use overbook_sim::time::Time;

use super::{Curve, Pair, quantile};

/// The part of an endless run that counts as steady: without its beginning, and without what is cut off at the end.
const STEADY: (f64, f64) = (0.3, 0.95);

/// Name of the growth of TTFT from one arrival to the next [s]: what an overload does to those who come later.
const SLOPE: &str = "ttft_slope";

/// A simulated run with the rows of its finished requests.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What it gave.
    pub result: &'a RunResult,
    /// Its finished requests.
    pub rows: &'a [RequestRow],
    /// KV blocks of its fleet.
    pub blocks: u64,
    /// Take its steady part alone, where only that was measured.
    pub steady: bool,
}

impl Observed<'_> {
    /// Every figure that both have; `arrivals` are the measured (arrival, TTFT) [s] of an overloaded run, if known.
    pub fn pairs(&self, measured: &dyn Fn(&str) -> Option<f64>, arrivals: Option<&[(f64, f64)]>) -> Vec<Pair> {
        let names = Summary::metric_names();
        let pair = |metric: String| {
            let measured = measured(&metric)?;
            let simulated = if self.steady { self.steady(&metric) } else { self.result.summary.metric(&metric) };
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

    /// Running requests over time.
    pub fn running(&self) -> Curve {
        let at = |time: Time| (time - Time::ZERO).as_secs_f64();
        let middle = |from: Time, to: Time| f64::midpoint(at(from), at(to));
        self.result.timeline.bins(self.result.end).map(|bin| (middle(bin.from, bin.to), bin.running)).collect()
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
        let bins = || self.result.timeline.bins(self.result.end).filter(|bin| inside(bin.from) && inside(bin.to));
        let level = |of: fn(&overbook_sim::timeline::Bin) -> f64| {
            let seconds: f64 = bins().map(|bin| bin.seconds()).sum();
            (seconds > 0.0).then(|| bins().map(|bin| of(&bin) * bin.seconds()).sum::<f64>() / seconds)
        };
        match metric {
            "request_throughput" => Some(rows.len() as f64 / (to - from)),
            "output_throughput" => Some(total(tokens) / (to - from)),
            "total_token_throughput" => {
                Some(total(|row| u64::from(row.prompt_tokens + row.output_tokens)) / (to - from))
            }
            "running_mean" => level(|bin| bin.running),
            "waiting_mean" => level(|bin| bin.waiting),
            "kv_usage_mean" => level(|bin| bin.used_blocks).map(|used| used / self.blocks as f64),
            "itl_mean" => {
                let decode: f64 = rows.iter().filter_map(|row| Some(at(row.end) - at(row.first_token?))).sum();
                let gaps = total(|row| u64::from(row.output_tokens.saturating_sub(1)));
                (gaps > 0.0).then(|| decode / gaps)
            }
            _ => steady_latency(metric, &rows),
        }
    }
}

/// A latency's mean or percentile over such requests [s].
fn steady_latency(metric: &str, rows: &[&RequestRow]) -> Option<f64> {
    let (latency, statistic) = metric.rsplit_once('_')?;
    let of = |row: &RequestRow| match latency {
        "ttft" => row.ttft(),
        "tpot" => row.tpot(),
        "e2el" => Some(row.e2el()),
        _ => None,
    };
    let values: Vec<f64> = rows.iter().filter_map(|row| Some(of(row)?.as_secs_f64())).collect();
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

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn the_slope_is_that_of_the_order_of_arrival() {
        let line = [(9.0, 7.0), (0.0, 1.0), (0.5, 3.0), (8.0, 5.0)];
        assert!((slope(&line).expect("a slope") - 2.0).abs() < 1e-12);
        assert_eq!(slope(&line[..1]), None);
        assert_eq!(slope(&[]), None);
    }
}
