//! The arrivals of a trace: a rate per window, and one shape of the gaps within all windows.

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::{Duration, Rate};
use polars::prelude::*;

use super::gaps::{GapFit, Sample, gamma_shape};
use super::{FitError, GAPS_MIN};
use crate::arrivals::{ArrivalSpec, GapFamily};
use crate::frame::{AT, TraceFrame};
use crate::significant::significant;

/// Windows at most: each is a line of the scenario.
const WINDOWS_MAX: u64 = 20_000;

/// Shapes this close to 1 are Poisson.
const POISSON: f64 = 0.01;

/// Arrivals by window, and the gaps within.
#[derive(Clone, PartialEq, Debug)]
pub struct ArrivalFit {
    /// Length of a window; that of the trace if it is shorter than the window asked for.
    pub window: Span,
    /// Mean requests per second in each window.
    pub rates: Vec<f64>,
    /// Requests in a last window that the trace covers by less than half; they are left out of the rates.
    pub left_out: u64,
    /// The gaps of all windows with at least [`GAPS_MIN`](super::GAPS_MIN) of them, in units of the mean gap of their
    /// window; `None` if there are not enough.
    pub gaps: Option<Gaps>,
}

/// What the gaps within windows look like. Gaps of zero are counted, and left out of the fits.
#[derive(Clone, PartialEq, Debug)]
pub struct Gaps {
    /// Windows with enough gaps.
    pub windows: u64,
    /// Gaps above zero in them.
    pub gaps: u64,
    /// Share of gaps that are zero: requests with the same time.
    pub zero_share: f64,
    /// Coefficient of variation within a window, all gaps: 10 %, 50 % and 90 % of the windows have no more.
    pub cv: [f64; 3],
    /// Shape of a Gamma distribution within a window: the same quantiles.
    pub gamma_shape: [f64; 3],
    /// All gaps together: an exponential distribution ...
    pub exponential: GapFit,
    /// ... a Gamma distribution ...
    pub gamma: GapFit,
    /// ... and a Weibull distribution.
    pub weibull: GapFit,
}

impl Gaps {
    /// The family under which the gaps are more likely.
    pub fn better(&self) -> GapFamily {
        let weibull = self.weibull.log_likelihood > self.gamma.log_likelihood;
        if weibull { GapFamily::Weibull } else { GapFamily::Gamma }
    }
}

/// Start of the window of a request.
const WINDOW: &str = "window";
const GAP: &str = "gap";

impl ArrivalFit {
    pub(crate) fn of(frame: &TraceFrame, window: Span) -> Result<ArrivalFit, FitError> {
        let arrivals = frame.arrivals()?;
        let span = arrivals.last().map_or(0, |last| *last as u64);
        if arrivals.len() < 2 || span == 0 {
            return Err(FitError::TooFew { requests: arrivals.len() as u64, span: Span(span) });
        }
        let width = window.0.min(span);
        let whole = span / width;
        if whole >= WINDOWS_MAX {
            return Err(FitError::TooManyWindows { windows: whole + 1, limit: WINDOWS_MAX, window });
        }
        // The last request is the end of the trace; it belongs to the window that it ends.
        let rest = span - whole * width;
        let windows = whole + u64::from(2 * rest >= width && rest > 0);
        let start = col(AT) - col(AT) % lit(width as i64);
        let table = frame.lazy().with_columns([start.alias(WINDOW)]);
        let counted = table.clone().group_by([col(WINDOW)]).agg([len().alias("requests")]).collect()?;
        let mut counts = vec![0u64; whole as usize + 1];
        let (places, requests) =
            (counted.column(WINDOW)?.i64()?.clone(), counted.column("requests")?.cast(&DataType::Int64)?);
        for (place, requests) in places.iter().zip(requests.i64()?.iter()) {
            if let (Some(place), Some(requests)) = (place, requests) {
                counts[(place / width as i64) as usize] += requests as u64;
            }
        }
        if rest == 0 {
            let last = counts.pop().unwrap_or(0);
            counts.last_mut().into_iter().for_each(|count| *count += last);
        }
        let left_out = counts.iter().skip(windows as usize).sum();
        let covered = |at: usize| if at as u64 == whole { rest } else { width } as f64 / NS_PER_S as f64;
        // n requests of which the first is at time zero have n - 1 gaps.
        counts[0] -= 1;
        let rates = counts.iter().take(windows as usize).enumerate().map(|(at, count)| *count as f64 / covered(at));
        let (rates, gaps) = (rates.collect(), gaps(table, arrivals, width as i64)?);
        Ok(ArrivalFit { window: Span(width), rates, left_out, gaps })
    }

    /// The whole time that the rates stand for.
    pub fn duration(&self) -> Span {
        Span(self.window.0 * self.rates.len() as u64)
    }

    /// Arrivals with these rates. `family` is by default the better one.
    pub fn spec(&self, family: Option<GapFamily>) -> ArrivalSpec {
        let chosen = self.gaps.as_ref().map(|gaps| {
            let family = family.unwrap_or_else(|| gaps.better());
            let fit = if family == GapFamily::Weibull { gaps.weibull } else { gaps.gamma };
            (family, significant(fit.shape, 4))
        });
        // Too few gaps to say anything else.
        let (gaps, shape) = chosen.unwrap_or((GapFamily::Gamma, 1.0));
        let rates: Vec<Rate> = self.rates.iter().map(|rate| Rate(significant(*rate, 6))).collect();
        match (rates.as_slice(), gaps) {
            ([rate], _) if (shape - 1.0).abs() < POISSON => ArrivalSpec::Poisson { rate: *rate },
            ([rate], GapFamily::Gamma) => ArrivalSpec::Gamma { rate: *rate, shape },
            ([rate], GapFamily::Weibull) => ArrivalSpec::Weibull { rate: *rate, shape },
            _ => ArrivalSpec::Profile { rates, window: Duration(self.window), shape, gaps },
        }
    }
}

/// Gaps between requests of the same window.
fn gaps(table: LazyFrame, arrivals: &[i64], width: i64) -> Result<Option<Gaps>, FitError> {
    let before = |column| col(column) - col(column).shift(lit(1));
    let gap = before(AT).cast(DataType::Float64).alias(GAP);
    let table = table.select([gap, before(WINDOW).eq(lit(0i64)).alias("inside"), col(WINDOW)]).filter(col("inside"));
    let above = || col(GAP).filter(col(GAP).gt(lit(0.0)));
    let figures = [
        len().cast(DataType::Float64).alias("gaps"),
        col(GAP).mean().alias("mean"),
        col(GAP).std(0).alias("sd"),
        above().count().cast(DataType::Float64).alias("above"),
        above().mean().alias("mean above"),
        above().log(lit(std::f64::consts::E)).mean().alias("mean ln"),
    ];
    let enough = col("above").gt_eq(lit(GAPS_MIN as f64));
    let table = table.group_by([col(WINDOW)]).agg(figures).filter(enough);
    let table = table.sort([WINDOW], SortMultipleOptions::default()).collect()?;
    let column = |name: &str| Ok::<Vec<f64>, PolarsError>(table.column(name)?.f64()?.iter().flatten().collect());
    let [all, mean, sd] = [column("gaps")?, column("mean")?, column("sd")?];
    let [above, mean_above, mean_ln] = [column("above")?, column("mean above")?, column("mean ln")?];
    let windows: Vec<i64> = table.column(WINDOW)?.i64()?.iter().flatten().map(|start| start / width).collect();
    let Some(sample) = Sample::new(in_units_of_the_mean(arrivals, width, &windows, &mean_above)) else {
        return Ok(None);
    };
    let cvs = sd.iter().zip(&mean).map(|(sd, mean)| sd / mean).collect();
    let shapes = mean_above.iter().zip(&mean_ln).map(|(mean, mean_ln)| gamma_shape(*mean, *mean_ln)).collect();
    Ok(Some(Gaps {
        windows: windows.len() as u64,
        gaps: sample.len() as u64,
        zero_share: 1.0 - above.iter().sum::<f64>() / all.iter().sum::<f64>(),
        cv: middle(cvs),
        gamma_shape: middle(shapes),
        exponential: sample.exponential(),
        gamma: sample.gamma(),
        weibull: sample.weibull(),
    }))
}

/// The gaps above zero of the windows listed, over the mean of their window.
fn in_units_of_the_mean(arrivals: &[i64], width: i64, windows: &[i64], means: &[f64]) -> Vec<f64> {
    let mut values = Vec::with_capacity(arrivals.len());
    let mut listed = windows.iter().zip(means).peekable();
    for pair in arrivals.windows(2) {
        let (window, gap) = (pair[1] / width, pair[1] - pair[0]);
        while listed.next_if(|(at, _)| **at < window).is_some() {}
        match listed.peek() {
            Some((at, mean)) if **at == window && pair[0] / width == window && gap > 0 => {
                values.push(gap as f64 / **mean);
            }
            _ => {}
        }
    }
    values
}

/// The values below which 10 %, 50 % and 90 % lie.
fn middle(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [0.1, 0.5, 0.9].map(|p| values[((values.len() as f64 * p).ceil() as usize).clamp(1, values.len()) - 1])
}
