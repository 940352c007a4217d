//! `overbook calibrate SCENARIO --url`: probes a running server from outside, writes a calibration profile.

use std::fmt::Write as _;
use std::path::Path;

use overbook_engine::calibrate::Described;
use overbook_engine::client::probe::{Probe, ProbeError, ProbePlan, Probed, probe};
use overbook_engine::client::{ReplayError, Server, Target};
use overbook_scenarios::Point;
use overbook_sim::calibrate::{Hardware, StepProfile};
use overbook_sim::cost::steps::Steps;
use overbook_sim::cost::{CostModel as _, HostCost, PrefillPart, StepShape};

use crate::aside::Aside;
use crate::ask::stated;
use crate::calibrate::{CalibrateArgs, passed};
use crate::check::load;
use crate::cli::{Globals, ScenarioArgs};
use crate::output::{Failure, INTERRUPTED, note, print, shows_progress};
use crate::profile::{name, progress, target, text, today, write_samples};
use crate::run::quote;
use crate::watch::{catch_interrupts, interrupted};

/// Time for probes, unless another is asked for.
const BUDGET: std::time::Duration = std::time::Duration::from_secs(300);
/// Times that every probe is repeated at most.
const ROUNDS: u32 = 3;

pub(crate) fn run(args: &CalibrateArgs, url: &str, globals: &Globals) -> Result<u8, Failure> {
    let (out, samples) = target(args)?;
    Target::parse(url).map_err(|error| Failure::Input(format!("--url {error}")))?;
    let scenario = ScenarioArgs { scenario: args.source.clone(), set: args.set.clone(), seed: None };
    let study = load(&scenario, globals)?;
    let point = &study.points()[0];
    let server = args.ask.server(url, point)?;
    let budget = args.budget.map_or(BUDGET, |time| std::time::Duration::from_nanos(time.0.0));
    let plan = plan(point, budget, args.seed)?;
    catch_interrupts();
    let bar = progress(!globals.quiet && shows_progress(), "{bar:28} {pos}/{len} probes  {elapsed}  {msg}");
    let probed = probe(&server, &plan, &mut |at| {
        bar.set_length(at.of as u64);
        bar.set_position(at.done as u64);
        bar.set_message(at.probe.clone());
        !interrupted()
    });
    bar.finish_and_clear();
    let probed = match probed {
        Ok(probed) => probed,
        Err(ProbeError::Interrupted) => {
            note("interrupted: a profile needs all probes; nothing was written");
            return Ok(INTERRUPTED);
        }
        Err(error @ ProbeError::Budget { .. }) => return Err(Failure::Input(format!("--budget: {error}"))),
        Err(ProbeError::Server(error @ ReplayError::Unfit(_))) => return Err(Failure::input(error)),
        Err(error) => return Err(Failure::Run(anyhow::Error::new(error))),
    };
    let mut files = Aside::default();
    let profile = profile(point, &server, &plan, &probed, (out, &samples), &mut files)?;
    files.write(out, &Point::steps_yaml(&profile))?;
    files.keep()?;
    probed.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    let told = format!(
        "{}\n{}\n{}\nwritten to {} and {}\n{}",
        asked(point, &server, &probed),
        text(&profile),
        costs(&profile, &plan),
        out.display(),
        samples.display(),
        next(point, &args.source, url, out, &profile, &probed)
    );
    print(&told)?;
    Ok(passed(args, &profile, probed.missing()))
}

/// The probes that a scenario's limits leave room for.
pub(crate) fn plan(point: &Point, budget: std::time::Duration, seed: u64) -> Result<ProbePlan, Failure> {
    let limits = point.limits().map_err(Failure::input)?.0;
    let needs = point.scenario.scheduler.needs();
    let plan = ProbePlan {
        max_seqs: needs.max_seqs.min(limits.blocks as u32),
        max_tokens: needs.step_tokens.at(limits.max_model_len),
        max_model_len: limits.max_model_len,
        kv_tokens: limits.blocks * u64::from(limits.block_tokens),
        budget,
        rounds: ROUNDS,
        seed,
    };
    let probes = plan.probes();
    let of = |decode: bool| probes.iter().filter(|probe| matches!(probe, Probe::Decode { .. }) == decode).count();
    if of(true) < 2 || of(false) < 2 {
        return Err(Failure::Input(
            "the scenario's limits leave no room for probes: at least 2 sequences of 64 tokens must fit \
             (scheduler, engine.max_model_len, engine.kv_tokens)"
                .into(),
        ));
    }
    Ok(plan)
}

fn profile(
    point: &Point,
    server: &Server,
    plan: &ProbePlan,
    probed: &Probed,
    (out, samples): (&Path, &Path),
    files: &mut Aside,
) -> Result<StepProfile, Failure> {
    let scenario = &point.scenario;
    let inferred = probed.infer();
    Ok(inferred.profile(Described {
        name: name(out),
        model: point.model.name.clone(),
        engine: probed.engine(scenario.engine.weights, scenario.engine.block_tokens),
        hardware: Hardware {
            device: format!("{}, as the scenario says", point.gpu.name),
            count: scenario.fleet.gpus_per_replica(),
            system: format!("unknown, at {}", server.target),
        },
        measured: today(),
        samples: write_samples(files, samples, &inferred.steps, plan.seed)?,
    }))
}

/// The server that was probed.
fn asked(point: &Point, server: &Server, probed: &Probed) -> String {
    let found = &probed.found;
    let version = found.version.as_deref().unwrap_or("which does not tell its version");
    let (done, of) = probed.probes;
    let mut text = format!(
        "{}, {version}: {done} of {of} probes, {} requests, {}\nrequests state {}",
        found.model,
        probed.requests,
        found.asking.describe(),
        stated(server)
    );
    if let Some((before, after)) = probed.metrics {
        let steps = after.steps - before.steps;
        if steps > 0.0 {
            let tokens = (after.step_tokens - before.step_tokens) / steps;
            let _ = write!(text, "\nthe server counted {steps} steps with output, of {tokens:.1} tokens in the mean");
        }
    }
    if let Some((_, [low, high])) = probed.away_us {
        let (low, high) = (low / 1e3, high / 1e3);
        let _ = write!(
            text,
            "\nclient time is by the server's own histograms: half of the prompts between {low:.1} and {high:.1} ms"
        );
    }
    if let Some(ahead) = probed.planned_ahead {
        let what =
            if ahead > 0 { "one step ahead (asynchronous scheduling)" } else { "when the step before has ended" };
        let _ = write!(text, "\nthe server plans a step {what}");
        if ahead + 1 != point.scenario.scheduler.needs().depth {
            let _ = write!(text, ", the scenario otherwise: --set scheduler.vllm.async_scheduling={}", ahead > 0);
        }
    }
    text
}

/// What the fit says, in numbers that a simulation can check.
fn costs(profile: &StepProfile, plan: &ProbePlan) -> String {
    let mut model = Steps::new(profile.form.clone(), HostCost::ZERO);
    let mut ms = |seqs: u32, context: u64, prompt: u32| {
        let prefill: Vec<PrefillPart> =
            [prompt].into_iter().filter(|&n| n > 0).map(|tokens| PrefillPart { tokens, past: 0 }).collect();
        let prefill_ends = prefill.len() as u32;
        let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &prefill, prefill_ends };
        model.step(&shape).device.as_ns_f64() / 1e6
    };
    // Within what was measured.
    let range = |axis: &str| profile.hull.iter().find_map(|range| range.axes.get(axis)).map_or(1, |range| range[1]);
    let (most, longest) = (range("sequences") as u32, range("context"));
    let context = (longest / 4).max(16);
    let prompt = (plan.max_tokens / 2).max(16);
    let one = ms(1, context, 0);
    let all = ms(most, u64::from(most) * context, 0);
    let beside = ms(most / 2, u64::from(most / 2) * context, prompt);
    let without = ms(most / 2, u64::from(most / 2) * context, 0);
    format!(
        "a step of 1 sequence at {context} tokens takes {one:.2} ms, of {most} {all:.2} ms: a token of the full batch is {:.1} times \
         cheaper\na prompt of {prompt} tokens beside {} sequences makes their step {beside:.2} ms long instead of {without:.2} ms; \
         {:.1} µs a prompt token",
        one * f64::from(most) / all,
        most / 2,
        (beside - without) * 1e3 / f64::from(prompt)
    )
}

/// How to use it, and how to learn what it is worth.
fn next(point: &Point, scenario: &Path, url: &str, out: &Path, profile: &StepProfile, probed: &Probed) -> String {
    let (scenario, out) = (quote(scenario), quote(out));
    let client = profile
        .client_time
        .map_or_else(String::new, |time| format!(" --set 'workload.client_time={{ base: {time} }}'"));
    let mut text = String::from("cannot be identified:");
    for told in &profile.unidentified {
        let _ = write!(text, "\n  {told}");
    }
    if let Some((_, after)) = probed.metrics {
        let theirs = (after.blocks * after.block_tokens) as u64;
        let ours = point.limits().map_or(0, |(limits, _)| limits.blocks * u64::from(limits.block_tokens));
        if theirs > 0 && theirs != ours {
            let _ = write!(
                text,
                "\nthe server's KV pool has {theirs} tokens, the scenario's {ours}: --set engine.kv_tokens={theirs}"
            );
        }
    }
    let _ = write!(
        text,
        "\nuse it and see what it is worth:\n  overbook run {scenario} --set 'engine.cost={{ steps: {{ path: {out} }} }}'{client} --out simulated\n  \
         overbook replay {scenario} --url {url} --out replayed\n  overbook report replayed simulated"
    );
    text
}
