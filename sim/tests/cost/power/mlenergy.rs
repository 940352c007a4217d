//! The law against the mean watts of 228 runs of vLLM by another laboratory (ML.ENERGY v3): H100 and B200, 8B to 671B, dense and with
//! experts, batches of 8 to 4,096. The rates are those that were measured: no step time of ours is in here.
//!
//! Runs keep their batch full, so a second has output/batch steps, and output/length prompts. Lengths of prompts are not published: 300 tokens
//! for chat and for questions (steps with a prompt last as much longer as 250 to 350 tokens take, by the medians and means of inter-token latency).
//! Code completions have longer prompts and short outputs; without those lengths they are not judged.

use std::collections::BTreeMap;

use overbook_sim::cost::{CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{KvDtype, ModelSpec, WeightDtype};
use overbook_sim::hardware::parallel::{Exchange, ExpertParallel, Parallelism};
use overbook_sim::power::simple::Seen;
use overbook_sim::power::{Activity, PowerLaw, StepWork, Work};
use overbook_test_groups::in_clone;

use super::others::Others;
use super::{Errors, step_work};
use crate::{gpu, model, rows};

/// Tokens of a prompt.
const PROMPT: u32 = 300;

/// Steps that a run is taken apart into.
const STEPS: u64 = 1_000;

/// One run.
pub(super) struct Run {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) gpu: String,
    pub(super) task: String,
    pub(super) experts: bool,
    spec: ModelSpec,
    spread: Parallelism,
    weights: WeightDtype,
    steps: StepWork,
    /// Sequences that decode.
    pub(super) batch: f64,
    /// Output tokens per second, and of a request.
    rate: f64,
    length: f64,
    /// Measured, each GPU [W].
    pub(super) watts: f64,
}

impl Run {
    fn read(cells: &[String]) -> Run {
        let number = |at: usize| -> f64 { cells[at].parse().unwrap() };
        let spec = model(&cells[1]);
        let gpus = number(3) as u32;
        let by_number = spec.moe.is_some() && !cells[0].contains("ep1");
        let spread = Parallelism {
            experts: by_number.then_some(ExpertParallel { exchange: Exchange::AllReduce, imbalance: 1.0 }),
            ..Parallelism::from(gpus)
        };
        let weights = match cells[4].as_str() {
            "bf16" => WeightDtype::Bf16,
            "fp8" => WeightDtype::Fp8,
            "mxfp4" => WeightDtype::Mxfp4,
            other => panic!("{other}"),
        };
        Run {
            id: cells[0].clone(),
            model: format!("{} {weights}", cells[1]),
            gpu: cells[2].clone(),
            task: cells[5].clone(),
            experts: spec.moe.is_some(),
            steps: step_work(&spec, spread.clone(), weights),
            spec,
            spread,
            weights,
            batch: number(6),
            rate: number(7),
            length: number(8),
            watts: number(9),
        }
    }

    /// The work of many steps, and their measured time [s].
    fn work(&self) -> (Work, f64) {
        let mut work = Work::default();
        self.each(|shape, times| work = work + self.steps.of(shape) * times);
        (work, STEPS as f64 * self.batch / self.rate)
    }

    /// The time of these steps by the cost model [s].
    fn simulated(&self, gpu: &GpuSpec) -> f64 {
        let (weights, kv) = (self.weights, KvDtype::Bf16);
        let mut costs =
            Roofline::new(gpu, &self.spec, self.spread.clone(), weights, kv, HostCost::default(), 8192).unwrap();
        let mut seconds = 0.0;
        self.each(|shape, times| {
            let cost = costs.step(shape);
            seconds += times as f64 * (cost.device + cost.host).as_ns_f64() / 1e9;
        });
        seconds
    }

    /// Shapes of many steps, and how often each comes: prompts are spread over the steps as evenly as whole prompts go.
    fn each(&self, mut see: impl FnMut(&StepShape<'_>, u64)) {
        let seqs = self.batch.round() as u32;
        let context = (self.batch * (f64::from(PROMPT) + self.length / 2.0)) as u64;
        let per_step = self.batch / self.length;
        let more = (per_step.fract() * STEPS as f64).round() as u64;
        let prompts = per_step as usize;
        for (prompts, times) in [(prompts, STEPS - more), (prompts + 1, more)] {
            let prefill = vec![PrefillPart { tokens: PROMPT, past: 0 }; prompts];
            let ends = prompts as u32;
            see(
                &StepShape { decode_seqs: seqs, decode_context: context, prefill: &prefill, prefill_ends: ends },
                times,
            );
        }
    }

    pub(super) fn activity(&self, law: &PowerLaw) -> Activity {
        let (work, seconds) = self.work();
        law.activity(&self.steps, work, seconds)
    }

    /// What simpler laws see of it.
    fn seen(&self, activity: &Activity) -> Seen {
        // Prompts take a small part of the time of these runs.
        Seen { prompt: false, batch: self.batch, mfu: activity.compute }
    }
}

/// All runs.
pub(super) fn runs() -> Vec<Run> {
    let runs: Vec<Run> = rows(&in_clone("power/mlenergy.csv")).iter().map(|cells| Run::read(cells)).collect();
    assert_eq!(runs.len(), 244);
    runs
}

fn judged(runs: &[Run]) -> impl Iterator<Item = &Run> {
    runs.iter().filter(|run| run.task != "sourcegraph-fim")
}

#[test]
fn the_law_and_the_watts_of_vllm() {
    let runs = runs();
    let (mut sets, mut models): (BTreeMap<_, Errors>, BTreeMap<_, Errors>) = Default::default();
    for run in &runs {
        let law = PowerLaw::of(&gpu(&run.gpu)).unwrap();
        let activity = run.activity(&law);
        let watts = law.settled(&activity, None);
        let kind = match (run.task.as_str(), run.experts) {
            ("sourcegraph-fim", _) => "completion",
            (_, true) => "experts",
            (_, false) => "dense",
        };
        let (gpu, task) = (run.gpu.as_str(), run.task.as_str());
        sets.entry((gpu, kind)).or_default().add(watts, run.watts);
        if kind == "experts" {
            let kind = if run.weights == WeightDtype::Fp8 { "experts, fp8" } else { "experts, others" };
            sets.entry((gpu, kind)).or_default().add(watts, run.watts);
        }
        models.entry((gpu, kind, run.model.as_str(), task)).or_default().add(watts, run.watts);
        let Activity { resident, compute, memory, .. } = activity;
        eprintln!("  {}: {watts:.0} of {:.0} W; w {resident:.2}, c {compute:.3}, m {memory:.3}", run.id, run.watts);
    }
    for (key, errors) in &models {
        eprintln!("{key:?}: {}", errors.summary());
    }
    for (key, errors) in &sets {
        eprintln!("{key:?}: {}", errors.summary());
    }
    // The bar: 8 % at the median. H100: published coefficients, nothing fitted here.
    assert!(sets[&("h100", "dense")].median() < 8.0);
    // The B200's are fitted on these very runs; what they are worth is in the next test.
    assert!(sets[&("b200", "dense")].median() < 5.0);
    // Experts miss the bar, low; docs/power.md says so, and why.
    for gpu in ["h100", "b200"] {
        let experts = &sets[&(gpu, "experts")];
        assert!((12.0..25.0).contains(&experts.median()) && experts.bias() < -8.0, "{gpu}: no longer as stated");
        // Two misses: kernels for fp8 in blocks are busy at a fifth of the bandwidth, at every batch; the others are half as far off.
        let (blocks, others) = (&sets[&(gpu, "experts, fp8")], &sets[&(gpu, "experts, others")]);
        assert!(blocks.bias() < -25.0 && others.median() < 14.0, "{gpu}: no longer as stated");
    }
}

/// The same with step times of the cost model instead of measured ones: what a simulated fleet would say of these runs.
#[test]
fn watts_from_simulated_step_times() {
    let (mut watts, mut times) = (Errors::default(), Errors::default());
    let (gpu, runs) = (gpu("h100"), runs());
    let law = PowerLaw::of(&gpu).unwrap();
    for run in judged(&runs).filter(|run| run.gpu == "h100" && !run.experts) {
        let (work, measured) = run.work();
        let simulated = run.simulated(&gpu);
        let predicted = law.settled(&law.activity(&run.steps, work, simulated), None);
        times.add(simulated, measured);
        watts.add(predicted, run.watts);
        eprintln!("  {}: {predicted:.0} of {:.0} W, time {:+.1} %", run.id, run.watts, 100.0 * times.0.last().unwrap());
    }
    eprintln!("times: {}\nwatts: {}", times.summary(), watts.summary());
    assert!(watts.median() < 10.0, "{}", watts.summary());
}

/// Dense models, each law with its published constants: ours is nearest.
#[test]
fn simpler_laws_are_further_off() {
    let runs = runs();
    let law = PowerLaw::of(&gpu("h100")).unwrap();
    let mut errors: BTreeMap<&str, Errors> = BTreeMap::new();
    for run in judged(&runs).filter(|run| run.gpu == "h100" && !run.experts) {
        let activity = run.activity(&law);
        errors.entry("law").or_default().add(law.settled(&activity, None), run.watts);
        for (name, other) in Others::h100() {
            errors.entry(name).or_default().add(other.watts(&run.seen(&activity)), run.watts);
        }
    }
    for (name, errors) in &errors {
        eprintln!("{name}: {}", errors.summary());
    }
    let ours = errors["law"].median();
    assert!(errors.iter().all(|(name, other)| *name == "law" || other.median() > ours));
    assert_eq!(errors.len(), 4);
}

/// The B200's coefficients fitted without one model at a time, that one judged: what they are worth on a model that they have not seen.
#[test]
fn provisional_coefficients_of_the_b200_transfer() {
    let runs = runs();
    let gpu = gpu("b200");
    let law = PowerLaw::of(&gpu).unwrap();
    let spec = law.spec();
    let points: Vec<(&str, f64, f64, f64)> = judged(&runs)
        .filter(|run| run.gpu == "b200" && !run.experts)
        .map(|run| {
            let activity = run.activity(&law);
            let compute = activity.compute.powf(spec.compute_exponent);
            (run.model.as_str(), compute, activity.memory.powf(spec.memory_exponent), run.watts)
        })
        .collect();
    // Least squares of relative errors in two unknowns, over the runs that no limit holds.
    let fit = |without: &str| {
        let (mut cc, mut cm, mut mm, mut c, mut m) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (_, compute, memory, watts) in
            points.iter().filter(|(model, .., watts)| *model != without && *watts < 0.94 * gpu.tdp.0)
        {
            let (x, y, above) = (compute / watts, memory / watts, 1.0 - spec.idle.0 / watts);
            (cc, cm, mm, c, m) = (cc + x * x, cm + x * y, mm + y * y, c + x * above, m + y * above);
        }
        let determinant = cc * mm - cm * cm;
        ((c * mm - m * cm) / determinant, (m * cc - c * cm) / determinant)
    };
    let (compute, memory) = fit("");
    eprintln!("all: compute {compute:.0} W, memory {memory:.0} W");
    assert!((compute / spec.compute.0 - 1.0).abs() < 0.02 && (memory / spec.memory.0 - 1.0).abs() < 0.02);
    let mut left_out = Errors::default();
    for (model, x, y, watts) in &points {
        let (compute, memory) = fit(model);
        left_out.add((spec.idle.0 + compute * x + memory * y).min(gpu.tdp.0), *watts);
    }
    eprintln!("left out: {}", left_out.summary());
    assert!(left_out.median() < 8.0, "{}", left_out.summary());
}

/// 13 runs by the figures that the benchmark's own page has: joules per output token are watts × GPUs / rate.
#[test]
fn the_runs_are_the_published_ones() {
    let runs = runs();
    let of = |id: &str| runs.iter().find(|run| run.id == id).unwrap_or_else(|| panic!("{id}"));
    let published = [
        ("mle-lm-llama-3.1-8b-instruct-h100x1-tp1ep1dp1-b8", 486.0, 0.455, 1.0),
        ("mle-lm-llama-3.1-8b-instruct-h100x1-tp1ep1dp1-b512", 688.0, 0.070, 1.0),
        ("mle-lm-llama-3.1-70b-instruct-h100x4-tp4ep1dp1-b128", 546.0, 0.563, 4.0),
        ("mle-lm-llama-3.1-70b-instruct-h100x4-tp4ep1dp1-b512", 623.0, 0.421, 4.0),
    ];
    for (id, watts, joules, gpus) in published {
        let run = of(id);
        assert!((run.watts - watts).abs() < 0.5, "{id}");
        assert!((run.watts * gpus / run.rate - joules).abs() < 0.001, "{id}");
    }
}

/// An open load, by powertrace-sim (`validate_qwen3-8b`, Poisson at 4/s for 51.6 s, Qwen3-8B on one H100, vLLM 0.10.1): 66,356 prompt
/// and 42,672 output tokens of 200 requests in 6,339 iterations until second 51.2, busy in 99 % of the samples, 411.5 W in the mean.
#[test]
fn an_open_load() {
    let law = PowerLaw::of(&gpu("h100")).unwrap();
    let steps = step_work(&model("qwen3-8b"), 1, WeightDtype::Bf16);
    // Of each token that was made: 440 tokens of context in the mean. Prompts as 200 of the same length.
    let decode = StepShape { decode_seqs: 42_672, decode_context: 42_672 * 440, prefill: &[], prefill_ends: 0 };
    let prefill = [PrefillPart { tokens: 332, past: 0 }; 200];
    let prompts = StepShape { decode_seqs: 0, decode_context: 0, prefill: &prefill, prefill_ends: 200 };
    let empty = StepShape { decode_seqs: 1, decode_context: 0, prefill: &[], prefill_ends: 0 };
    let once = Work { weight_bytes: steps.of(&empty).weight_bytes, ..Work::default() };
    let mut work = steps.of(&decode) + steps.of(&prompts);
    // Weights are read once an iteration.
    work.weight_bytes = (once * 6_339).weight_bytes;
    let activity = law.activity(&steps, work, 51.2 * 0.99);
    let watts = 0.99 * law.settled(&activity, None) + 0.01 * law.settled(&Activity::IDLE, None);
    eprintln!("{watts:.0} of 411.5 W: {:+.1} %", 100.0 * (watts / 411.5 - 1.0));
    assert!((watts / 411.5 - 1.0).abs() < 0.12);
}
