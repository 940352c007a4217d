//! The A100's law against Splitwise's characterisation: vLLM of 2023, one batch at a time, peak and mean of a request of 128 tokens of output.
//!
//! That engine launched every kernel from the host: a token of Llama-2-70B took 43 to 46 ms on 4 and on 8 GPUs alike, three to five times the
//! kernels' own time. The law counts a step as busy from end to end and draws the floor of a busy GPU in the gaps too.

use std::collections::BTreeMap;

use overbook_sim::cost::{CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::model::{KvDtype, ModelSpec, WeightDtype};
use overbook_sim::power::simple::Seen;
use overbook_sim::power::{Activity, PowerLaw, StepWork};
use overbook_sim::units::Watts;
use overbook_test_groups::in_clone;

use super::others::Others;
use super::{Errors, step_work};
use crate::{gpu, model, rows};

/// Output tokens of a request.
const OUTPUT: u32 = 128;

/// BLOOM (bigscience/bloom, `config.json`): 70 layers of 14,336, 112 heads with keys and values of their own, no gate, tied embeddings.
fn bloom() -> ModelSpec {
    let (hidden, layers, heads, kv_heads, head_dim) = (14_336, 70, 112, 112, 128);
    let shape = ModelSpec { hidden, layers, heads, kv_heads, head_dim, ..model("llama-2-70b") };
    let (intermediate, vocab) = (57_344, 250_880);
    ModelSpec { name: "BLOOM".to_owned(), intermediate, vocab, gated: false, tied_embeddings: true, ..shape }
}

/// One row of the table.
struct Request {
    model: String,
    prompt: u32,
    batch: u32,
    peak: f64,
    mean: f64,
    prompt_s: f64,
    token_s: f64,
    gpus: u32,
    steps: StepWork,
}

impl Request {
    fn read(cells: &[String]) -> Request {
        let number = |at: usize| -> f64 { cells[at].parse().unwrap() };
        let spec = if cells[0] == "bloom-176b" { bloom() } else { model("llama-2-70b") };
        Request {
            model: format!("{} TP{}", cells[0], cells[1]),
            prompt: number(2) as u32,
            batch: number(3) as u32,
            peak: number(4),
            mean: number(5),
            prompt_s: number(6) / 1e3,
            token_s: number(7) / 1e3,
            gpus: number(1) as u32,
            steps: step_work(&spec, number(1) as u32, WeightDtype::Bf16),
        }
    }

    /// The prompt's step, and the mean step of a token.
    fn activities(&self, law: &PowerLaw) -> (Activity, Activity) {
        let prefill = vec![PrefillPart { tokens: self.prompt, past: 0 }; self.batch as usize];
        let prompt = StepShape { decode_seqs: 0, decode_context: 0, prefill: &prefill, prefill_ends: self.batch };
        let context = u64::from(self.batch) * u64::from(self.prompt + OUTPUT / 2);
        let token = StepShape { decode_seqs: self.batch, decode_context: context, prefill: &[], prefill_ends: 0 };
        let of = |shape: &StepShape<'_>, seconds| law.activity(&self.steps, self.steps.of(shape), seconds);
        (of(&prompt, self.prompt_s), of(&token, self.token_s))
    }

    /// Mean over the request of a power while the prompt is computed and one while tokens are made.
    fn mean_of(&self, prompt: f64, token: f64) -> f64 {
        let decoding = self.token_s * f64::from(OUTPUT - 1);
        (prompt * self.prompt_s + token * decoding) / (self.prompt_s + decoding)
    }
}

fn read() -> Vec<Request> {
    let requests: Vec<Request> =
        rows(&in_clone("power/splitwise-a100.csv")).iter().map(|cells| Request::read(cells)).collect();
    assert_eq!(requests.len(), 41);
    requests
}

#[test]
fn the_law_and_the_watts_of_2023() {
    let requests = read();
    let spec = gpu("a100-80");
    let law = PowerLaw::of(&spec).unwrap();
    let tdp = spec.tdp.0;
    let mut sets: BTreeMap<(&str, String), Errors> = BTreeMap::new();
    for request in &requests {
        let (prompt, token) = request.activities(&law);
        // The table's peak is of 100 ms: the limiter is too late for prompts of that length, so nothing is cut off.
        let (peak, calm) = (law.demand(&prompt, 1.0), law.settled(&token, None));
        let mean = request.mean_of(law.settled(&prompt, None), calm);
        let name = request.model.clone();
        eprintln!(
            "  {name} {}x{}: peak {:.2} of {:.2}, mean {:.2} of {:.2} TDP; prompt c {:.3} m {:.3}, token c {:.3} m {:.3}",
            request.batch,
            request.prompt,
            peak / tdp,
            request.peak,
            mean / tdp,
            request.mean,
            prompt.compute,
            prompt.memory,
            token.compute,
            token.memory,
        );
        for name in [name, "all".to_owned()] {
            sets.entry(("peak", name.clone())).or_default().add(peak, request.peak * tdp);
            sets.entry(("mean", name)).or_default().add(mean, request.mean * tdp);
        }
        for (name, other) in Others::a100() {
            let seen =
                |prompt, activity: Activity| Seen { prompt, batch: f64::from(request.batch), mfu: activity.compute };
            let (at_prompt, at_token) = (other.watts(&seen(true, prompt)), other.watts(&seen(false, token)));
            sets.entry(("peak", name.to_owned())).or_default().add(at_prompt, request.peak * tdp);
            sets.entry(("mean", name.to_owned()))
                .or_default()
                .add(request.mean_of(at_prompt, at_token), request.mean * tdp);
        }
    }
    for (key, errors) in &sets {
        eprintln!("{key:?}: {}", errors.summary());
    }
    // Both miss the bar of 8 %; docs/power.md says by how much and why. These are the stated errors, of coefficients fitted elsewhere.
    let of = |figure: &'static str, name: &str| &sets[&(figure, name.to_owned())];
    assert!(of("mean", "all").median() < 20.0 && of("mean", "all").bias() > 0.0);
    assert!(of("peak", "all").median() < 20.0 && of("peak", "all").bias() < 0.0);
    for other in ["utilisation", "batch"] {
        assert!(of("mean", other).median() > of("mean", "all").median(), "{other}");
    }
}

/// Gaps between kernels explain the means of 4 and 8 GPUs: with a GPU that is busy only while kernels run, and draws its idle power in the
/// gaps, the law comes out low where it was high before, and what was measured lies between. On 2 GPUs, busy nearly all the time, it stays high.
#[test]
fn means_lie_between_a_gpu_busy_throughout_and_one_busy_with_kernels() {
    let spec = gpu("a100-80");
    let law = PowerLaw::of(&spec).unwrap();
    let (mut busy, mut kernels, mut between, mut all) = (Errors::default(), Errors::default(), 0, 0);
    for request in read() {
        let (prompt, token) = request.activities(&law);
        let model = if request.model.starts_with("bloom") { bloom() } else { model("llama-2-70b") };
        let (weights, kv) = (WeightDtype::Bf16, KvDtype::Bf16);
        let mut times = Roofline::new(&spec, &model, request.gpus, weights, kv, HostCost::ZERO, 64).unwrap();
        let context = u64::from(request.batch) * u64::from(request.prompt + OUTPUT / 2);
        let step = StepShape { decode_seqs: request.batch, decode_context: context, prefill: &[], prefill_ends: 0 };
        let share = (times.step(&step).device.as_ns_f64() / 1e9 / request.token_s).min(1.0);
        let prompt = law.settled(&prompt, None);
        let mean = |token: &Activity| request.mean_of(prompt, law.settled(token, None));
        let (high, low) = (mean(&token), mean(&Activity { busy: share, ..token }));
        let measured = request.mean * spec.tdp.0;
        busy.add(high, measured);
        kernels.add(low, measured);
        let name = format!("{} {}x{}", request.model, request.batch, request.prompt);
        eprintln!("  {name}: kernels {share:.2} of the time, {low:.0} to {high:.0}, measured {measured:.0} W");
        if request.gpus > 2 {
            between += u32::from((low..high).contains(&measured));
            all += 1;
        } else {
            assert!(share > 0.75 && low * 1.02 > measured, "{name}");
        }
    }
    eprintln!("busy throughout: {}\nbusy with kernels: {}", busy.summary(), kernels.summary());
    eprintln!("{between} of {all} between");
    assert!(between * 5 >= all * 4, "{between} of {all}");
}

/// What the means hang on: the published floor that goes with the weights in memory, `c_w`. The other coefficients as they are and no such floor,
/// the means of all four layouts lie within the bar. Nothing else was changed, and nothing fitted.
#[test]
fn means_hang_on_the_floor_of_resident_weights() {
    let spec = gpu("a100-80");
    let law = PowerLaw::of(&spec).unwrap();
    let mut bare = spec.clone();
    bare.power.as_mut().unwrap().resident = Watts(0.0);
    let bare = PowerLaw::of(&bare).unwrap();
    let mut sets: BTreeMap<String, (Errors, Errors)> = BTreeMap::new();
    for request in read() {
        let mean = |law: &PowerLaw| {
            let (prompt, token) = request.activities(law);
            request.mean_of(law.settled(&prompt, None), law.settled(&token, None))
        };
        for name in [request.model.clone(), "all".to_owned()] {
            let (with, without) = sets.entry(name).or_default();
            with.add(mean(&law), request.mean * spec.tdp.0);
            without.add(mean(&bare), request.mean * spec.tdp.0);
        }
    }
    for (name, (with, without)) in &sets {
        eprintln!("{name}: published {}; without the floor {}", with.summary(), without.summary());
    }
    let (with, without) = &sets["all"];
    assert!(with.median() > 12.0 && without.median() < 8.0, "no longer as stated");
    assert!(sets.values().all(|(_, without)| without.median() < 10.0), "no longer as stated");
}

/// What the characterisation says of prompts and tokens: peaks rise with the prompt, means hardly do. (Measured peaks rise by 1.5 to 2.2.)
#[test]
fn peaks_rise_with_the_prompt_and_means_stay() {
    let law = PowerLaw::of(&gpu("a100-80")).unwrap();
    let requests = read();
    let of = |model: &str, prompt: u32| {
        let request = requests.iter().find(|r| r.model == model && r.prompt == prompt && r.batch == 1).unwrap();
        let (at_prompt, at_token) = request.activities(&law);
        let peak = law.demand(&at_prompt, 1.0);
        (peak, request.mean_of(law.settled(&at_prompt, None), law.settled(&at_token, None)))
    };
    for model in ["bloom-176b TP8", "llama2-70b TP8", "llama2-70b TP4"] {
        let (short, long) = (of(model, 128), of(model, 2_048));
        assert!(long.0 > 1.03 * short.0, "{model}: peak {} {}", short.0, long.0);
        assert!((long.1 / short.1 - 1.0).abs() < 0.08, "{model}: mean {} {}", short.1, long.1);
    }
}
