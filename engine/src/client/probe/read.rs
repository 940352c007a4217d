//! From replies to steps of known shape.

use std::collections::BTreeMap;

use overbook_sim::calibrate::inferred::SeenStep;
use overbook_sim::calibrate::median;
use overbook_sim::calibrate::steps::StepSample;
use overbook_sim::cost::PrefillPart;
use overbook_sim::time::Time;

use super::super::reply::Reply;
use super::plan::{CHUNKS, Probe, ProbePlan};
use super::send::Answered;
use crate::calibrate::Anchor;

/// Gaps that a decode probe needs for a median.
const GAPS: usize = 8;
/// A prompt's first token this far from any other's, as a share of a step, came in a step of its own.
const APART: f64 = 0.35;

/// Pieces this near, as a share of a step, were sent together.
const AT_THE_MOMENT: f64 = 0.1;

/// Shapes that count as the same: kind, sequences that decode, tokens of the prompt, tokens before.
type Key = (&'static str, u32, u32, u32);

/// Times of one shape.
#[derive(Debug)]
struct Pooled {
    sample: StepSample,
    awaited: bool,
    contexts: Vec<u64>,
    /// All times [µs], and their medians by round.
    times_us: Vec<f64>,
    medians_us: Vec<f64>,
}

/// What the replies say.
#[derive(Default, Debug)]
pub(super) struct Readings {
    pools: BTreeMap<Key, Pooled>,
    /// Times to first tokens of prompts longer than a step, by steps.
    whole_us: BTreeMap<u32, Vec<f64>>,
    /// Prompts beside decoding sequences whose first tokens came with the others', and by themselves.
    together: u32,
    apart: u32,
    /// By tokens of a prompt: how often it took as many steps as was thought, and the numbers when it did not.
    counted: BTreeMap<u32, (u32, Vec<f64>)>,
    /// Whether there are steps of prompts that began before; known with the steps.
    pub(super) chunked: bool,
    /// Prompt tokens that the server had cached.
    pub(super) cached: u64,
    /// What single prompts waited for at the client beside their time in the engine, by the engine's own clock [µs].
    pub(super) away_us: Vec<f64>,
    /// Tokens of running sequences that a client heard between sending a prompt and its first token, which came in a single step.
    between: Vec<f64>,
    /// Lengths of decode steps beside which prompts were sent [µs].
    beside_us: Vec<f64>,
    /// Single decode steps ÷ the median of their shape.
    pub(super) ratios: Vec<f64>,
    /// Decode probes in which too few steps had all sequences.
    pub(super) short: Vec<String>,
}

fn us(from: Time, to: Time) -> f64 {
    to.since(from).0 as f64 / 1e3
}

fn prompt_tokens(reply: &Reply) -> u32 {
    reply.usage.map_or(reply.arrival.prompt_tokens, |usage| usage.prompt_tokens)
}

/// The shape of a step without its times.
fn shape(kind: &'static str, seqs: u32, prefill: Option<PrefillPart>, ends: u32) -> StepSample {
    StepSample {
        kind,
        decode_seqs: seqs,
        decode_context: 0,
        prefill: prefill.into_iter().collect(),
        prefill_ends: ends,
        device_us: 0.0,
        spread: 0.0,
        repeats: 0,
    }
}

impl Readings {
    pub(super) fn take(&mut self, plan: &ProbePlan, answered: &Answered) {
        let all = answered.replies.iter().chain(answered.beside.iter().map(|(_, reply)| reply));
        self.cached += all.filter_map(|reply| reply.usage).map(|usage| u64::from(usage.cached())).sum::<u64>();
        match answered.probe {
            Probe::Prompt { tokens } => self.prompt(plan, tokens, answered),
            Probe::Decode { seqs, context } => self.decode(seqs, context, answered),
            Probe::Mixed { seqs, .. } => self.mixed(plan, seqs, answered),
        }
    }

    fn put(&mut self, key: Key, sample: StepSample, awaited: bool, context: u64, mut times_us: Vec<f64>) {
        let middle = median(&mut times_us);
        let new = || Pooled { sample, awaited, contexts: vec![], times_us: vec![], medians_us: vec![] };
        let pooled = self.pools.entry(key).or_insert_with(new);
        pooled.contexts.push(context);
        pooled.medians_us.push(middle);
        pooled.times_us.extend(times_us);
    }

    fn prompt(&mut self, plan: &ProbePlan, planned: u32, answered: &Answered) {
        let Some((reply, first)) = answered.replies.first().and_then(|r| Some((r, *r.pieces.first()?))) else { return };
        let (tokens, time) = (prompt_tokens(reply), us(reply.sent, first));
        self.away_us.extend(answered.engine_us.map(|engine| time - engine));
        if planned > plan.max_tokens {
            // Nobody counts the steps of a prompt by itself: vLLM's own counter leaves out those without output. Prompts beside sequences
            // that decode show whether a step has as many tokens as is thought.
            self.whole_us.entry(tokens.div_ceil(plan.max_tokens)).or_default().push(time);
            return;
        }
        if planned == plan.max_tokens {
            self.whole_us.entry(1).or_default().push(time);
        }
        let part = PrefillPart { tokens, past: 0 };
        self.put(("prefill", 0, planned, 0), shape("prefill", 0, Some(part), 1), true, 0, vec![time]);
    }

    fn decode(&mut self, seqs: u32, context: u32, answered: &Answered) {
        let replies = &answered.replies;
        // From where all of them run to where the first one ends.
        let from = replies.iter().filter_map(|reply| reply.pieces.first()).max();
        let to = replies.iter().filter_map(|reply| reply.pieces.last()).min();
        let (Some(&from), Some(&to)) = (from, to) else { return };
        let (mut times, mut tokens) = (Vec::new(), 0.0);
        for reply in replies {
            let inside: Vec<usize> =
                (1..reply.pieces.len()).filter(|&n| reply.pieces[n - 1] >= from && reply.pieces[n] <= to).collect();
            times.extend(inside.iter().map(|&n| us(reply.pieces[n - 1], reply.pieces[n])));
            // The step of the n-th token attends to the prompt and n tokens after it.
            let at = inside.iter().sum::<usize>() as f64 / inside.len().max(1) as f64;
            tokens += f64::from(prompt_tokens(reply)) + at;
        }
        if times.len() < GAPS * seqs as usize {
            self.short.push(answered.probe.name());
            return;
        }
        self.put(("decode", seqs, context, 0), shape("decode", seqs, None, 0), false, tokens.round() as u64, times);
    }

    fn mixed(&mut self, plan: &ProbePlan, seqs: u32, answered: &Answered) {
        let room = plan.room(seqs);
        let mut gaps: Vec<f64> =
            answered.replies.iter().flat_map(|r| r.pieces.windows(2)).map(|p| us(p[0], p[1])).collect();
        let step = median(&mut gaps);
        for (planned, prompt) in &answered.beside {
            let Some(&first) = prompt.pieces.first() else { continue };
            // Of every sequence that decodes the token that came with the prompt's first one.
            let with: Vec<(&Reply, usize)> = answered
                .replies
                .iter()
                .filter_map(|reply| Some((reply, longest_gap(&reply.pieces, first, step)?)))
                .filter(|(_, n)| *n > CHUNKS as usize)
                .collect();
            if with.len() < answered.replies.len() {
                continue;
            }
            let mut away: Vec<f64> = with.iter().map(|(reply, n)| distance(reply.pieces[*n], first)).collect();
            if median(&mut away) > APART * step {
                self.apart += 1;
                continue;
            }
            self.together += 1;
            let tokens = prompt_tokens(prompt);
            let thought = tokens.div_ceil(room.max(1));
            match long_gaps(&with, step) {
                // Prompts do not slow down the others so much that steps could be counted.
                None if thought > 1 => {}
                Some(steps) if !self.as_thought(tokens, thought, steps) => {}
                _ if thought == 1 => {
                    let heard = |(reply, n): &(&Reply, usize)| {
                        reply.pieces[..*n].iter().filter(|&&piece| piece > prompt.sent).count() as f64
                    };
                    let mut heard: Vec<f64> = with.iter().map(heard).collect();
                    self.between.push(median(&mut heard));
                    self.beside_us.push(step);
                    let part = PrefillPart { tokens, past: 0 };
                    self.beside((seqs, *planned), part, 1, &with, 0);
                }
                _ => self.chunks(seqs, room, tokens, &with),
            }
        }
    }

    /// A step with a prompt, `back` steps before the one that ends it.
    fn beside(
        &mut self,
        (seqs, planned): (u32, u32),
        part: PrefillPart,
        ends: u32,
        with: &[(&Reply, usize)],
        back: usize,
    ) {
        let times = with.iter().map(|(reply, n)| us(reply.pieces[n - back - 1], reply.pieces[n - back])).collect();
        let context = with.iter().map(|(reply, n)| u64::from(prompt_tokens(reply)) + (n - back) as u64).sum();
        self.put(("mixed", seqs, planned, part.past), shape("mixed", seqs, Some(part), ends), false, context, times);
    }

    /// A prompt of several steps.
    fn chunks(&mut self, seqs: u32, room: u32, tokens: u32, with: &[(&Reply, usize)]) {
        let steps = tokens.div_ceil(room.max(1));
        for index in 0..steps {
            let past = index * room;
            let part = PrefillPart { tokens: room.min(tokens - past), past };
            let last = index + 1 == steps;
            self.beside((seqs, room), part, u32::from(last), with, (steps - 1 - index) as usize);
        }
    }

    /// Whether a prompt took as many steps as was thought; remembered.
    fn as_thought(&mut self, tokens: u32, thought: u32, steps: u32) -> bool {
        let (same, others) = self.counted.entry(tokens).or_default();
        if steps == thought {
            *same += 1;
        } else {
            others.push(f64::from(steps));
        }
        steps == thought
    }

    /// How many steps beyond the one that runs a server has planned when a prompt comes: 1 with asynchronous scheduling, else 0. A client hears
    /// the token of the step that runs, and of each planned one, before the prompt's. `away_us`: time between client and engine, during which
    /// a further step may end. `None` if that makes it unclear, or little was seen.
    pub(super) fn planned_ahead(&self, away_us: f64) -> Option<u32> {
        const LEAST: usize = 5;
        if self.between.len() < LEAST {
            return None;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let part = away_us / mean(&self.beside_us);
        let ahead = mean(&self.between) - 1.0 - part / 2.0;
        let whole = ahead.round().clamp(0.0, 1.0);
        (part < 0.8 && (ahead - whole).abs() < 0.4).then_some(whole as u32)
    }

    /// Whether prompts are computed beside sequences that decode; `None` if there was nothing to see.
    pub(super) fn mixes(&self) -> Option<bool> {
        (self.together + self.apart > 0).then_some(self.together >= self.apart)
    }

    /// Whether the steps of any prompt were counted.
    pub(super) fn counted(&self) -> bool {
        !self.counted.is_empty()
    }

    /// The tokens of the shortest prompt that mostly took another number of steps than was thought, and that number. A step that
    /// was held up now and then is no other number.
    pub(super) fn other_steps(&self) -> Option<(u32, u32)> {
        let mut other = self.counted.iter().filter(|(_, (same, others))| others.len() > *same as usize);
        other.next().map(|(&tokens, (_, others))| (tokens, median(&mut others.clone()) as u32))
    }

    /// Shapes that came in every round: their medians show drift.
    pub(super) fn anchors(&self) -> Vec<Anchor> {
        let decode = || self.pools.iter().filter(|(key, _)| key.0 == "decode");
        let most = decode().map(|(_, pooled)| pooled.medians_us.len()).max().unwrap_or(0);
        // Once is no repetition.
        let decode = decode().filter(|(_, pooled)| most > 1 && pooled.medians_us.len() == most);
        let anchor = |(key, pooled): (&Key, &Pooled)| Anchor {
            name: Probe::Decode { seqs: key.1, context: key.2 }.name(),
            times_us: pooled.medians_us.clone(),
        };
        decode.map(anchor).collect()
    }

    /// The steps of all shapes.
    pub(super) fn steps(&mut self, plan: &ProbePlan) -> Vec<SeenStep> {
        let mixes = self.mixes().unwrap_or(false);
        // A prompt of more tokens than a step has took several, of which only the last was seen.
        let most = self.other_steps().map_or(u32::MAX, |(tokens, steps)| tokens.div_ceil(steps.max(1)));
        let mut steps = self.longer_prompts(plan, most);
        for ((kind, ..), pooled) in std::mem::take(&mut self.pools) {
            let Pooled { mut sample, awaited, contexts, mut times_us, .. } = pooled;
            let too_long = sample.prefill.iter().any(|part| part.tokens > most);
            if too_long || (kind == "mixed" && !mixes) {
                continue;
            }
            sample.decode_context = contexts.iter().sum::<u64>() / contexts.len().max(1) as u64;
            sample.device_us = median(&mut times_us);
            if kind == "decode" {
                // A token that is heard of late makes the next gap shorter: only the mean is the engine's.
                sample.device_us = times_us.iter().sum::<f64>() / times_us.len() as f64;
                self.ratios.extend(times_us.iter().map(|time| time / sample.device_us));
            }
            sample.spread = (times_us[times_us.len() * 3 / 4] - times_us[times_us.len() / 4]) / sample.device_us;
            sample.repeats = times_us.len() as u32;
            steps.push(SeenStep { sample, awaited });
        }
        let decode = steps.iter().filter(|step| step.sample.kind == "decode").map(|step| step.sample.device_us);
        let least = decode.fold(f64::INFINITY, f64::min);
        // What is far less than a step of one token was none: the server computes more tokens in one.
        steps.retain(|step| step.sample.device_us > least / 2.0);
        self.chunked = steps.iter().any(|step| step.sample.prefill.iter().any(|part| part.past > 0));
        steps
    }

    /// What prompts of one more step take longer: that step, with all tokens before it present.
    fn longer_prompts(&mut self, plan: &ProbePlan, most: u32) -> Vec<SeenStep> {
        if plan.max_tokens > most {
            return Vec::new();
        }
        let middles: BTreeMap<u32, (f64, f64, u32)> = std::mem::take(&mut self.whole_us)
            .into_iter()
            .map(|(steps, mut times)| {
                let middle = median(&mut times);
                (steps, (middle, times[times.len() * 3 / 4] - times[times.len() / 4], times.len() as u32))
            })
            .collect();
        let longer = middles.iter().filter_map(|(steps, (time, range, repeats))| {
            let (before, before_range, _) = middles.get(&steps.checked_sub(1)?)?;
            let part = PrefillPart { tokens: plan.max_tokens, past: (steps - 1) * plan.max_tokens };
            let mut sample = shape("prefill", 0, Some(part), 0);
            sample.device_us = time - before;
            sample.spread = range.hypot(*before_range) / sample.device_us;
            sample.repeats = *repeats;
            Some(SeenStep { sample, awaited: false })
        });
        longer.collect()
    }
}

fn distance(a: Time, b: Time) -> f64 {
    us(a.min(b), a.max(b))
}

/// The piece that came at the same moment; else, of those within a step and a half of it, the one behind the longest gap: the step that computed
/// a prompt is longer than those around it, whenever a client hears of it.
fn longest_gap(pieces: &[Time], at: Time, step: f64) -> Option<usize> {
    let away = |n: usize| distance(pieces[n], at);
    let near = || (1..pieces.len()).filter(|&n| away(n) <= 1.5 * step);
    // Of a prompt of several steps all are long, and only the last one gave the token.
    let nearest = near().min_by(|&a, &b| away(a).total_cmp(&away(b)));
    if let Some(n) = nearest.filter(|&n| away(n) <= AT_THE_MOMENT * step) {
        return Some(n);
    }
    near().max_by(|&a, &b| us(pieces[a - 1], pieces[a]).total_cmp(&us(pieces[b - 1], pieces[b])))
}

/// Steps in a row that took clearly longer than a step of decoding, up to the last one or the one before it; `None` if none did.
fn long_gaps(with: &[(&Reply, usize)], step: f64) -> Option<u32> {
    let gap = |(reply, n): &(&Reply, usize), back: usize| {
        (*n > back).then(|| us(reply.pieces[n - back - 1], reply.pieces[n - back]))
    };
    let longest = |with: &(&Reply, usize)| (0..CHUNKS as usize).filter_map(|back| gap(with, back)).fold(0.0, f64::max);
    let mut most: Vec<f64> = with.iter().map(longest).collect();
    let most = median(&mut most);
    if most < 1.3 * step {
        return None;
    }
    let is_long =
        |with: &(&Reply, usize), back: usize| gap(with, back).is_some_and(|gap| gap > step + (most - step) / 2.0);
    let count = |with: &(&Reply, usize)| {
        // The last step may hold the few tokens that are left of the prompt, and be as short as one of decoding.
        let rest = usize::from(!is_long(with, 0) && is_long(with, 1));
        (rest + (rest..with.1).take_while(|&back| is_long(with, back)).count()) as f64
    };
    let mut counts: Vec<f64> = with.iter().map(count).collect();
    Some(median(&mut counts) as u32).filter(|&steps| steps > 0)
}
