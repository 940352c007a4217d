//! A generator fitted to the metrics of servers.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use overbook_traces::{BucketFit, Metrics, MetricsOptions};

use super::{Fitted, name_of};
use crate::cli::{FitArgs, Gaps, Lengths};
use crate::output::Failure;
use crate::trace::columns::left;

pub(super) fn fit(args: &FitArgs) -> Result<Fitted, Failure> {
    if args.gaps == Some(Gaps::Weibull) || args.lengths != Lengths::Quantiles {
        let message = "metrics have counters and buckets only: --gaps and --lengths are for requests";
        return Err(Failure::Input(message.into()));
    }
    let mut metrics = Metrics::default();
    for path in &args.prometheus {
        let unread = |error: io::Error| Failure::Input(format!("cannot read {}: {error}", path.display()));
        let content = if path == Path::new("-") {
            let mut content = String::new();
            io::stdin().read_to_string(&mut content).map_err(unread)?;
            content
        } else {
            fs::read_to_string(path).map_err(unread)?
        };
        metrics.add(path, &content).map_err(Failure::input)?;
    }
    let options =
        MetricsOptions { window: args.window.0, every: args.every.map(|every| every.0), model: args.model.clone() };
    let fit = metrics.fit(&options).map_err(Failure::input)?;
    let peak = fit.rates.iter().copied().fold(0.0, f64::max);
    let mean = fit.requests / fit.span.as_secs_f64();
    let shown = |gauge: Option<f64>| gauge.map_or_else(|| "not scraped".to_owned(), |value| format!("{value:.1}"));
    let aborted = fit.aborted_share.map_or_else(|| "not counted".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let of = |what: &str| what.to_owned();
    let rows = [
        vec![of("requests finished"), format!("{:.0} in {}, {mean:.4}/s", fit.requests, fit.span)],
        vec![of("windows"), format!("{} of {}, highest {peak:.4}/s", fit.rates.len(), fit.window)],
        vec![of("counter resets"), fit.resets.to_string()],
        vec![of("aborted"), aborted],
        vec![of("running, mean"), shown(fit.running)],
        vec![of("waiting, mean"), shown(fit.waiting)],
        vec![of("prompt tokens"), lengths(&fit.prompt)],
        vec![of("output tokens"), lengths(&fit.output)],
    ];
    let remarks = [
        "From metrics: requests count when they finish; within a window they are taken to be Poisson.",
        "Lengths are read off histogram buckets; prompt and output are independent.",
    ];
    let remarks = remarks.map(str::to_owned).to_vec();
    let report = format!("{}\n\n{}", left(&rows), remarks.join("\n"));
    let names: Vec<String> = args.prometheus.iter().map(|path| path.display().to_string()).collect();
    let name = args.prometheus.first().map_or_else(String::new, |path| name_of(path));
    Ok(Fitted { report, generate: fit.spec(), source: names.join(", "), name, remarks })
}

fn lengths(fit: &BucketFit) -> String {
    let beyond =
        if fit.beyond > 0.0 { format!("; {:.2} % beyond the last bucket", 100.0 * fit.beyond) } else { String::new() };
    format!(
        "mean {:.1}, fitted {:.1} (half of a bucket's requests are in the first {:.0} % of its width{beyond})",
        fit.mean,
        fit.fitted_mean,
        100.0 * fit.knee
    )
}
