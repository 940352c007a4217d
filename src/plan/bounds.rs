//! What no number of replicas can beat, and how many are too few: bounds from the cost model alone, before anything is simulated.
//!
//! All of them are lower bounds on time. A prompt alone on an idle replica is as fast as it can be; work that must be done within the
//! time there is takes at least its cheapest tokens.

use overbook_reports::format::{number, seconds};
use overbook_scenarios::Point;
use overbook_scenarios::scenario::PlanMode;
use overbook_sim::cost::{CostModel, PrefillPart, StepShape};

use super::judge::Promises;
use super::trial::Load;

/// Part of a bound that is taken: the cheapest step may lie between those that are looked at.
const SURE: f64 = 0.9;

/// Parts of the largest step that are looked at for the cheapest token, and lengths of the prompts in it: short ones have little
/// attention, long ones few sequences.
const FRACTIONS: [u32; 4] = [1, 2, 4, 8];
const LENGTHS: [u32; 4] = [16, 128, 1024, u32::MAX];

/// What is known of a shape before it is simulated.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bounds {
    /// Replicas at least: those that compute prompts, where they are apart.
    pub(crate) replicas: u32,
    /// Replicas that decode at least, where they are apart.
    pub(crate) decode: u32,
    /// Why fewer are too few.
    pub(crate) why: String,
    /// Why no number is enough.
    pub(crate) hopeless: Option<String>,
}

/// Costs of the cheapest work [s].
struct Cheapest {
    /// A token in the linear layers.
    token: f64,
    /// A token that decodes: its share of a step, without attention.
    decode: f64,
    /// A token of context that a decode attends to.
    context: f64,
    /// A decode step of one request.
    step: f64,
}

/// Bounds of a shape on a load.
pub(crate) fn bounds(
    point: &Point,
    costs: &mut [Box<dyn CostModel>],
    load: &Load,
    promises: &Promises,
    mode: PlanMode,
) -> Bounds {
    let none = Bounds { replicas: 1, decode: 1, why: String::new(), hopeless: None };
    let Ok((limits, _)) = point.kinds()[0].limits() else { return none };
    let [cost, others @ ..] = costs else { return none };
    let cost = &mut **cost;
    let needs = point.scenario.scheduler.needs();
    let step_tokens = needs.step_tokens.at(limits.max_model_len).max(1);
    // Cached prompts and jumps of single steps below their mean are no part of these bounds.
    if cost.jitter().is_some()
        || others.iter().any(|other| other.jitter().is_some())
        || point.scenario.engine.retention.is_some()
        || load.judged().any(|a| a.content.is_some())
    {
        return none;
    }
    let seqs = needs.max_seqs.max(1);
    // Where the sides differ, those that decode are the second.
    let decodes = others.first_mut().map(|other| cheapest(&mut **other, step_tokens, seqs));
    let cheapest = cheapest(cost, step_tokens, seqs);
    let decodes = decodes.as_ref().unwrap_or(&cheapest);
    let mut prompts: Vec<(u32, u32)> = load.judged().map(|a| (a.prompt_tokens, a.output_tokens)).collect();
    prompts.sort_unstable();
    let n = prompts.len() as f64;
    let longest_kept = |share: f64| ((n * share).ceil() as usize).clamp(1, prompts.len().max(1)) - 1;
    let mut bounds = none;
    if prompts.is_empty() {
        return bounds;
    }
    if let Some((most, share)) = promises.ttft() {
        let (prompt, _) = prompts[longest_kept(share)];
        let alone = prompt_alone(cost, prompt, step_tokens);
        if alone > most.as_secs_f64() {
            bounds.hopeless = Some(format!(
                "a prompt of {prompt} tokens alone takes {} to its first token, {} are promised",
                seconds(alone),
                seconds(most.as_secs_f64())
            ));
            return bounds;
        }
        let tokens: u64 = prompts[..=longest_kept(share)].iter().map(|(prompt, _)| u64::from(*prompt)).sum();
        let time = load.until().as_secs_f64() + most.as_secs_f64();
        let needed = SURE * tokens as f64 * cheapest.token / time;
        bounds.take_prompts(needed);
    }
    if let Some((most, share)) = promises.tpot() {
        let most_s = most.as_secs_f64();
        if decodes.step * SURE > most_s {
            let (step, promised) = (seconds(decodes.step), seconds(most_s));
            bounds.hopeless = Some(format!("a decode step of one request alone takes {step}, {promised} are promised"));
            return bounds;
        }
        if let Some((ttft, _)) = promises.ttft() {
            // The cheapest answers first, as many as must be in time.
            let own = if mode == PlanMode::Apart { decodes.decode } else { cheapest.token };
            let work = |(prompt, output): &(u32, u32)| {
                let (prompt, more) = (f64::from(*prompt), f64::from(output.saturating_sub(1)));
                more * (own + decodes.context * (prompt + more / 2.0))
            };
            let mut works: Vec<(f64, u32)> = prompts.iter().map(|one| (work(one), one.1)).collect();
            works.sort_by(|a, b| a.0.total_cmp(&b.0));
            let both = promises.ttft().map_or(share, |(_, other)| share + other - 1.0);
            let kept = &works[..=longest_kept(both.max(0.0))];
            let longest = works.iter().map(|(_, output)| *output).max().unwrap_or(1);
            let time = load.until().as_secs_f64() + ttft.as_secs_f64() + most_s * f64::from(longest);
            bounds.take_decodes(SURE * kept.iter().map(|(work, _)| work).sum::<f64>() / time, mode);
        }
    }
    bounds
}

impl Bounds {
    fn take_prompts(&mut self, needed: f64) {
        let least = at_least(needed);
        if least > self.replicas {
            self.replicas = least;
            self.why = format!("the prompts alone keep {} replicas busy at full speed", number(needed));
        }
    }

    fn take_decodes(&mut self, needed: f64, mode: PlanMode) {
        let least = at_least(needed);
        let held = if mode == PlanMode::Apart { &mut self.decode } else { &mut self.replicas };
        if least > *held {
            *held = least;
            self.why = format!("the answers alone keep {} replicas busy at full speed", number(needed));
        }
    }
}

/// The whole number of replicas that so much work needs; at least one.
fn at_least(needed: f64) -> u32 {
    (needed - 1e-9).ceil().clamp(1.0, f64::from(u32::MAX)) as u32
}

fn cheapest(cost: &mut dyn CostModel, step_tokens: u32, max_seqs: u32) -> Cheapest {
    let mut token = f64::INFINITY;
    for (fraction, length) in FRACTIONS.into_iter().flat_map(|fraction| LENGTHS.map(|length| (fraction, length))) {
        let all = (step_tokens / fraction).max(1);
        let length = length.min(all);
        let prefill = vec![PrefillPart { tokens: length, past: 0 }; (all / length) as usize];
        let shape = StepShape { decode_seqs: 0, decode_context: 0, prefill: &prefill, prefill_ends: 0 };
        let tokens = shape.tokens() as f64;
        token = token.min(cost.step(&shape).device.as_ns_f64() * 1e-9 / tokens);
    }
    let (mut decode, mut context) = (f64::INFINITY, f64::INFINITY);
    let seqs = [1, 8, 32, 64, 128, 256, 512, 1024, max_seqs].into_iter().filter(|seqs| *seqs <= max_seqs);
    for seqs in seqs {
        let one = cost.decode(seqs, u64::from(seqs));
        decode = decode.min(one.base.as_ns_f64() * 1e-9 / f64::from(seqs));
        context = context.min(one.per_context.as_ns_f64() * 1e-9);
    }
    let alone = cost.decode(1, 1);
    Cheapest { token, decode, context, step: (alone.base + alone.per_context).as_ns_f64() * 1e-9 }
}

/// Time on the device of a prompt that has a replica for itself, step by step [s].
fn prompt_alone(cost: &mut dyn CostModel, prompt: u32, step_tokens: u32) -> f64 {
    let (mut past, mut total) = (0, 0.0);
    while past < prompt {
        let tokens = step_tokens.min(prompt - past);
        let prefill = [PrefillPart { tokens, past }];
        let shape = StepShape { decode_seqs: 0, decode_context: 0, prefill: &prefill, prefill_ends: 0 };
        total += cost.step(&shape).device.as_ns_f64() * 1e-9;
        past += tokens;
    }
    total
}
