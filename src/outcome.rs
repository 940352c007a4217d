//! What a run gives.

use overbook_reports::{self as reports, Report, Status, html};
use overbook_scenarios as scenarios;
use overbook_scenarios::scenario::Scenario;
use overbook_scenarios::{Point, facts};
use overbook_sim::digest::Digest;
use overbook_sim::fleet::{Effort, Halt, RunResult};
use overbook_sim::results::rows::Keep;
use overbook_sim::results::summary::Summary;
use overbook_sim::results::timeline::Timeline;
use overbook_sim::results::trust::Trust;
use overbook_sim::time::Time;
use overbook_traces::BurstStats;

use crate::{TOOL, traffic};

/// What a run gives: its figures, and how far they are to be trusted.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was asked, in a few words: the scenario's description, else its name.
    pub title: String,
    /// Whether the run came to its end; the figures of one that was interrupted are of its beginning.
    pub status: Status,
    /// Why the run ended before its time by itself, if it did: then the figures are of its beginning, as the rows are.
    pub halted: Option<Halt>,
    /// The figures; [`Summary::metric`] has them by name.
    pub summary: Summary,
    /// Levels and rates over time.
    pub timeline: Timeline,
    /// Virtual time of the end.
    pub end: Time,
    /// What must not depend on how the run was made: equal digests, equal schedules.
    pub digest: Digest,
    /// Work done by the simulator; no part of the result.
    pub effort: Effort,
    /// All rows, if [`Options::rows`](crate::Options::rows) asked for them.
    pub rows: Option<Keep>,
    /// The targets of `slo:`, judged, in the order of the scenario.
    pub verdicts: Vec<reports::Verdict>,
    /// The figures of `expect:`, judged; empty in a study, where they are the study's.
    pub expected: Vec<scenarios::Judgement>,
    /// The main facts of the resolved scenario: what, and its value with unit.
    pub assumptions: Vec<(String, String)>,
    /// What the figures alone do not say, a sentence each.
    pub remarks: Vec<String>,
    /// How far the figures are to be trusted, by measured runs of real engines; `None` for a run that was itself measured.
    pub trust: Option<Trust>,
    /// Where the step costs come from: one line.
    pub calibration: String,
    /// What became of the rows of the trace, by [`Workload::rows`](overbook_sim::Workload::rows): none of generated requests.
    pub trace_rows: Vec<(&'static str, u64)>,
    /// Rates and burstiness of the requests as they arrived; none in studies and closed loops.
    pub traffic: Option<BurstStats>,
    /// The same as recorded in the trace, if the scenario changes it.
    pub recorded_traffic: Option<BurstStats>,
    /// When the run began, by the clock of the trace: seconds after 1970; see [`Point::began_at`].
    pub clock: Option<i64>,
}

impl Outcome {
    /// The outcome of a run of a point, simulated or measured. Pools are named as the point names them.
    pub fn new(point: &Point, result: RunResult, assumptions: Vec<(String, String)>, calibration: String) -> Outcome {
        // No scenario asks for readings.
        let RunResult { mut summary, timeline, readings: _, end, digest, effort, interrupted, halted } = result;
        for (pool, name) in summary.pools.iter_mut().zip(point.pool_names()) {
            pool.name = name;
        }
        let used = summary.retained.iter().flat_map(|retained| retained.finished.keys().copied());
        // What cannot be told was refused before the run.
        summary.quality = point.quality(used.collect::<Vec<_>>().into_iter()).ok().flatten();
        if summary.economics.is_none() {
            // A measured run: it knows no prices. What cannot be told was refused before.
            summary.economics = point.economics().ok().flatten().map(Box::new);
        }
        let scenario = &point.scenario;
        Outcome {
            title: scenario.description.clone().unwrap_or_else(|| scenario.name.clone()),
            status: match (&halted, interrupted) {
                (Some(_), _) => Status::Failed,
                (None, true) => Status::Interrupted,
                (None, false) => Status::Complete,
            },
            halted,
            verdicts: verdicts(scenario, &summary),
            remarks: facts::reservation(point, &summary).into_iter().chain(facts::wasted(point, &summary)).collect(),
            summary,
            timeline,
            end,
            digest,
            effort,
            rows: None,
            expected: Vec::new(),
            assumptions,
            trust: None,
            calibration,
            trace_rows: Vec::new(),
            traffic: None,
            recorded_traffic: None,
            // Points of a study have no charts over time.
            clock: if point.coordinates.is_empty() { point.began_at() } else { None },
        }
    }

    /// A figure by its name, in SI units: `outcome.metric("ttft_p99")`. `None` if the run does not define it.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.summary.metric(name)
    }

    /// Whether no target of `slo:` is missed.
    pub fn keeps_targets(&self) -> bool {
        self.verdicts.iter().all(reports::Verdict::met)
    }

    /// Whether the run came to its end, no target of `slo:` is missed and all figures of `expect:` are as expected.
    pub fn passes(&self) -> bool {
        self.halted.is_none() && self.keeps_targets() && self.expected.iter().all(|verdict| verdict.passed)
    }

    /// What reports are made of; `command` makes the run again, `directory` is where its files lie.
    pub fn report(&self, command: &str, directory: &str) -> Report {
        Report {
            title: self.title.clone(),
            status: self.status,
            verdicts: self.verdicts.clone(),
            assumptions: self.assumptions.clone(),
            remarks: self.remarks.clone(),
            trust: self.trust.clone(),
            calibration: self.calibration.clone(),
            trace_rows: self.trace_rows.clone(),
            command: command.to_owned(),
            tool: TOOL.to_owned(),
            directory: directory.to_owned(),
            summary: self.summary.clone(),
            timeline: self.timeline.clone(),
            traffic: self.traffic.as_ref().map(traffic::figures),
            recorded_traffic: self.recorded_traffic.as_ref().map(traffic::figures),
            clock: self.clock,
        }
    }

    /// The traffic as a table of the page.
    pub fn traffic_table(&self) -> html::Table {
        traffic::table(self.traffic.as_ref(), self.recorded_traffic.as_ref())
    }
}

/// The targets of `slo:`, judged.
pub fn verdicts(scenario: &Scenario, summary: &Summary) -> Vec<reports::Verdict> {
    let bounds = scenario.slo.bounds().into_iter();
    let mut verdicts: Vec<_> =
        bounds.map(|(metric, most)| reports::Verdict::at_most(metric, most.0.as_secs_f64(), summary)).collect();
    if let Some(goodput) = &scenario.slo.goodput {
        verdicts.push(reports::Verdict::at_least("goodput_fraction", goodput.share, summary));
    }
    if let Some(least) = scenario.slo.quality.as_ref().and_then(|quality| quality.at_least) {
        verdicts.push(reports::Verdict::at_least("quality", least, summary));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::{Experiment, Options};

    #[test]
    fn targets_are_judged_in_the_order_of_the_schema_with_goodput_at_the_end() {
        let text = "
version: 1
name: targets
description: Some words
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 10/s } }, lengths: { fixed: { prompt: 400, output: 60 } }, requests: 100 }
slo:
  goodput: { ttft: 1s, share: 0.9 }
  tpot_p50: 1ms
  ttft_p99: 10s
";
        let outcome = Experiment::from_text("targets", text).run(&Options::default()).unwrap();
        let judged: Vec<_> = outcome.verdicts.iter().map(|v| (v.metric.as_str(), v.met())).collect();
        assert_eq!(judged, [("ttft_p99", true), ("tpot_p50", false), ("goodput_fraction", true)]);
        assert!(!outcome.keeps_targets() && !outcome.passes());
        let report = outcome.report("again", "here");
        assert_eq!((report.title.as_str(), report.command.as_str()), ("Some words", "again"));
        assert!(!report.all_met());
        assert_eq!(report.traffic.unwrap().requests, 100);
    }

    const RESERVED: &str = "
version: 1
name: reserved
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 20/s } }, lengths: { fixed: { prompt: 800, output: 60 } }, requests: 60 }
";

    fn remarks(changes: &[(&str, &str)]) -> Vec<String> {
        let experiment = Experiment::from_text("reserved", RESERVED);
        let experiment = changes.iter().fold(experiment, |experiment, (path, value)| experiment.set_yaml(path, value));
        experiment.run(&Options::default()).unwrap().remarks
    }

    #[test]
    fn a_run_that_waits_for_reserved_memory_says_what_each_request_reserves() {
        for scheduler in ["orca", "static", "conservative", "{ trtllm: { enable_chunked_context: true } }"] {
            let said = remarks(&[("scheduler", scheduler)]);
            let name = scheduler.trim_start_matches("{ ").split(':').next().unwrap();
            let start =
                format!("{name} reserves 131072 tokens a request (its prompt and output up to engine.max_model_len");
            assert!(said.len() == 1 && said[0].starts_with(&start), "{scheduler}: {said:?}");
            assert!(said[0].contains("requests at once, not the"), "{scheduler}: {said:?}");
        }
        let said = remarks(&[("scheduler", "orca"), ("workload.max_new_tokens", "{ fixed: 50000 }")]);
        assert!(said[0].contains("50800 tokens a request (a mean prompt and 50000 of output"), "{said:?}");
        let paper = remarks(&[("scheduler", "{ conservative: { max_new_tokens: 40000, overcommit: 1.5 } }")]);
        assert!(paper[0].contains("scheduler.conservative.max_new_tokens"), "{paper:?}");
    }

    #[test]
    fn nothing_is_said_where_reserved_memory_holds_nobody_up() {
        assert!(remarks(&[]).is_empty(), "vllm reserves nothing");
        assert!(remarks(&[("scheduler", "orca"), ("workload.max_new_tokens", "true")]).is_empty());
        assert!(remarks(&[("scheduler", "orca"), ("workload.max_new_tokens", "{ fixed: 60 }")]).is_empty());
        let few = [("scheduler", "{ orca: { max_batch_size: 2 } }")];
        assert!(remarks(&few).is_empty(), "its own limit binds");
    }

    #[test]
    fn a_study_says_at_which_points_reserved_memory_binds() {
        let experiment = Experiment::from_text("reserved", RESERVED).vary("scheduler", "vllm,orca,static");
        let study = experiment.study().unwrap();
        let asked = crate::study::Asked { metrics: &["ttft_p50"], command: String::new(), by_load: false };
        let table = study.run(&Options::default(), &|_| ()).unwrap().table(&study, &asked);
        let text = table.terminal();
        assert!(text.contains("\nNotes\n  orca: orca reserves 131072 tokens"), "{text}");
        assert!(text.contains("  static: static reserves") && !text.contains("vllm: vllm reserves"), "{text}");
        let page = table.html().unwrap();
        assert!(page.contains("<h2>Notes</h2>") && page.contains("<dt>orca</dt><dd>orca reserves"), "{page}");
    }

    /// Scores of TRIM-KV on GSM8K: 94.5 % at 512 slots, 95 % with full caches.
    #[test]
    fn answers_are_those_of_the_measured_row() {
        let of = |retention: &str, output: u32| {
            let text = format!(
                "
version: 1
name: answers
model: qwen3-4b
gpu: h100
workload:
  generate: {{ arrivals: {{ poisson: {{ rate: 10/s }} }}, lengths: {{ fixed: {{ prompt: 400, output: {output} }} }}, requests: 100 }}
  max_new_tokens: true
engine: {{ retention: {retention} }}
slo: {{ quality: {{ task: GSM8K, at_least: 0.99 }} }}
"
            );
            Experiment::from_text("answers", &text).run(&Options::default()).unwrap()
        };
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-12;
        let kept = of("{ policy: { trim-kv: {} }, budget: 512 }", 200);
        assert!(near(kept.metric("quality"), 0.945 / 0.95) && kept.keeps_targets());
        let seconds = kept.metric("gpu_hours").unwrap() * 3600.0;
        assert!(near(kept.metric("answers_per_gpu_second").map(|rate| rate * seconds), 94.5));
        // Requests that end before their budget keep all.
        assert!(near(of("{ policy: { trim-kv: {} }, budget: 512 }", 100).metric("quality"), 1.0));
        for unknown in ["{ policy: { trim-kv: {} }, budget: 33 }", "{ policy: key-diff, budget: 512 }"] {
            let outcome = of(unknown, 200);
            assert_eq!(outcome.metric("quality"), None, "{unknown}");
            assert!(near(outcome.metric("quality_unknown"), 1.0) && !outcome.keeps_targets(), "{unknown}");
        }
        // The score is of tokens that went while decoding: here only those of prompts go.
        let prompts = of("{ policy: { trim-kv: {} }, budget: 256, prompt: at-end, output: keep }", 200);
        assert_eq!(prompts.metric("quality"), None);
    }
}
