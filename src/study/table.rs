//! The table of a study: its points, and the figures that were asked for.

use overbook_reports::report::Side;
use overbook_reports::study as reports;
use overbook_scenarios::{Basis, Judgement, Point};

use super::Study;
use super::record::{Record, Records, Target};
use crate::TOOL;

/// What a study was made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    /// Metrics of its table and figures, besides those that `expect:` names.
    pub metrics: &'a [&'a str],
    /// The command that makes it again.
    pub command: String,
    /// Whether the first axis is the load: then the table says up to which load the targets are kept.
    pub by_load: bool,
}

impl Asked<'_> {
    /// Metrics in the table of a scenario's own sweep.
    pub const SWEEP: [&'static str; 12] = [
        "goodput_fraction",
        "ttft_p50",
        "ttft_p99",
        "tpot_p50",
        "tpot_p99",
        "e2el_p99",
        "request_throughput",
        "output_throughput",
        "kv_usage_mean",
        "running_mean",
        "waiting_mean",
        "preemptions",
    ];

    /// Metrics in the table and the figures of a comparison of policies.
    pub const COMPARISON: [&'static str; 18] = [
        "goodput_fraction",
        "request_goodput",
        "ttft_p50",
        "ttft_p90",
        "ttft_p99",
        "tpot_p50",
        "tpot_p90",
        "tpot_p99",
        "e2el_p50",
        "e2el_p99",
        "request_throughput",
        "output_throughput",
        "kv_usage_mean",
        "running_mean",
        "waiting_mean",
        "preemptions",
        "recompute_tax",
        "prefix_hit_rate",
    ];
}

/// Metrics that a study's table has where any point has them: with `prefix_cache` and its bound, with `slo.quality`, with speculation, with sessions, where GPUs are known, and with
/// power.
const DEFINED: [&str; 28] = [
    "gpus_mean",
    "tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "loaded_tokens",
    "cache_gap",
    "quality",
    "quality_unknown",
    "answers_per_gpu_second",
    "mean_acceptance_length",
    "sessions_finished",
    "session_duration_p50",
    "session_duration_p99",
    "first_turn_ttft_p99",
    "later_turn_ttft_p99",
    "power_load_peak",
    "power_rise_period",
    "power_rise_command",
    "power_brakes",
    "power_capped_low",
    "power_capped_high",
    "low_e2el_p50",
    "low_e2el_p99",
    "high_e2el_p50",
    "high_e2el_p99",
    "low_throughput",
    "high_throughput",
    "energy_server_per_token",
    "cost_per_mtoken_output",
];

/// Metrics that a study's table has where any point has some.
const RARE: [&str; 6] = ["shrunk", "recompute_tax", "expired", "cancelled", "rejected", "failed"];

/// What a comparison by load does to a trace: ways to twice the load that lead to different fleets.
fn loads(study: &Study, asked: &Asked<'_>) -> Option<(String, String)> {
    let (path, _) = study.points()[0].coordinates.first().filter(|_| asked.by_load)?;
    (path == "workload.trace.scale").then(|| ("Loads".to_owned(), LOADS.to_owned()))
}

/// The same for the terminal.
pub const LOADS: &str = "2x plays the trace twice as fast (compress: bursts get denser, and pass sooner); 4/s plays each request several times \
                         within its second (multiply: more users at the same time of day)";

impl Records {
    /// The points side by side.
    pub fn table(&self, study: &Study, asked: &Asked<'_>) -> reports::Study {
        let metrics = self.metrics(study, asked);
        let kept = |record: &Record| (asked.by_load && !record.targets.is_empty()).then(|| record.keeps_targets());
        let points = study.points().iter().zip(self.whole()).map(|(point, record)| reports::StudyPoint {
            coordinates: point.coordinates.iter().map(|(_, value)| value.clone()).collect(),
            values: metrics.iter().map(|metric| record?.metric(metric)).collect(),
            trust: record.and_then(Record::trust),
            remarks: record.map_or_else(Vec::new, |one| one.remarks.clone()),
            kept: record.and_then(kept),
            targets: record.map_or_else(Vec::new, |record| targets(point, record)),
        });
        let first = &study.points()[0];
        let title = first.scenario.description.clone().unwrap_or_else(|| study.plan().name().to_owned());
        let (ended, of) = (self.whole().flatten().count(), self.points.len());
        reports::Study {
            title: if ended < of { format!("Incomplete, {ended} of {of} points: {title}") } else { title },
            axes: first.coordinates.iter().map(|(path, _)| path.clone()).collect(),
            points: points.collect(),
            metrics,
            verdicts: judged_all(&self.expected),
            missed: if asked.by_load { self.missed_everywhere(study) } else { self.missed(study) },
            replicated: study.plan().replicates() > 1,
            depends_on_seed: self.depends_on_seed(study),
            left_out: self.told(|record| &record.left_out),
            sorted: self.told(|record| &record.sorted),
            calibration: calibration(study),
            assumptions: self.assumptions().into_iter().chain(loads(study, asked)).collect(),
            plan_hash: study.plan().plan_hash(),
            command: asked.command.clone(),
            tool: TOOL.to_owned(),
        }
    }

    /// The metrics that were asked for, those that are only now and then there, those that are expected.
    fn metrics(&self, study: &Study, asked: &Asked<'_>) -> Vec<String> {
        let any = |metric: &str| {
            self.points.iter().flatten().any(|record| record.metric(metric).is_some_and(|value| value > 0.0))
        };
        let defined = |metric: &&str| self.points.iter().flatten().any(|record| record.metric(metric).is_some());
        let more = DEFINED.into_iter().filter(defined).chain(RARE.into_iter().filter(|metric| any(metric)));
        let more = more.filter(|metric| !asked.metrics.contains(metric));
        let mut metrics: Vec<String> = asked.metrics.iter().copied().chain(more).map(str::to_owned).collect();
        for expectation in study.plan().expectations() {
            let name = expectation.spec.metric.to_string();
            if !metrics.contains(&name) {
                metrics.push(name);
            }
        }
        metrics
    }

    /// What all points that have a record assume alike.
    fn assumptions(&self) -> Vec<(String, String)> {
        let read = |record: &Record| {
            let summary: serde_json::Value = serde_json::from_str(&record.summary).unwrap_or_default();
            summary["assumptions"].as_object().cloned().unwrap_or_default()
        };
        let mut all = self.points.iter().flatten().map(read);
        let Some(mut shared) = all.next() else { return Vec::new() };
        all.for_each(|other| shared.retain(|name, value| other.get(name) == Some(value)));
        let fact = |(name, value): (String, serde_json::Value)| Some((name, value.as_str()?.to_owned()));
        shared.into_iter().filter_map(fact).collect()
    }

    /// What is to be said of the rows of the points' traces, each sentence once.
    fn told(&self, of: impl Fn(&Record) -> &String) -> String {
        let mut told: Vec<&str> = Vec::new();
        for line in self.points.iter().flatten().map(of) {
            if !line.is_empty() && !told.contains(&line.as_str()) {
                told.push(line);
            }
        }
        told.join("; or ")
    }

    /// The targets of `slo:` that points miss, a line each; with seeds those that every seed of a setting misses.
    pub fn missed(&self, study: &Study) -> Vec<String> {
        if study.plan().replicates() == 1 {
            return self.done(study).flat_map(|(point, record)| missed_at(point, record)).collect();
        }
        self.over_seeds(study, |setting, target, kept, of| {
            let Over { label, text, seeds, values } = target;
            let got = match values.as_slice() {
                [first, .., last] => format!("got {first} to {last}"),
                _ => format!("got {}", values.concat()),
            };
            (kept == 0)
                .then(|| format!("{label}{setting}: {text}, missed with all {of} seeds ({}), {got}", seeds.join(", ")))
        })
    }

    /// The targets of `slo:` that some seeds keep and others miss, a line each: what is said of them by one seed alone is chance.
    pub fn depends_on_seed(&self, study: &Study) -> Vec<String> {
        if study.plan().replicates() == 1 {
            return Vec::new();
        }
        self.over_seeds(study, |setting, target, kept, of| {
            let Over { label, text, seeds, .. } = target;
            let plural = if seeds.len() == 1 { "seed" } else { "seeds" };
            let missed = seeds.join(", ");
            (kept > 0 && kept < of).then(|| {
                format!("{label}{setting}: {text} is kept with {kept} of {of} seeds and missed with {plural} {missed}: too close to call")
            })
        })
    }

    /// What is to be said of each target of each setting, given how many of its seeds keep it, and how many there are.
    fn over_seeds(&self, study: &Study, say: impl Fn(&str, &Over<'_>, usize, usize) -> Option<String>) -> Vec<String> {
        let mut lines = Vec::new();
        // Equal settings that were drawn twice have equal runs: each point counts once.
        let mut points: Vec<(&Point, &Record)> = Vec::new();
        for (point, record) in self.done(study) {
            if !points.iter().any(|(other, _)| other.coordinates == point.coordinates) {
                points.push((point, record));
            }
        }
        for group in points.chunk_by(|(a, _), (b, _)| same_setting(a, b)) {
            let setting = setting(group[0].0);
            for (at, target) in group[0].1.targets.iter().enumerate() {
                let missed = || {
                    group.iter().filter_map(|(point, record)| Some((point, record.targets.get(at).filter(|t| !t.met)?)))
                };
                let mut values: Vec<&Target> = missed().map(|(_, target)| target).collect();
                values.sort_by(|a, b| a.value.total_cmp(b.value));
                let over = Over {
                    label: &target.label,
                    text: &target.bound,
                    seeds: missed().map(|(point, _)| point.scenario.seed.to_string()).collect(),
                    values: values.into_iter().map(|target| target.got.as_str()).collect(),
                };
                lines.extend(say(&setting, &over, group.len() - over.seeds.len(), group.len()));
            }
        }
        lines
    }

    /// Where no load keeps the targets of `slo:`: those that are missed at the first load, a line each. The loads are the first axis.
    pub fn missed_everywhere(&self, study: &Study) -> Vec<String> {
        // A seed is no setting: what some of them keep is told as what depends on them.
        let seeds = usize::from(study.plan().replicates() > 1);
        let line = |point: &Point| {
            let end = point.coordinates.len().saturating_sub(seeds);
            point.coordinates.get(1..end).unwrap_or_default().to_vec()
        };
        let mut first: Vec<(&Point, &Record)> = Vec::new();
        for (point, record) in self.done(study) {
            if !first.iter().any(|(other, _)| line(other) == line(point)) {
                first.push((point, record));
            }
        }
        let ever = |of: &Point| self.done(study).any(|(point, one)| line(point) == line(of) && one.keeps_targets());
        first.into_iter().filter(|(point, _)| !ever(point)).flat_map(|(point, one)| missed_at(point, one)).collect()
    }

    /// The points that have a record.
    fn done<'a>(&'a self, study: &'a Study) -> impl Iterator<Item = (&'a Point, &'a Record)> {
        study.points().iter().zip(self.whole()).filter_map(|(point, one)| Some((point, one?)))
    }
}

/// A target of a setting over its seeds.
struct Over<'a> {
    label: &'a str,
    text: &'a str,
    /// Seeds that miss it.
    seeds: Vec<String>,
    /// What they got, from low to high.
    values: Vec<&'a str>,
}

/// Whether two points differ in their seed alone.
fn same_setting(a: &Point, b: &Point) -> bool {
    a.coordinates.split_last().map(|(_, rest)| rest) == b.coordinates.split_last().map(|(_, rest)| rest)
}

/// The targets of a point, judged, in the order of its verdicts.
fn targets(point: &Point, record: &Record) -> Vec<reports::PointTarget> {
    let slo = &point.scenario.slo;
    let most = slo.bounds().into_iter().map(|(metric, most)| (metric, Side::AtMost, most.0.as_secs_f64()));
    let goodput = slo.goodput.iter().map(|goodput| ("goodput_fraction", Side::AtLeast, goodput.share));
    let quality = slo.quality.iter().filter_map(|quality| Some(("quality", Side::AtLeast, quality.at_least?)));
    let bounds = most.chain(goodput).chain(quality).zip(&record.targets);
    let target = |((metric, side, bound), judged): ((&str, Side, f64), &Target)| reports::PointTarget {
        metric: metric.to_owned(),
        side,
        bound,
        met: judged.met,
    };
    bounds.map(target).collect()
}

/// Where a setting lies: ` at fleet.replicas=2`; empty where nothing but the seed varies.
fn setting(point: &Point) -> String {
    let pairs: Vec<_> = point.coordinates.iter().map(|(path, value)| format!("{path}={value}")).collect();
    match pairs.split_last() {
        Some((_, rest)) if !rest.is_empty() => format!(" at {}", rest.join(", ")),
        _ => String::new(),
    }
}

/// The targets that a point misses, a line each.
fn missed_at(point: &Point, record: &Record) -> Vec<String> {
    let missed = record.targets.iter().filter(|target| !target.met);
    missed.map(|t| format!("{} at {}: {}, got {}", t.label, place(point), t.bound, t.got)).collect()
}

/// The figures of `expect:`: what each stands on, target, got, source. What a source states comes first, what only keeps our own
/// figures from changing last.
pub fn judged_all(verdicts: &[Judgement]) -> Vec<reports::Judged> {
    let mut order: Vec<&Judgement> = verdicts.iter().collect();
    order.sort_by_key(|verdict| verdict.basis);
    order.into_iter().map(judged).collect()
}

fn judged(verdict: &Judgement) -> reports::Judged {
    let Judgement { subject, target, source, passed, basis, .. } = verdict;
    let basis = match basis {
        Basis::Figure => "",
        Basis::Direction => "direction only",
        Basis::Bound => "bound",
        Basis::Regression => "regression, our own run",
    };
    let text = format!("{subject}: {target}, got {} ({source})", verdict.got_text());
    reports::Judged { met: *passed, basis, text }
}

/// Where the step costs come from: one line for all points, or one for each that differ, with their places.
fn calibration(study: &Study) -> String {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for point in study.points() {
        let line = study.policies().calibration(point);
        match told.iter_mut().find(|(other, _)| *other == line) {
            Some((_, places)) => places.push(place(point)),
            None => told.push((line, vec![place(point)])),
        }
    }
    match told.as_slice() {
        [(line, _)] => line.clone(),
        lines => {
            let lines = lines.iter().map(|(line, places)| format!("{}: {line}", places.join("; ")));
            lines.collect::<Vec<_>>().join(". ")
        }
    }
}

/// Where a point lies in its study: `fleet.replicas=2, scheduler=sarathi`.
pub fn place(point: &Point) -> String {
    let pairs: Vec<_> = point.coordinates.iter().map(|(path, value)| format!("{path}={value}")).collect();
    pairs.join(", ")
}
