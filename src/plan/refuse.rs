//! What a plan cannot do, or would have to ignore: refused with its place.

use overbook_scenarios::Problems;
use overbook_scenarios::scenario::{PlanObjective, PlanSpec};

use super::candidate::Candidate;
use super::requests::Requests;
use super::space::Kind;
use crate::{Error, Experiment};

/// Refuses what a plan would have to ignore.
pub(super) fn what_cannot_be_planned(base: &Experiment, survive: u32) -> Result<(), Error> {
    let closed =
        "a plan is for requests that come by themselves: clients of a closed loop send as fast as they are answered";
    let cases = [
        (
            "fleet.pools",
            "a plan sizes fleets whose replicas are alike",
            "leave `fleet.pools` out and list GPU types in `plan.gpus`",
        ),
        ("fleet.controllers.autoscale", "a plan sizes fleets that stand all the time", "leave `autoscale` out"),
        (
            "workload.per_replica",
            "a plan sizes a fleet for a load, and here the load grows with the fleet",
            "give the rate of all requests together, and leave `per_replica` out",
        ),
        ("workload.clients", closed, "give rates of arrivals, or a trace with times"),
        (
            "sweep",
            "a plan chooses by itself and plays no study",
            "name what may be chosen in `plan.axes`, and leave `sweep` out",
        ),
    ];
    let lost = (
        "fleet.controllers.failures",
        "`plan.survive` makes replicas fail by itself",
        "leave `failures` or `survive` out",
    );
    let cases = cases.into_iter().chain((survive > 0).then_some(lost));
    for (path, message, help) in cases {
        if base.source().says(path) {
            return Err(base.source().refused(path, message, help).into());
        }
    }
    Ok(())
}

/// Refuses prices of GPU types that the plan does not choose from, prices of some types where others have none, and prices on demand without those of
/// reserved GPUs.
pub(super) fn wrong_prices(base: &Experiment, spec: &PlanSpec, candidates: &[Candidate]) -> Result<(), Error> {
    let kinds = || candidates.iter().flat_map(|one| one.shape.kinds());
    let chosen = |gpu: &String| kinds().any(|kind| kind.gpu == *gpu);
    for (key, prices) in [("prices", &spec.prices), ("on_demand_prices", &spec.on_demand_prices)] {
        if let Some(idle) = prices.keys().find(|gpu| !chosen(gpu)) {
            let mut names: Vec<&str> = kinds().map(|kind| kind.gpu.as_str()).collect();
            names.dedup();
            names.sort_unstable();
            names.dedup();
            let message = format!("`{idle}` has a price and is no GPU to choose from");
            let help = format!("the plan chooses from {}; `plan.gpus` names others", names.join(", "));
            return Err(base.source().refused(&format!("plan.{key}"), &message, &help).into());
        }
    }
    let half = |key: &str, price: fn(&Kind) -> Option<f64>, what: &str| -> Result<(), Error> {
        let (unpriced, priced) =
            (kinds().find(|kind| price(kind).is_none()), kinds().find(|kind| price(kind).is_some()));
        let (Some(unpriced), Some(priced)) = (unpriced, priced) else { return Ok(()) };
        let message = format!("`{}` has a price{what} and `{}` has none", priced.gpu, unpriced.gpu);
        let help = "give all of `plan.gpus` a price, or none";
        Err(base.source().refused(&format!("plan.{key}"), &message, help).into())
    };
    half("prices", |kind| kind.price, "")?;
    half("on_demand_prices", |kind| kind.on_demand, " on demand")?;
    let priced = kinds().all(|kind| kind.price.is_some());
    if spec.has_on_demand() && !priced {
        let help = "say what a GPU costs that is there all hours: plan: { price: 2.5/gpu-h, on_demand: 4/gpu-h }";
        return Err(base.source().refused("plan.on_demand", "stands beside no price of reserved GPUs", help).into());
    }
    if spec.objective == Some(PlanObjective::Usd) && !priced {
        let help = "say what an hour of a GPU costs: `plan.price`, `plan.prices` or `economics`";
        return Err(base.source().refused("plan.objective", "is `usd`, and GPUs have no price", help).into());
    }
    Ok(())
}

/// Refuses to count servers or watts that are not known.
pub(super) fn unknown_weights(base: &Experiment, spec: &PlanSpec, candidates: &[Candidate]) -> Result<(), Error> {
    let smallest = |one: &Candidate| one.shape.smallest();
    let built = || candidates.iter().filter(|one| one.built.is_ok());
    let servers = built().find(|one| one.weight.servers(smallest(one)).is_none());
    let watts = built().find(|one| one.weight.idle_watts(smallest(one)).is_none());
    let by_watts = spec.objective == Some(PlanObjective::Kw);
    let (path, unknown) = match spec.objective {
        Some(PlanObjective::Servers) => ("plan.objective", servers),
        Some(PlanObjective::Kw) => ("plan.objective", watts),
        _ if spec.power_most.is_some() => ("plan.power_most", watts),
        _ => return Ok(()),
    };
    let Some(unknown) = unknown else { return Ok(()) };
    let what = if by_watts || spec.power_most.is_some() { "watts" } else { "servers" };
    let message = format!("counts {what}, and those of `{}` are not known", unknown.shape.label);
    let help = "say in what GPUs stand: plan: { servers: [dgx-h100, dgx-h200] }; `overbook catalog list` has all, and for which watts are known";
    Err(base.source().refused(path, &message, help).into())
}

/// Refuses to split GPUs by hours where there are no two of them.
pub(super) fn too_short_for_hours(spec: &PlanSpec, requests: &Requests) -> Result<(), Error> {
    if !spec.has_on_demand() || requests.last_hour() >= 1 {
        return Ok(());
    }
    let told = "GPUs on demand are paid by the hour, and the requests last no two hours: give a log of a day, or leave                 `plan.on_demand` out";
    Err(Error::Plan(told.to_owned()))
}

/// Refuses a value of an axis with which no fleet can be built, if the value itself is what is wrong.
pub(super) fn wrong_choices<'a>(candidates: &[Candidate], paths: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let named = |problems: &Problems, path: &str| {
        problems.list().iter().any(|one| one.path == path || one.path.starts_with(&format!("{path}.")))
    };
    for path in paths {
        let with = |one: &&Candidate| one.shape.choices.iter().any(|(other, _)| other == path);
        let mut texts: Vec<&str> = Vec::new();
        for (_, text) in
            candidates.iter().filter(with).flat_map(|one| &one.shape.choices).filter(|(other, _)| other == path)
        {
            if !texts.contains(&text.as_str()) {
                texts.push(text);
            }
        }
        for text in texts {
            let chosen = |one: &&Candidate| one.shape.choices.iter().any(|(p, t)| p == path && t == text);
            let all_wrong =
                candidates.iter().filter(chosen).all(|one| one.problems.as_ref().is_some_and(|p| named(p, path)));
            let first = candidates.iter().find(chosen).and_then(|one| one.problems.clone());
            if let (true, Some(problems)) = (all_wrong, first) {
                return Err(Error::Scenario(problems));
            }
        }
    }
    Ok(())
}
