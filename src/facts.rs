//! What a report says about a run besides its figures: assumptions, calibration status, provenance.

use std::path::Path;
use std::time::SystemTime;

use overbook_reports::manifest::{cpu_seconds, host_cpu, utc};
use overbook_reports::{Manifest, Status, Verdict};
use overbook_scenarios::Point;
use overbook_scenarios::hull::{Case, Hull};
use overbook_scenarios::scenario::{CostSpec, MaxNewTokens, Scenario};
use overbook_scenarios::world::{PoolOrigin, WorldError};
use overbook_sim::calibrate::{Hardware, ProfiledEngine};
use overbook_sim::lengths::LengthSpec;
use overbook_sim::results::summary::Summary;

/// Name and version of the tool.
pub(crate) const TOOL: &str = concat!("overbook ", env!("CARGO_PKG_VERSION"));

/// The targets of `slo:`, judged.
pub(crate) fn verdicts(scenario: &Scenario, summary: &Summary) -> Vec<Verdict> {
    let bounds = scenario.slo.bounds();
    let mut verdicts: Vec<_> =
        bounds.into_iter().map(|(metric, most)| Verdict::at_most(metric, most.0.as_secs_f64(), summary)).collect();
    if let Some(goodput) = &scenario.slo.goodput {
        verdicts.push(Verdict::at_least("goodput_fraction", goodput.share, summary));
    }
    verdicts
}

/// Where the costs come from and how far they are to be trusted.
pub(crate) fn calibration(point: &Point, summary: Option<&Summary>) -> String {
    let names = point.pool_names();
    if point.kinds().iter().all(|kind| kind.scenario.engine.cost == CostSpec::Roofline) {
        // What is inferred in any of the pools.
        return roofline_status(point, summary);
    }
    let status: Vec<String> = point.kinds().iter().map(kind_calibration).collect();
    if status.iter().all(|other| *other == status[0]) {
        return status[0].clone();
    }
    names.iter().zip(status).map(|(name, status)| format!("{name}: {status}")).collect::<Vec<_>>().join("; ")
}

fn roofline_status(point: &Point, summary: Option<&Summary>) -> String {
    // What matters most stands first: narrow displays cut the end.
    format!(
        "{}; not calibrated on this machine; roofline from public kernel tables; inferred: {}",
        Hull::embedded().judge(&summary.map_or_else(|| Case::planned(point), |summary| Case::of(point, summary))),
        point.inferred_parts().join(", ")
    )
}

fn kind_calibration(point: &Point) -> String {
    match &point.scenario.engine.cost {
        CostSpec::Roofline => roofline_status(point, None),
        CostSpec::Constant(_) => "constant step cost, given by the scenario; no hardware is modelled".into(),
        CostSpec::Profile(_) => profile_status(point),
        CostSpec::Steps(_) => steps_status(point),
        CostSpec::Table(table) => {
            format!("measured table {}; its hull is that file's grid", table.path.display())
        }
    }
}

/// Source, errors and hull of a profile of whole steps.
fn steps_status(point: &Point) -> String {
    let Ok(Some(profile)) = point.step_profile() else { return String::new() };
    let scenario = &point.scenario;
    let longest = point.limits().map_or(point.model.context, |(limits, _)| limits.max_model_len);
    let needs = scenario.scheduler.needs();
    let outside = profile.outside(needs.max_seqs, needs.step_tokens.at(longest), longest);
    let mut parts = vec![match outside.as_slice() {
        [] => "inside the range of its steps".to_owned(),
        outside => format!("EXTRAPOLATED: {}", outside.join("; ")),
    }];
    if point.model.name != profile.model {
        parts.push(format!("of ANOTHER MODEL, {}", profile.model));
    }
    if matches!(&scenario.engine.cost, CostSpec::Steps(steps) if steps.jitter) {
        parts.push("steps drawn as far apart as its repeats lay".to_owned());
    }
    if let Some(all) = profile.form_errors.last() {
        parts.push(format!("steps held out {:.1} % off (p95 {:.1} %)", all.mape_percent, all.p95_percent));
    }
    let ProfiledEngine { name, executor, .. } = &profile.engine;
    let Hardware { device, count, .. } = &profile.hardware;
    format!(
        "{} on {name} ({executor}) on {count} × {device}, {}, profile {}: {}",
        profile.kind,
        profile.measured,
        profile.name,
        parts.join("; ")
    )
}

/// Source, errors and hull of a profile, and what of the cost model is not from it.
fn profile_status(point: &Point) -> String {
    let Some(profile) = &point.profile else { return String::new() };
    let outside = point.outside_profile();
    let hull = if outside.is_empty() {
        "inside the ranges of its tables".to_owned()
    } else {
        format!("EXTRAPOLATED: {}", outside.join("; "))
    };
    let source = &profile.source;
    let absent = profile.absent();
    let absent = if absent.is_empty() { String::new() } else { format!("; from the catalog: {}", absent.join(", ")) };
    format!(
        "{} profile {} ({}), {hull}{absent}; inferred: {}; not calibrated on this machine; licence {}",
        profile.kind,
        profile.name,
        source.engine,
        point.inferred_parts().join(", "),
        source.licence
    )
}

/// The main facts of the resolved scenario.
pub(crate) fn assumptions(point: &Point) -> Result<Vec<(String, String)>, WorldError> {
    let scenario = &point.scenario;
    let mut facts = vec![
        of_kinds("Model", point, |kind| {
            let engine = &kind.scenario.engine;
            Ok(format!("{}, weights {}, KV {}", kind.model.name, text(engine.weights), text(engine.kv)))
        })?,
        ("Fleet".to_owned(), fleet_facts(point)),
        of_kinds("KV pool per replica", point, kv_pool)?,
        of_kinds("Longest sequence", point, |kind| Ok(format!("{} tokens", kind.limits()?.0.max_model_len)))?,
        ("Scheduler".to_owned(), text(&scenario.scheduler)),
        ("Workload".to_owned(), text(&scenario.workload)),
        ("Output lengths".to_owned(), output_lengths(scenario.workload.max_new_tokens)),
        of_kinds("Step cost", point, |kind| Ok(text(&kind.scenario.engine.cost)))?,
        ("Seed".to_owned(), scenario.seed.to_string()),
    ];
    let needs = scenario.scheduler.needs();
    if needs.sm_shares.is_some() {
        let told = "INFERRED: how steps slow down with fewer SMs is semi-PD's fit for Llama-3-8B on an A100, not measured here";
        facts.push(("SM shares".to_owned(), told.to_owned()));
    }
    if let Some(lengths) = &needs.lengths {
        facts.push(("Predicted lengths".to_owned(), predicted_lengths(lengths)));
    }
    let fleet = &scenario.fleet;
    if let Some(auto) = fleet.autoscale {
        facts.push(("Autoscaler".to_owned(), format!("up to {} replicas; {}", fleet.replicas, text(auto))));
    }
    if !fleet.failures.is_empty() {
        facts.push(("Failures".to_owned(), text(&fleet.failures)));
    }
    if let Some(faults) = fleet.faults {
        let (mtbf, mttr) = (faults.mtbf, faults.mttr);
        facts.push(("Faults".to_owned(), format!("each replica fails every {mtbf} on average, for {mttr}")));
    }
    if point.coordinates.is_empty() {
        return Ok(facts);
    }
    let place: Vec<_> = point.coordinates.iter().map(|(path, value)| format!("{path} = {value}")).collect();
    facts.insert(0, ("Point".to_owned(), place.join(", ")));
    Ok(facts)
}

/// A fact that may be another one in each pool.
fn of_kinds(
    what: &str,
    point: &Point,
    fact: impl Fn(&Point) -> Result<String, WorldError>,
) -> Result<(String, String), WorldError> {
    let facts: Vec<String> = point.kinds().iter().map(fact).collect::<Result<_, _>>()?;
    if facts.iter().all(|other| *other == facts[0]) {
        return Ok((what.to_owned(), facts[0].clone()));
    }
    let named = point.pool_names().into_iter().zip(facts).map(|(name, fact)| format!("{name}: {fact}"));
    Ok((what.to_owned(), named.collect::<Vec<_>>().join("; ")))
}

fn kv_pool(point: &Point) -> Result<String, WorldError> {
    let (limits, origin) = point.limits()?;
    let pool_tokens = limits.blocks * u64::from(limits.block_tokens);
    let pool = match origin {
        PoolOrigin::Given => "given".to_owned(),
        PoolOrigin::Memory(plan) => format!(
            "{:.1} GiB usable per GPU less {:.1} GiB weights and {:.1} GiB reserve",
            gib(plan.budget.0),
            gib(plan.weights.0),
            gib(plan.reserve.0)
        ),
    };
    Ok(format!("{} blocks of {} tokens = {pool_tokens} tokens ({pool})", limits.blocks, limits.block_tokens))
}

/// What a replica is made of beyond its GPUs, and the servers that so many of them fill.
fn made_of(point: &Point) -> Vec<String> {
    let fleet = &point.scenario.fleet;
    let gpus = fleet.gpus_per_replica();
    let pipeline = fleet
        .pipeline
        .map(|pipeline| format!("{} stages that wait for each other (one step in flight)", pipeline.stages));
    let experts = fleet.expert_parallel.map(|experts| {
        let (gpus, imbalance) = (fleet.tensor_parallel, experts.imbalance);
        format!("experts spread over {gpus} GPUs ({}, imbalance {imbalance})", text(experts.exchange))
    });
    let place = point.topology.as_ref().map(|topology| {
        // A replica larger than a server has servers of its own, smaller ones share one as long as they fit.
        let servers = match topology.gpus / gpus.max(1) {
            0 => fleet.replicas * gpus.div_ceil(topology.gpus),
            shared => fleet.replicas.div_ceil(shared),
        };
        format!("on {servers} × {}", topology.server)
    });
    [pipeline, experts, place].into_iter().flatten().collect()
}

/// Replicas, their kinds, and how requests reach them.
fn fleet_facts(point: &Point) -> String {
    let fleet = &point.scenario.fleet;
    let kinds = point.kinds().iter().zip(point.scenario.fleet.pools.iter().map(Some).chain([None]));
    let kinds = kinds.map(|(kind, pool)| {
        let (fleet, gpu) = (&kind.scenario.fleet, &kind.gpu.name);
        let more = if pool.is_some() { made_of(kind) } else { Vec::new() };
        let weight = pool.filter(|pool| pool.weight != 1).map(|pool| format!("weight {}", pool.weight));
        let more: Vec<String> = weight.into_iter().chain(more).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join("; ")) };
        format!("{} × {} {gpu}{more}", fleet.replicas, fleet.gpus_per_replica())
    });
    let kinds = kinds.collect::<Vec<_>>().join(" + ");
    let apart = fleet.disaggregation.as_ref().map(|apart| {
        let (prefill, decode) = (apart.prefill, fleet.replicas - apart.prefill);
        let link = point.kv_link.as_ref().map_or("", |link| link.name.as_str());
        let when = if apart.layerwise { "layer by layer" } else { "when a prompt is done" };
        let mixed = apart
            .overflow_tokens
            .map_or(String::new(), |tokens| format!(", prompts to decoding replicas above {tokens} waiting tokens"));
        format!("{prefill} compute prompts, {decode} decode; KV over {link}, one port per GPU, {when}{mixed}")
    });
    let early = fleet.early_rejection.map(|early| format!("refused on arrival what would miss {}", text(early)));
    let view =
        fleet.router_view.map(|view| format!("which sees reports of every {}, {} late", view.interval, view.delay));
    let router = format!("{kinds}, router {}", text(fleet.router));
    let router = [Some(router), view].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let mut parts: Vec<String> = [Some(router), apart, early].into_iter().flatten().collect();
    if point.pools.is_empty() {
        parts.extend(made_of(point));
    }
    parts.join("; ")
}

fn output_lengths(limit: MaxNewTokens) -> String {
    match limit {
        MaxNewTokens::Context => "unknown to the scheduler (limit: the context)".into(),
        MaxNewTokens::True => "ORACLE: the scheduler is told the true length".into(),
        MaxNewTokens::Fixed(n) => format!("cut to {n} tokens, which the scheduler knows"),
    }
}

fn predicted_lengths(lengths: &LengthSpec) -> String {
    let told = if lengths.is_oracle() { "ORACLE: the scheduler plans with true lengths; " } else { "" };
    format!("{told}{}", text(lengths))
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// A value as the scenario file would say it, in one line.
fn text(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string().replace(['"', '{', '}'], "").replace(',', ", ").replace(':', ": "),
        Err(_) => String::new(),
    }
}

/// The command line, for files that others may read: without the value of `--api-key`.
pub(crate) fn open_command() -> Vec<String> {
    let mut words: Vec<String> = std::env::args().collect();
    for at in 0..words.len() {
        if words[at].starts_with("--api-key=") {
            "--api-key=…".clone_into(&mut words[at]);
        } else if at > 0 && words[at - 1] == "--api-key" {
            "…".clone_into(&mut words[at]);
        }
    }
    words
}

/// When a run began, by all clocks.
pub(crate) struct Start {
    wall: SystemTime,
    instant: std::time::Instant,
    cpu: Option<f64>,
}

impl Start {
    pub(crate) fn now() -> Start {
        Start { wall: SystemTime::now(), instant: std::time::Instant::now(), cpu: cpu_seconds() }
    }

    /// CPU seconds since the start, all threads.
    pub(crate) fn cpu_s(&self) -> Option<f64> {
        Some(cpu_seconds()? - self.cpu?)
    }

    /// The manifest of what ends now.
    pub(crate) fn manifest(&self, plan_hash: String, seed: u64, traces: &[&Path], end: (Status, u8)) -> Manifest {
        let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Manifest {
            status: end.0,
            exit_status: end.1,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: told(env!("OVERBOOK_COMMIT")),
            dirty: told(env!("OVERBOOK_DIRTY")).map(|text| text == "true"),
            target: env!("OVERBOOK_TARGET").to_owned(),
            rustc: env!("OVERBOOK_RUSTC").to_owned(),
            plan_hash,
            seed,
            trace_hash: hash_files(traces),
            command: std::env::args().collect(),
            started: utc(self.wall),
            wall_s: self.instant.elapsed().as_secs_f64(),
            cpu_s: self.cpu_s(),
            host_cpu: host_cpu(),
            server: None,
        }
    }
}

/// Whether the run directory `dir` says that its traces had another content than `traces` have.
pub(crate) fn made_from_another_trace(dir: &Path, traces: &[&Path]) -> bool {
    let Ok(manifest) = std::fs::read(dir.join("manifest.json")) else { return false };
    let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(&manifest) else { return false };
    let then = manifest["trace_hash"].as_str();
    then.is_some_and(|then| hash_files(traces).is_some_and(|now| now != then))
}

/// BLAKE3 of the files, one after the other; of a folder of its files by name.
fn hash_files(paths: &[&Path]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let mut files = vec![path.to_path_buf()];
        if path.is_dir() {
            files = std::fs::read_dir(path).ok()?.map(|entry| Some(entry.ok()?.path())).collect::<Option<_>>()?;
            files.retain(|file| file.is_file());
            files.sort();
        }
        for file in files {
            // A pipe has been read and holds nothing more.
            if !file.is_file() {
                return None;
            }
            std::io::copy(&mut std::fs::File::open(file).ok()?, &mut hasher).ok()?;
        }
    }
    (!paths.is_empty()).then(|| hasher.finalize().to_hex().to_string())
}
