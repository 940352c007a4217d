//! From what was found to what is said.

use std::fmt::Write as _;

use overbook_reports::Status;
use overbook_reports::format::{Unit, count, label, number};
use overbook_reports::plan::{self as report, Alternative, Fleet, Grown, LoadPoint, Plan, Split, Tried};
use overbook_scenarios::hull::{Figure, FigureError};
use overbook_scenarios::scenario::{PlanMode, PlanSpec};
use overbook_scenarios::{Point, export, facts};
use overbook_sim::results::economics::per_mtoken;
use overbook_sim::results::summary::Summary;
use overbook_traces::Growth;

use super::candidate::{Candidate, Sought, kilowatts};
use super::headroom::{Headroom, RESOLUTION};
use super::hunt::{Hunt, Stage};
use super::requests::Requests;
use super::space::{LINK, Size};
use super::trial::{Load, Trial, Watts};
use super::{PlanOutcome, ledger, uses};
use crate::{Experiment, TOOL};

/// Hours of a month: 8,760 ÷ 12.
pub(crate) const MONTH_H: f64 = 730.0;

/// Next-best shapes that are named.
const ALTERNATIVES: usize = 6;

/// Share of the time in steps from which on a replica is short of compute.
const BUSY: f64 = 0.85;

/// Share of the KV pool from which on it is full.
const FULL: f64 = 0.97;

/// What was found.
pub(crate) struct Answer<'a> {
    pub(crate) hunt: &'a Hunt<'a>,
    pub(crate) requests: &'a Requests,
    pub(crate) found: Option<(usize, Size)>,
    /// The most cautious first.
    pub(crate) headroom: Vec<Headroom>,
    pub(crate) growth: Vec<Grown>,
    pub(crate) curve: Vec<(f64, Load, Trial)>,
    /// Reserved GPUs and those on demand, where these have a price.
    pub(crate) split: Option<Split>,
}

/// A plan that the user has stopped before anything was known.
pub(crate) fn stopped(base: &Experiment, command: &str) -> PlanOutcome {
    let title = base.source().text_at("description").or(base.source().text_at("name")).unwrap_or_default().to_owned();
    PlanOutcome { plan: empty(title, "Interrupted before any fleet was tried.".to_owned(), command), point: None }
}

fn empty(title: String, sentence: String, command: &str) -> Plan {
    Plan {
        title,
        status: Status::Interrupted,
        sentence,
        answer: None,
        too_close_to_call: false,
        promises: Vec::new(),
        requests: Vec::new(),
        stages: Vec::new(),
        headroom: Vec::new(),
        binding: String::new(),
        growth: Vec::new(),
        alternatives: Vec::new(),
        curve: Vec::new(),
        tried: Vec::new(),
        trust: None,
        assumptions: Vec::new(),
        settings: Vec::new(),
        start: Vec::new(),
        start_notes: Vec::new(),
        calibration: String::new(),
        command: command.to_owned(),
        plan_hash: String::new(),
        tool: TOOL.to_owned(),
        uses: Vec::new(),
        errors: Vec::new(),
        sensitivity: Vec::new(),
        split: None,
        ledger: Vec::new(),
        run: None,
    }
}

impl Answer<'_> {
    /// The plan, and the fleet that answers.
    pub(crate) fn outcome(self, spec: &PlanSpec, command: &str) -> PlanOutcome {
        let point = self.found.and_then(|(at, size)| self.hunt.points(at, size, None).into_iter().next()?.ok());
        let rows = ledger::rows(self.hunt, self.found);
        let title = self.title();
        let mut plan = empty(title, String::new(), command);
        let stopped = self.hunt.interrupted || self.hunt.bench.options.cancel.is_cancelled();
        plan.status = if stopped { Status::Interrupted } else { Status::Complete };
        plan.promises = self.promises();
        plan.requests = vec![("Requests".to_owned(), self.requests.told()), ("Judged".to_owned(), self.judged())];
        plan.stages = ledger::stages(&rows, self.hunt.candidates.len(), self.window());
        plan.tried = self.tried();
        plan.curve = self.curve_points();
        if let (Some((at, size)), Some(point)) = (self.found, &point) {
            let candidate = &self.hunt.candidates[at];
            let trial = trial_of(candidate, size, Stage::Window);
            let trust = self.hunt.bench.policies.trust(point, trial.and_then(|trial| trial.summary.as_ref()));
            plan.errors = self.errors(point);
            // Of the figures that stop it at a larger load, the one that is known worst.
            let error = plan.errors.iter().filter(|one| one.binds).map(|one| one.error).fold(0.0, f64::max);
            plan.headroom = self.headroom_lines(error);
            plan.trust = Some(trust);
            plan.answer = Some(self.fleet(candidate, size));
            plan.alternatives = self.alternatives(at, candidate.cost_of_tried(size).unwrap_or_default());
            plan.binding = self.binding(point);
            if let Some(summary) = trial.and_then(|trial| trial.summary.as_ref()) {
                plan.uses = uses::of(summary, point, plan.headroom.first(), trial.and_then(Trial::watts));
                plan.sensitivity = uses::sensitivity(summary, plan.answer.as_ref(), plan.headroom.first());
            }
            let whole = trial_of(candidate, size, Stage::Whole);
            let all = whole.is_some() || self.requests.stretch.is_whole();
            plan.run = whole.or(trial).and_then(|trial| uses::run(trial, point, all, &plan)).map(Box::new);
            plan.assumptions = facts::assumptions(point).unwrap_or_default();
            plan.settings = candidate.shape.settings(size);
            for flags in export::serve_flags_of(point) {
                plan.start.extend([flags.vllm, flags.sglang]);
                plan.start_notes.extend(flags.notes);
            }
            plan.calibration = self.hunt.bench.policies.calibration(point);
            plan.plan_hash = point.plan_hash();
            if candidate.shape.mode == PlanMode::Apart
                && spec.link.is_none()
                && !self.hunt.base.source().says("fleet.server")
            {
                let link = point.kv_link.as_ref().map_or(LINK, |link| link.name.as_str());
                plan.assumptions.push(("KV link".to_owned(), format!("{link}, by default: say `plan.link`")));
            }
        }
        plan.requests.extend(self.unseen());
        plan.growth.clone_from(&self.growth);
        plan.split.clone_from(&self.split);
        plan.too_close_to_call = plan.headroom.first().is_some_and(|one| one.low <= 1.0);
        plan.sentence = self.sentence(&plan, spec);
        plan.ledger = rows;
        PlanOutcome { plan, point }
    }

    fn title(&self) -> String {
        let source = self.hunt.base.source();
        source.text_at("description").or(source.text_at("name")).unwrap_or_default().to_owned()
    }

    fn window(&self) -> &'static str {
        if self.requests.stretch.is_whole() { "all requests" } else { "the busiest stretch" }
    }

    fn judged(&self) -> String {
        let load = &self.requests.load;
        let (of, judged) = (load.requests() as u64, load.judged_count());
        let more =
            if self.requests.stretch.is_whole() { "" } else { "; promises are kept there and over all requests" };
        if judged == of {
            format!("all of {of}{more}")
        } else {
            format!(
                "{judged} of {of}, and all: the last {} end while the fleet empties, and help no promise{more}",
                of - judged
            )
        }
    }

    /// The overloads that the requests are too few to show.
    fn unseen(&self) -> Option<(String, String)> {
        let growth = self.headroom.first().map_or(Growth::Faster, |one| one.growth);
        let headroom = self.headroom.first().map_or(1.0, |one| one.factor);
        let grown = self.growth.iter().map(|one| one.factor);
        let most = grown.fold(headroom, f64::max).max(1.0);
        let of = |factor: f64| {
            let unseen = self.requests.unseen(growth, factor, self.hunt.bench.promises)?;
            Some(format!("up to {} at {}×", Unit::Share.show(unseen), number(factor)))
        };
        let told: Vec<String> = [1.0, most].into_iter().filter_map(of).collect();
        let told = if most > 1.0 { told } else { told.into_iter().take(1).collect() };
        (!told.is_empty()).then(|| {
            let text =
                "an overload shows only once a queue is longer than the promises allow; too short to show are those of";
            ("Not seen".to_owned(), format!("{text} {}; more requests would", told.join(", and ")))
        })
    }

    fn promises(&self) -> Vec<String> {
        let trials = self.hunt.candidates.iter().flat_map(|one| &one.trials);
        let Some((.., trial)) = trials.into_iter().next() else { return Vec::new() };
        let line = |kept: &super::judge::Kept| {
            let sign = if kept.least { "≥" } else { "≤" };
            format!("{} {sign} {}", label(&kept.metric), Unit::of(&kept.metric).short(kept.bound))
        };
        trial.verdict.kept.iter().map(line).collect()
    }

    /// How far measured runs are off in the figures that are promised, and which of these stop the answer at a larger load: all, where that is not known.
    ///
    /// Where replicas have no time left, requests wait for as long as the run lasts: then it is the rate at which they are served that counts, and not how far
    /// off a first token was that waited for nobody.
    fn errors(&self, point: &Point) -> Vec<report::FigureError> {
        let bench = &self.hunt.bench;
        let beyond = self.curve.iter().find(|(factor, _, trial)| !bench.holds(trial) && *factor > 1.0);
        let of = |trial: &Trial, missed: bool| -> Vec<Figure> {
            let kept = trial.verdict.kept.iter().filter(|kept| !missed || kept.met == Some(false));
            kept.flat_map(|kept| Figure::of_metric(&kept.metric)).copied().collect()
        };
        let mut figures = self.curve.first().map(|(.., trial)| of(trial, false)).unwrap_or_default();
        let mut binding = beyond.map(|(.., trial)| of(trial, true)).unwrap_or_default();
        let busy = beyond.and_then(|(.., trial)| trial.summary.as_ref()?.metric("utilization"));
        if busy.is_some_and(|busy| busy >= BUSY) && binding.iter().any(|one| *one != Figure::Tpot) {
            binding.retain(|one| *one == Figure::Tpot);
            binding.push(Figure::Throughput);
        }
        figures.extend(&binding);
        if binding.is_empty() {
            binding.clone_from(&figures);
        }
        let line = |one: FigureError| report::FigureError {
            figure: one.figure.name().to_owned(),
            error: one.error,
            runs: one.runs,
            text: one.to_string(),
            elsewhere: one.elsewhere,
            binds: binding.contains(&one.figure),
        };
        bench.policies.figure_errors(point, &figures).into_iter().map(line).collect()
    }

    fn headroom_lines(&self, error: f64) -> Vec<report::Headroom> {
        let line = |one: &Headroom| {
            let (low, high) = one.joined(error);
            report::Headroom {
                growth: one.growth.name().to_owned(),
                twice: self.requests.twice(one.growth).to_owned(),
                factor: one.factor,
                seeds_low: one.low,
                seeds_high: one.high,
                low,
                high,
                seeds: one.factors.clone(),
            }
        };
        self.headroom.iter().map(line).collect()
    }

    fn fleet(&self, candidate: &Candidate, size: Size) -> Fleet {
        let whole = trial_of(candidate, size, Stage::Whole);
        let window = trial_of(candidate, size, Stage::Window);
        let gpus = candidate.weight.gpus(size);
        let usd = candidate.weight.usd(size);
        let hours = self.requests.load.length_s() / 3600.0;
        let tokens = window.and_then(|trial| trial.summary.as_ref()).map(|summary| summary.tokens.finished_output);
        let told = |trial: Option<&Trial>, place: &str| -> Vec<String> {
            let kept = trial.into_iter().flat_map(|trial| &trial.verdict.kept);
            kept.map(|one| format!("{}{place}", one.figure())).collect()
        };
        // The busiest stretch says more than the whole run, unless that is all there is.
        let places = if whole.is_some() { [" in the busiest stretch", " over all requests"] } else { ["", ""] };
        let mut lines = told(window, places[0]);
        lines.extend(told(whole, places[1]));
        let (per_gpu, per_user) = window.map_or((None, None), |trial| self.speeds(trial, f64::from(gpus)));
        Fleet {
            shape: candidate.shape.label.clone(),
            gpu: candidate.shape.kind.gpu.clone(),
            tensor_parallel: candidate.shape.kind.tensor_parallel,
            decode_gpu: candidate.shape.decode.as_ref().map(|kind| kind.gpu.clone()),
            decode_tensor_parallel: candidate.shape.decode.as_ref().map(|kind| kind.tensor_parallel),
            replicas: size.to_string(),
            gpus,
            servers: candidate.weight.servers(size),
            power: window.and_then(Trial::watts).map(|watts| power(watts, candidate.peak_watts(size))),
            binds: window.and_then(|trial| trial.binds),
            usd_per_hour: usd,
            usd_per_month: usd.map(|usd| usd * MONTH_H),
            usd_per_mtoken: usd.zip(tokens).and_then(|(usd, tokens)| per_mtoken(usd * hours, tokens)),
            kept: lines,
            tokens_per_s_per_gpu: per_gpu,
            tokens_per_s_per_user: per_user,
        }
    }

    /// Output tokens per second and GPU while requests arrive, and those that a user sees.
    fn speeds(&self, trial: &Trial, gpus: f64) -> (Option<f64>, Option<f64>) {
        let tokens = trial.summary.as_ref().map(|summary| summary.tokens.finished_output as f64);
        let length = self.requests.load.length_s();
        let user = trial.latencies[2].filter(|tpot| *tpot > 0.0).map(|tpot| 1.0 / tpot);
        (tokens.filter(|_| length > 0.0).map(|tokens| tokens / length / gpus), user)
    }

    fn tried(&self) -> Vec<Tried> {
        let trials = self.hunt.candidates.iter().flat_map(|one| one.trials.iter().map(move |trial| (one, trial)));
        let of = |(candidate, (size, stage, trial)): (&Candidate, &(Size, Stage, Trial))| {
            trial.summary.as_ref().filter(|_| *stage == Stage::Window)?;
            let gpus = candidate.weight.gpus(*size);
            let (per_gpu, per_user) = self.speeds(trial, f64::from(gpus));
            Some(Tried {
                shape: candidate.shape.label.clone(),
                replicas: size.to_string(),
                gpus,
                usd_per_hour: candidate.weight.usd(*size),
                kw_mean: trial.watts().map(|watts| watts.mean / 1e3),
                nearest_to_bound: trial.nearest_to_bound().unwrap_or(0.0),
                tokens_per_s_per_gpu: per_gpu,
                tokens_per_s_per_user: per_user,
                kept: trial.held(),
            })
        };
        trials.filter_map(of).collect()
    }

    fn curve_points(&self) -> Vec<LoadPoint> {
        let point = |(factor, load, trial): &(f64, Load, Trial)| {
            let [ttft_p50, ttft_p99, tpot_p50, tpot_p99] = trial.latencies;
            let requests_per_s = load.requests() as f64 / load.length_s().max(1e-9);
            LoadPoint {
                factor: *factor,
                requests_per_s,
                ttft_p50,
                ttft_p99,
                tpot_p50,
                tpot_p99,
                kept: self.hunt.bench.holds(trial),
            }
        };
        self.curve.iter().map(point).collect()
    }

    /// The cheapest fleets of other shapes, each GPU, split and mode once: first those that are known to hold, then those that may.
    fn alternatives(&self, answer: usize, least: f64) -> Vec<Alternative> {
        let mut near: Vec<(bool, f64, usize)> = Vec::new();
        for (at, candidate) in self.hunt.candidates.iter().enumerate().filter(|(at, _)| *at != answer) {
            let Some(search) = candidate.search.as_ref() else { continue };
            match (search.best(), search.next()) {
                (Some(size), None) => {
                    near.push((false, candidate.cost_of_tried(size).unwrap_or_else(|| candidate.cost(size)), at));
                }
                (_, Some(_)) => near.push((true, candidate.cost(search.least()), at)),
                (None, None) => {}
            }
        }
        near.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut seen = vec![self.kind(answer)];
        near.retain(|(.., at)| {
            let kind = self.kind(*at);
            let new = !seen.contains(&kind);
            seen.push(kind);
            new
        });
        near.into_iter().take(ALTERNATIVES).map(|(_, cost, at)| self.alternative(at, cost, least)).collect()
    }

    /// What replicas run on, on each side, and how they work.
    fn kind(&self, at: usize) -> Vec<(&str, u32, PlanMode)> {
        let shape = &self.hunt.candidates[at].shape;
        shape.kinds().map(|kind| (kind.gpu.as_str(), kind.tensor_parallel, shape.mode)).collect()
    }

    fn alternative(&self, at: usize, cost: f64, least: f64) -> Alternative {
        let candidate = &self.hunt.candidates[at];
        let search = candidate.search.as_ref();
        let least_size = search.map_or(Size::Together(1), Sought::least);
        let settled = search.is_some_and(|search| search.next().is_none());
        let best = search.and_then(Sought::best);
        let told = match best {
            Some(size) if settled => size.to_string(),
            Some(size) if candidate.shape.decode.is_none() => format!("{least_size} to {}", size.replicas()),
            Some(size) => format!("at most {size}"),
            None => format!("≥ {least_size}"),
        };
        let size = best.filter(|_| settled).unwrap_or(least_size);
        let failed = candidate.trials.iter().filter(|(.., trial)| !trial.held());
        let failed = failed
            .max_by_key(|(size, ..)| size.replicas())
            .map_or_else(String::new, |(size, _, trial)| format!("; with {size}: {}", trial.reason()));
        let price = if cost > least { "dearer" } else { "costs the same" };
        let excess = best.filter(|_| settled).and_then(|size| candidate.too_many_watts(size));
        let why = match (excess, settled) {
            (Some((peak, most)), _) => format!("draws {} at its peak, more than {}", kilowatts(peak), kilowatts(most)),
            (None, true) => format!("{price}{failed}"),
            (None, false) => format!("not searched on: {price}{failed}"),
        };
        let trial = best.and_then(|size| trial_of(candidate, size, Stage::Window));
        Alternative {
            shape: candidate.shape.label.clone(),
            replicas: told,
            gpus: candidate.weight.gpus(size),
            usd_per_month: candidate.weight.usd(size).map(|usd| usd * MONTH_H),
            kw_peak: best.and_then(|size| candidate.peak_watts(size)).map(|watts| watts / 1e3),
            binds: trial.and_then(|trial| trial.binds),
            why,
        }
    }

    /// What stops the answer above its headroom.
    fn binding(&self, point: &Point) -> String {
        let bench = &self.hunt.bench;
        let Some((factor, _, trial)) =
            self.curve.iter().find(|(factor, _, trial)| !bench.holds(trial) && *factor > 1.0)
        else {
            return String::new();
        };
        if let Some((peak, most)) = bench.too_many_watts(trial).filter(|_| trial.held()) {
            return format!("power (at {factor:.2}×: {} at the peak, {} allowed)", kilowatts(peak), kilowatts(most));
        }
        let Some(summary) = &trial.summary else { return String::new() };
        format!("{} (at {factor:.2}×: {})", bound_by(summary, point, trial), trial.reason())
    }

    /// The fleet in a sentence.
    fn named(&self, fleet: &Fleet) -> String {
        let price = fleet.usd_per_month.map_or_else(String::new, |usd| format!(", ${} a month,", count(usd)));
        let replicas = |number: &str| if number == "1" { "1 replica".to_owned() } else { format!("{number} replicas") };
        if let (Some(gpu), Some(parallel), Some((prefill, decode))) =
            (&fleet.decode_gpu, fleet.decode_tensor_parallel, fleet.replicas.split_once(" + "))
        {
            let weight = self.found.map(|(at, _)| self.hunt.candidates[at].weight);
            let gpus = weight.map_or([0, 0], |weight| [weight.first.gpus, weight.second.map_or(0, |side| side.gpus)]);
            let of = |number: &str, each: u32, parallel: u32, gpu: &str| {
                let gpus = number.parse::<u32>().unwrap_or(0) * each;
                format!("{gpus} × {gpu} ({}; TP {parallel})", replicas(number))
            };
            let prompts = of(prefill, gpus[0], fleet.tensor_parallel, &fleet.gpu);
            let decodes = of(decode, gpus[1], parallel, gpu);
            return format!("{prompts} for prompts and {decodes} that decode{price} keep the promises.");
        }
        let size = match fleet.replicas.split_once(" + ") {
            Some((prefill, decode)) => format!("{} for prompts and {decode} that decode", replicas(prefill)),
            None => replicas(&fleet.replicas),
        };
        let shape = fleet.shape.trim_start_matches(fleet.gpu.as_str()).trim_start_matches(", ");
        format!("{} × {} ({size}; {shape}){price} keep the promises.", fleet.gpus, fleet.gpu)
    }

    fn sentence(&self, plan: &Plan, spec: &PlanSpec) -> String {
        let Some(fleet) = &plan.answer else {
            if self.hunt.interrupted {
                return "Interrupted before a fleet was found that keeps the promises.".to_owned();
            }
            let most = spec.gpus_most;
            let mut text = format!("No fleet of up to {most} GPUs keeps the promises.");
            let trials = self.hunt.candidates.iter().flat_map(|one| one.trials.iter().map(move |trial| (one, trial)));
            let watts = self.hunt.candidates.iter().filter_map(|one| {
                let best = one.search.as_ref()?.best()?;
                Some((one, best, one.too_many_watts(best)?))
            });
            if let Some((one, best, (peak, most))) = watts.min_by(|a, b| a.2.0.total_cmp(&b.2.0)) {
                let (peak, most) = (kilowatts(peak), kilowatts(most));
                let _ = write!(
                    text,
                    " That with the lowest peak, {best} × {}, draws {peak}, and {most} are allowed.",
                    one.shape.label
                );
            } else if let Some((candidate, (size, _, trial))) =
                trials.max_by_key(|(one, (size, ..))| one.weight.gpus(*size))
            {
                let _ = write!(text, " The largest tried ({size} × {}): {}.", candidate.shape.label, trial.reason());
            }
            return text + " The ledger says why each fails.";
        };
        let mut text = self.named(fleet);
        if let Some(power) = &fleet.power {
            let servers = match fleet.servers {
                Some(1) => "Their server draws".to_owned(),
                Some(servers) => format!("Their {servers} servers draw"),
                None => "Their servers draw".to_owned(),
            };
            let (mean, peak) = (kilowatts(power.servers_mean_kw * 1e3), kilowatts(power.servers_peak_kw * 1e3));
            let _ = write!(text, " {servers} {mean} on average, {peak} at their peak.");
        }
        if let Some(split) = &plan.split {
            let _ = write!(text, " {}", split.sentence());
        }
        let Some(one) = plan.headroom.first() else { return text };
        let seeds = one.seeds.len();
        let worst = plan.errors.iter().filter(|one| one.binds).max_by(|a, b| a.error.total_cmp(&b.error));
        let sure = match worst {
            Some(worst) => {
                let (error, runs) = (worst.error * 100.0, worst.runs);
                let whose = if worst.elsewhere {
                    format!("that nine in ten of {runs} measured runs, most of them on other GPUs, are within")
                } else {
                    format!("by which {runs} measured runs on this GPU are off")
                };
                format!("95 % over {seeds} seeds, with the {error:.1} % of {} {whose}", worst.figure)
            }
            None => format!("95 % over {seeds} seeds; how far the simulation is off here was never measured"),
        };
        let _ = write!(
            text,
            " They hold until {:.2}× the load ({:.2} to {:.2}: {sure}), where 2× is {}.",
            one.factor, one.low, one.high, one.twice
        );
        if plan.too_close_to_call {
            let resolution = (RESOLUTION - 1.0) * 100.0;
            text += if one.high < 1.0 + resolution / 100.0 {
                " Over other seeds the promises are missed: take a replica more."
            } else {
                " Too close to call: the interval holds today's load. A replica more is the cautious choice."
            };
        }
        text
    }
}

/// Kilowatts of a fleet; its peak is that of all its runs.
fn power(watts: Watts, peak: Option<f64>) -> report::Power {
    let peak = peak.unwrap_or(watts.peak);
    report::Power {
        gpus_mean_kw: watts.gpus / 1e3,
        servers_mean_kw: watts.mean / 1e3,
        servers_peak_kw: peak / 1e3,
        facility_mean_kw: watts.pue.map(|pue| watts.mean * pue / 1e3),
        facility_peak_kw: watts.pue.map(|pue| peak * pue / 1e3),
    }
}

/// The trial of a size at a stage.
fn trial_of(candidate: &Candidate, size: Size, stage: Stage) -> Option<&Trial> {
    candidate.trials.iter().rev().find(|(other, at, _)| *other == size && *at == stage).map(|(.., trial)| trial)
}

/// What a fleet that misses its promises is short of.
fn bound_by(summary: &Summary, point: &Point, trial: &Trial) -> String {
    let missed = trial.verdict.kept.iter().find(|kept| kept.met == Some(false));
    let first_token =
        missed.is_some_and(|kept| kept.metric.starts_with("ttft")) || trial.verdict.misses.0 > trial.verdict.misses.1;
    let (full, preempted) = (summary.load.kv_usage_max, summary.work.preemptions);
    if full >= FULL {
        return format!(
            "KV memory: a replica's pool is {} full at most, and {preempted} requests were preempted",
            Unit::Share.show(full)
        );
    }
    let seqs = point.scenario.scheduler.needs().max_seqs;
    if summary.load.running_max >= seqs && summary.load.waiting_max > 0 {
        return format!("requests at once: a replica runs {seqs}, the scheduler's limit, and others wait");
    }
    let busy = summary.metric("utilization").unwrap_or(0.0);
    let share = Unit::Share.show(busy);
    match (first_token, busy >= BUSY) {
        (true, true) => format!("prefill compute: replicas are {share} of the time in steps, and prompts wait"),
        (true, false) => format!("queueing: bursts wait, though replicas are only {share} of the time in steps"),
        (false, _) => {
            let seqs = number(summary.batches.seqs.mean().unwrap_or(0.0));
            format!("decode steps: they take too long with the {seqs} sequences of a step, beside prompts or alone")
        }
    }
}
