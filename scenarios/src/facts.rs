//! What a report says of a scenario besides its figures: the main facts, and where its step costs come from.

mod calibration;
mod reserved;
mod wasted;

use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};
use overbook_sim::lengths::LengthSpec;

use crate::point::Point;
use crate::scenario::MaxNewTokens;
use crate::world::{PoolOrigin, WorldError};

pub use calibration::{calibration, figure_errors, trust};
pub use reserved::reservation;
pub use wasted::wasted;

/// The main facts of the resolved scenario.
pub fn assumptions(point: &Point) -> Result<Vec<(String, String)>, WorldError> {
    let scenario = &point.scenario;
    let mut facts = vec![
        of_kinds("Model", point, |kind| {
            let engine = &kind.scenario.engine;
            Ok(format!("{}, weights {}, KV {}", kind.model.name, text(engine.weights), text(engine.kv)))
        })?,
        ("Fleet".to_owned(), fleet_facts(point)),
        of_kinds("KV pool per replica", point, kv_pool)?,
        of_kinds("Longest sequence", point, longest)?,
        ("Scheduler".to_owned(), text(&scenario.scheduler)),
        ("Workload".to_owned(), text(&scenario.workload)),
        ("Output lengths".to_owned(), output_lengths(scenario.workload.max_new_tokens)),
        of_kinds("Step cost", point, |kind| Ok(text(&kind.scenario.engine.cost)))?,
        ("Seed".to_owned(), scenario.seed.to_string()),
    ];
    if !point.assumed.is_empty() {
        let taken = point.assumed.iter().map(|one| format!("{} {} ({})", one.path, one.value, one.why));
        facts.push(("Engine defaults".to_owned(), taken.collect::<Vec<_>>().join("; ")));
    }
    if let Some(retention) = &scenario.engine.retention {
        facts.push(("Retention".to_owned(), retention_facts(point, retention)));
    }
    let needs = scenario.scheduler.needs();
    if needs.sm_shares.is_some() {
        let told = "INFERRED: how steps slow down with fewer SMs is semi-PD's fit for Llama-3-8B on an A100, not measured here";
        facts.push(("SM shares".to_owned(), told.to_owned()));
    }
    if needs.reserves.is_some() && scenario.workload.max_new_tokens != MaxNewTokens::True {
        facts.push(of_kinds("Reserved per request", point, reserved::fact)?);
    }
    if let Some(lengths) = &needs.lengths {
        facts.push(("Predicted lengths".to_owned(), predicted_lengths(lengths)));
    }
    let fleet = &scenario.fleet;
    if let Some(auto) = fleet.controllers.autoscale {
        facts.push(("Autoscaler".to_owned(), format!("up to {} replicas; {}", fleet.replicas, text(auto))));
    }
    for (number, pool) in fleet.pools.iter().enumerate() {
        if let Some(auto) = pool.autoscale {
            let told = format!("up to {} replicas; {}", pool.replicas, text(auto));
            facts.push((format!("Autoscaler of pool {number}"), told));
        }
    }
    if !fleet.controllers.failures.is_empty() {
        facts.push(("Failures".to_owned(), text(&fleet.controllers.failures)));
    }
    if let Some(faults) = fleet.controllers.faults {
        let (mtbf, mttr) = (faults.mtbf, faults.mttr);
        facts
            .push(("Faults".to_owned(), format!("each {} fails every {mtbf} on average, for {mttr}", text(faults.of))));
    }
    if point.coordinates.is_empty() {
        return Ok(facts);
    }
    let place: Vec<_> = point.coordinates.iter().map(|(path, value)| format!("{path} = {value}")).collect();
    facts.insert(0, ("Point".to_owned(), place.join(", ")));
    Ok(facts)
}

/// What requests keep, and what that costs.
fn retention_facts(point: &Point, retention: &RetentionSpec) -> String {
    let cost = if retention.policy == RetentionPolicy::Full {
        "nothing is thrown away"
    } else if point.scenario.engine.has_roofline() {
        "its own work is charged by bytes and operations (INFERRED: no kernel of it was measured)"
    } else {
        "its own work is NOT charged: measured steps do not have it"
    };
    format!("{}; {cost}; requests that may lose tokens neither find nor leave cached prefixes", text(retention))
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

fn longest(point: &Point) -> Result<String, WorldError> {
    let (longest, context) = (point.limits()?.0.max_model_len, point.model.context);
    let stated = point.scenario.engine.max_model_len.is_some_and(|len| len.tokens().is_some());
    let why = if longest < context && !stated {
        format!(" (the pool holds no more of the model's {context})")
    } else {
        String::new()
    };
    Ok(format!("{longest} tokens{why}"))
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
    let apart = fleet.controllers.disaggregation.as_ref().map(|apart| {
        let (prefill, decode) = (apart.prefill, fleet.replicas - apart.prefill);
        let link = point.kv_link.as_ref().map_or("", |link| link.name.as_str());
        let when = if apart.layerwise { "layer by layer" } else { "when a prompt is done" };
        let mixed = apart
            .overflow_tokens
            .map_or(String::new(), |tokens| format!(", prompts to decoding replicas above {tokens} waiting tokens"));
        format!("{prefill} compute prompts, {decode} decode; KV over {link}, one port per GPU, {when}{mixed}")
    });
    let early =
        fleet.controllers.early_rejection.map(|early| format!("refused on arrival what would miss {}", text(early)));
    let view = fleet
        .controllers
        .router_view
        .map(|view| format!("which sees reports of every {}, {} late", view.interval, view.delay));
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
        MaxNewTokens::True => "ORACLE: the scheduler knows the true length".into(),
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

#[cfg(test)]
mod tests;
