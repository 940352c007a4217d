//! Where measured runs of real engines have confirmed the simulator: the hull of what was validated, and on which side of it a
//! run lies.

mod errors;

use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::retention::RetentionPolicy;
use overbook_sim::results::rows::Outcome;
use overbook_sim::results::summary::Summary;
use overbook_sim::results::trust::{MeasuredRuns, Standing, Trust};
use serde::{Deserialize, Serialize};

use crate::point::Point;
use crate::scenario::FrontendSpec;
use crate::yaml::{self, SourceId};

pub use errors::{ErrorTable, Errors, Figure, FigureError};

/// Largest error of a run that counts as confirmed: median over its main figures.
const CONFIRMED: f64 = 0.1;

/// What is compared with the hull.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    scheduler: String,
    gpu: String,
    experts: bool,
    weights: WeightDtype,
    kv: KvDtype,
    tensor_parallel: f64,
    billions: f64,
    /// Settings with values that no measured run has, in words.
    own: Vec<String>,
    /// Parts that no measured run has at all, in words.
    unmeasured: Vec<String>,
    load: Option<Load>,
}

/// What only a run shows.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Load {
    running: f64,
    prompt: f64,
    output: f64,
}

/// From the least to the most.
type Range = (f64, f64);

/// Measured runs of one scheduler on one kind of GPU, with or without experts in the model. Counts and error are those of all of
/// them; the ranges are those of the confirmed ones or, where these are the fewer, of all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    scheduler: String,
    gpu: String,
    experts: bool,
    /// Runs that were confirmed, and how many were simulated.
    confirmed: u32,
    of: u32,
    /// Median error of all that were simulated, as a share.
    error: f64,
    weights: Vec<WeightDtype>,
    kv: Vec<KvDtype>,
    tensor_parallel: Range,
    /// Parameters of the models, in billions.
    billions: Range,
    /// Most requests at once.
    running: Range,
    /// Mean lengths of prompts and outputs [tokens].
    prompt: Range,
    output: Range,
}

/// All that was validated.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Hull(Vec<Envelope>);

impl Case {
    /// A point before it is simulated.
    pub fn planned(point: &Point) -> Case {
        let scenario = &point.scenario;
        let scheduler = serde_json::to_value(&scenario.scheduler).unwrap_or_default();
        let name = scheduler.as_object().and_then(|tagged| tagged.keys().next().cloned());
        Case {
            scheduler: name.or_else(|| scheduler.as_str().map(str::to_owned)).unwrap_or_default(),
            // Of fleets of several kinds nothing was measured.
            gpu: if point.kinds().len() > 1 { "several kinds of replicas".to_owned() } else { scenario.gpu.clone() },
            experts: point.model.moe.is_some(),
            weights: scenario.engine.weights,
            kv: scenario.engine.kv,
            tensor_parallel: f64::from(scenario.fleet.tensor_parallel),
            billions: point.model.parameters() as f64 / 1e9,
            own: point.kinds().iter().flat_map(own_settings).collect(),
            unmeasured: unmeasured(point),
            load: None,
        }
    }

    /// A point with what its run has shown.
    pub fn of(point: &Point, summary: &Summary) -> Case {
        let finished = summary.count(Outcome::Finished).max(1) as f64;
        let load = Load {
            running: f64::from(summary.load.running_max),
            prompt: summary.tokens.finished_prompt as f64 / finished,
            output: summary.tokens.finished_output as f64 / finished,
        };
        Case { load: Some(load), ..Case::planned(point) }
    }
}

/// Parts of a point that no measured run has.
fn unmeasured(point: &Point) -> Vec<String> {
    let engine = &point.scenario.engine;
    let cuts = engine.retention.as_ref().filter(|retention| retention.policy != RetentionPolicy::Full);
    let retention = cuts.map(|retention| format!("the retention {}", retention.policy.name()));
    let speculation = engine.speculation.is_some().then(|| "speculative decoding".to_owned());
    let controllers = &point.scenario.fleet.controllers;
    let apart = controllers.disaggregation.is_some().then(|| "prompts and decodes on different replicas".to_owned());
    let fails =
        (!controllers.failures.is_empty() || controllers.faults.is_some()).then(|| "replicas that fail".to_owned());
    let beside = retention.into_iter().chain(speculation).chain(apart).chain(fails);
    let Some(cache) = &engine.prefix_cache else { return beside.collect() };
    let tiers = (!cache.tiers.is_empty()).then(|| "tiers below the GPUs".to_owned());
    let usual = EvictionSpec::default();
    let eviction = (cache.eviction != usual).then(|| format!("the eviction {}", cache.eviction.label()));
    tiers.into_iter().chain(eviction).chain(beside).collect()
}

/// Times of the engine that are not those by which measured runs are simulated.
fn own_settings(point: &Point) -> Vec<String> {
    let engine = &point.scenario.engine;
    let usual = |path: &str| point.assumed.iter().any(|one| one.path == path);
    let mut own = Vec::new();
    if engine.enforce_eager {
        own.push("steps without CUDA graphs".to_owned());
    }
    if engine.has_roofline() && engine.host.is_some() && !usual("engine.host") {
        own.push("a host time of its own".to_owned());
    }
    if engine.frontend.is_some_and(|frontend| frontend != FrontendSpec::NONE) && !usual("engine.frontend") {
        own.push("a front end of its own".to_owned());
    }
    own
}

impl Hull {
    /// That of this version.
    pub fn embedded() -> Hull {
        let (tree, _) = yaml::parse(SourceId::default(), include_str!("../validation/hull.yaml"));
        Hull(tree.and_then(|tree| yaml::decode(&tree).value).unwrap_or_default())
    }

    /// Around cases and how far off each was.
    pub fn around(cases: &[(Case, f64)]) -> Hull {
        let mut groups: Vec<Vec<&(Case, f64)>> = Vec::new();
        let key = |case: &Case| (case.scheduler.clone(), case.gpu.clone(), case.experts);
        for case in cases.iter().filter(|(case, _)| case.load.is_some()) {
            match groups.iter_mut().find(|group| key(&group[0].0) == key(&case.0)) {
                Some(group) => group.push(case),
                None => groups.push(vec![case]),
            }
        }
        let mut hull: Vec<Envelope> = groups.iter().map(|group| envelope(group)).collect();
        hull.sort_by(|a, b| (&a.scheduler, &a.gpu, a.experts).cmp(&(&b.scheduler, &b.gpu, b.experts)));
        Hull(hull)
    }

    /// As [`Hull::embedded`] reads it.
    pub fn to_yaml(&self) -> String {
        yaml::emit(&serde_json::to_value(&self.0).unwrap_or_default())
    }

    /// On which side of the measured runs a case lies.
    pub fn judge(&self, case: &Case) -> Trust {
        let same = |envelope: &&Envelope| (&envelope.scheduler, &envelope.gpu) == (&case.scheduler, &case.gpu);
        let Some(known) = self.0.iter().filter(same).find(|envelope| envelope.experts == case.experts) else {
            let experts = if case.experts { " with experts" } else { "" };
            let parts = case.unmeasured.join(" and ");
            let parts = if parts.is_empty() { parts } else { format!(", and none with {parts} anywhere") };
            return Trust::prior(format!("no measured run of {} on {}{experts}{parts}", case.scheduler, case.gpu));
        };
        let mut outside = known.outside(case);
        outside.extend(case.own.iter().chain(&case.unmeasured).cloned());
        outside.dedup();
        if !known.mostly_confirmed() {
            outside.insert(0, "too few confirmed runs".to_owned());
        }
        let standing = if outside.is_empty() { Standing::Validated } else { Standing::Extrapolated(outside) };
        let Envelope { confirmed, of, error, .. } = *known;
        Trust { standing, runs: Some(MeasuredRuns { confirmed, of, within: CONFIRMED, error }) }
    }
}

impl Envelope {
    /// Whether at least half of the runs were confirmed.
    fn mostly_confirmed(&self) -> bool {
        2 * self.confirmed >= self.of
    }

    /// What of a case lies outside, in words.
    fn outside(&self, case: &Case) -> Vec<String> {
        let mut told = Vec::new();
        if !self.weights.contains(&case.weights) {
            told.push(format!("{} weights", case.weights));
        }
        if !self.kv.contains(&case.kv) {
            told.push(format!("{} keys and values", case.kv));
        }
        let load = case.load;
        let most_running = (0.0, self.running.1);
        for (what, value, range) in [
            ("tensor_parallel", Some(case.tensor_parallel), self.tensor_parallel),
            ("billions of parameters", Some(case.billions), self.billions),
            ("requests at once", load.map(|load| load.running), most_running),
            ("mean prompt tokens", load.map(|load| load.prompt), self.prompt),
            ("mean output tokens", load.map(|load| load.output), self.output),
        ] {
            // As they are written: the file has three digits.
            if let Some(value) = value.map(rounded).filter(|value| *value < range.0 || *value > range.1) {
                told.push(format!("{value} {what} ({} to {})", range.0, range.1));
            }
        }
        told
    }
}

/// `group` is not empty.
fn envelope(group: &[&(Case, f64)]) -> Envelope {
    let confirmed: Vec<&(Case, f64)> = group.iter().copied().filter(|(_, error)| *error <= CONFIRMED).collect();
    let mostly = 2 * confirmed.len() >= group.len();
    let spanned = if mostly { confirmed.as_slice() } else { group };
    let mut errors: Vec<f64> = group.iter().map(|(_, error)| *error).collect();
    errors.sort_by(f64::total_cmp);
    let (first, _) = group[0];
    let range = |of: &dyn Fn(&Case) -> f64| {
        let values = || spanned.iter().map(|(case, _)| rounded(of(case)));
        (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    };
    let load = |of: fn(&Load) -> f64| range(&|case: &Case| case.load.as_ref().map_or(0.0, of));
    let mut weights: Vec<WeightDtype> = spanned.iter().map(|(case, _)| case.weights).collect();
    let mut kv: Vec<KvDtype> = spanned.iter().map(|(case, _)| case.kv).collect();
    weights.sort_unstable();
    weights.dedup();
    kv.sort_unstable();
    kv.dedup();
    Envelope {
        scheduler: first.scheduler.clone(),
        gpu: first.gpu.clone(),
        experts: first.experts,
        confirmed: confirmed.len() as u32,
        of: group.len() as u32,
        error: rounded(f64::midpoint(errors[(errors.len() - 1) / 2], errors[errors.len() / 2])),
        weights,
        kv,
        tensor_parallel: range(&|case| case.tensor_parallel),
        billions: range(&|case| case.billions),
        running: load(|load| load.running),
        prompt: load(|load| load.prompt),
        output: load(|load| load.output),
    }
}

/// Three digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn case(gpu: &str, tensor_parallel: f64, prompt: f64) -> Case {
        Case {
            scheduler: "vllm".to_owned(),
            gpu: gpu.to_owned(),
            experts: false,
            weights: WeightDtype::Bf16,
            kv: KvDtype::Bf16,
            tensor_parallel,
            billions: 8.03,
            own: Vec::new(),
            unmeasured: Vec::new(),
            load: Some(Load { running: 64.0, prompt, output: 100.0 }),
        }
    }

    #[test]
    fn inside_is_validated_and_outside_says_what_is() {
        let runs = [(case("h100", 1.0, 100.0), 0.02), (case("h100", 2.0, 500.0), 0.04), (case("h100", 8.0, 9e3), 0.5)];
        let hull = Hull::around(&runs);
        let judge = |case: &Case| hull.judge(case).to_string();
        // The run that is far off counts, in the number of runs and in their median.
        let figures = "2 of 3 measured runs within 10 %, median error 4.0 %";
        assert_eq!(judge(&case("h100", 2.0, 300.0)), format!("validated: {figures}"));
        assert_eq!(judge(&case("h100", 8.0, 300.0)), format!("extrapolated by 8 tensor_parallel (1 to 2): {figures}"));
        assert!(judge(&case("h100", 1.0, 600.0)).contains("600 mean prompt tokens (100 to 500)"));
        assert!(judge(&Case { kv: KvDtype::Fp8, ..case("h100", 1.0, 300.0) }).contains("fp8 keys and values"));
        assert_eq!(judge(&case("l4", 1.0, 300.0)), "prior: no measured run of vllm on l4");
        // What was measured nowhere is named on both sides.
        let with_tiers = |case: Case| Case { unmeasured: vec!["tiers below the GPUs".to_owned()], ..case };
        let told = judge(&with_tiers(case("l4", 1.0, 300.0)));
        assert_eq!(told, "prior: no measured run of vllm on l4, and none with tiers below the GPUs anywhere");
        let told = judge(&with_tiers(case("h100", 2.0, 300.0)));
        assert_eq!(told, format!("extrapolated by tiers below the GPUs: {figures}"));
        // Before it is simulated nothing is known of its load.
        assert!(judge(&Case { load: None, ..case("h100", 1.0, 600.0) }).starts_with("validated"));
        let busy = Load { running: 65.0, prompt: 300.0, output: 100.0 };
        assert!(judge(&Case { load: Some(busy), ..case("h100", 1.0, 0.0) }).contains("65 requests at once (0 to 64)"));
    }

    #[test]
    fn tiers_and_orders_of_eviction_were_not_measured() {
        let of = |cache: &str| {
            let text = format!(
                "version: 1\nname: x\nmodel: llama-3.1-8b\ngpu: l4\nworkload: {{ generate: {{ arrivals: {{ constant: {{ rate: 1/s }} }}, \
                 lengths: {{ fixed: {{ prompt: 9, output: 9 }} }}, requests: 1 }} }}\nscheduler: vllm\nengine: {{ max_model_len: auto, \
                 prefix_cache: {cache} }}\n"
            );
            let study = crate::Source::from_text("x", &text).resolve().expect("a scenario");
            Case::planned(&study.points()[0]).unmeasured
        };
        assert_eq!(of("{}"), Vec::<String>::new());
        assert_eq!(of("{ tiers: [{ name: host, size: 8GB }] }"), ["tiers below the GPUs"]);
        assert_eq!(
            of("{ eviction: arc, tiers: [{ name: host, size: 8GB }] }"),
            ["tiers below the GPUs", "the eviction arc"]
        );
    }

    #[test]
    fn mostly_wrong_is_not_validated_and_keeps_its_figures() {
        let runs = [(case("h100", 1.0, 100.0), 0.02), (case("h100", 1.0, 100.0), 0.2), (case("h100", 1.0, 1.0), 0.3)];
        assert_eq!(
            Hull::around(&runs).judge(&runs[0].0).to_string(),
            "extrapolated by too few confirmed runs: 1 of 3 measured runs within 10 %, median error 20.0 %"
        );
    }

    #[test]
    fn the_embedded_hull_reads_as_it_was_written() {
        let hull = Hull::embedded();
        assert!(!hull.0.is_empty());
        let text = include_str!("../validation/hull.yaml");
        let written: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(hull.to_yaml().trim(), written.join("\n").trim());
    }
}
