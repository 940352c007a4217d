//! Requests per second in windows, from counters.

use overbook_sim::time::Span;

use super::{MetricsError, Series};

/// What the counters of requests say.
pub(super) struct Requests {
    pub(super) count: f64,
    pub(super) resets: u64,
    pub(super) span: Span,
    pub(super) window: Span,
    pub(super) rates: Vec<f64>,
}

/// Gains are spread evenly over the time between their scrapes. A last window covered by less than half is left out.
pub(super) fn of(series: &[Series<'_>], window: Span) -> Result<Requests, MetricsError> {
    let mut times: Vec<f64> = series.iter().flat_map(|series| series.values.iter().map(|value| value.0)).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let (Some(&start), Some(&end)) = (times.first(), times.last()) else {
        return Err(MetricsError::OneScrape { scrapes: 0 });
    };
    if times.len() < 2 {
        return Err(MetricsError::OneScrape { scrapes: times.len() });
    }
    let span_s = end - start;
    let width_s = window.as_secs_f64().min(span_s);
    let between_s = span_s / (times.len() - 1) as f64;
    // A window that is a scrape long, in times that are not quite even, is one.
    if width_s < 0.99 * between_s {
        return Err(MetricsError::ShortWindow { window, between: Span::from_secs_f64(between_s) });
    }
    let mut gained = vec![0.0; (span_s / width_s + 1e-9).ceil() as usize];
    for (from, to, gain, _) in series.iter().flat_map(Series::steps) {
        let (from, to) = (from - start, to - start);
        for (at, gained) in gained.iter_mut().enumerate().skip((from / width_s) as usize) {
            let (low, high) = (at as f64 * width_s, (at + 1) as f64 * width_s);
            if low >= to {
                break;
            }
            if to > from {
                *gained += gain * (to.min(high) - from.max(low)).max(0.0) / (to - from);
            }
        }
    }
    let (count, resets) =
        series.iter().map(Series::increase).fold((0.0, 0), |(sum, n), (gain, resets)| (sum + gain, n + resets));
    if count <= 0.0 {
        return Err(MetricsError::Idle);
    }
    let covered = |at: usize| (span_s - at as f64 * width_s).min(width_s);
    let rates = gained.iter().enumerate().filter(|(at, _)| covered(*at) >= 0.5 * width_s);
    let rates = rates.map(|(at, gained)| gained / covered(at)).collect();
    let (span, window) = (Span::from_secs_f64(span_s), Span::from_secs_f64(width_s));
    Ok(Requests { count, resets, span, window, rates })
}

/// The mean of a gauge over its scrapes, summed over all servers; `None` if there is none.
pub(super) fn mean_sum(series: &[Series<'_>]) -> Option<f64> {
    let mean = |series: &Series<'_>| {
        series.values.iter().map(|value| value.1).sum::<f64>() / series.values.len().max(1) as f64
    };
    (!series.is_empty()).then(|| series.iter().map(mean).sum())
}
