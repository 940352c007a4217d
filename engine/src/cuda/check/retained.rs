//! Whole models that keep only some of their tokens: the survivors, slot by slot, and the logits beside the CPU engine's; that graphs,
//! single launches and two steps out keep the same; and that a budget for all tokens changes no bit.
//!
//! The CPU computes the same steps. Where some tokens go, it looks at which the GPU has let go, whether these are what its own scores say, and
//! goes on with the GPU's choice: scores that rounding decides are counted, and do not make all that follows differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use overbook_sim::kv::retention::policies::{H2o, Knorm, KvZap, StreamingLlm, TrimKv};
use overbook_sim::kv::retention::{PromptRule, RetentionPolicy as Policy, RetentionSpec};

use super::whole::{LOGITS, Script, WholeCheck, draws, run};
use crate::cpu;
use crate::cuda::{CudaExecutor, Model, Retained};
use crate::executor::{Batch, Executor as _, ExecutorError, Seat, Shrink};
use crate::history::Histories;
use crate::retention::{Extras, GateKind, Gates, Head, Place, Retention, Token, TokenRetention, Wants};
use crate::weights::{Dtype, Source, Weights};

/// Slots of the specifications below.
const BUDGET: u32 = 14;
/// What a budget is lowered to.
const SHRUNK: u32 = 9;
/// Width of random networks.
const WIDTH: usize = 96;
/// Scores that lie no further apart than this share of the spread of all are close: activations are rounded to eight bits, and what they
/// are made of too. Scores that are not made of activations are never close.
pub const CLOSE: f64 = 0.1;

/// Every policy that the CUDA engine has, with windows that fit, and the ways in which tokens go. The first two have kernels that no other
/// policy needs.
pub fn specifications() -> Vec<RetentionSpec> {
    let strict = |policy| RetentionSpec::strict(policy, BUDGET);
    vec![
        strict(Policy::TrimKv(TrimKv { window: 0 })),
        strict(Policy::H2o(H2o { recent: 0.25 })),
        strict(Policy::Random),
        RetentionSpec { every: 3, ..strict(Policy::Window) },
        strict(Policy::StreamingLlm(StreamingLlm { sinks: 3 })),
        RetentionSpec { prompt: PromptRule::AtEnd, ..strict(Policy::Tova) },
        RetentionSpec { every: 2, ..strict(Policy::KeyDiff) },
        strict(Policy::Knorm(Knorm { skip_layers: 1 })),
        strict(Policy::KvZap(KvZap { window: 3 })),
        RetentionSpec { every: 4, prompt: PromptRule::AtEnd, ..strict(Policy::TrimKv(TrimKv { window: 2 })) },
    ]
}

/// What was seen of the cuts.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    cuts: u64,
    ties: u64,
    wrong: u64,
    tie: f64,
}

/// What the GPU has kept, and how it compares.
#[derive(Debug)]
struct Lead {
    kept: BTreeMap<Place, Vec<u32>>,
    seen: Seen,
    /// Scores of heads that decide together, until all are there.
    heads: BTreeMap<(Seat, usize), BTreeMap<usize, Vec<f32>>>,
    kv_heads: usize,
    close: f64,
}

impl Lead {
    fn judge(&mut self, head: &Head<'_>, scores: &[f32]) {
        let Some(kept) = self.kept.get(&head.place) else { return };
        self.seen.cuts += 1;
        let kept: BTreeSet<u32> = kept.iter().copied().collect();
        let all: BTreeSet<u32> = head.positions.iter().copied().collect();
        let free = head.positions.iter().zip(scores).filter(|(at, _)| !head.protects(**at));
        let mut order: Vec<(f64, u32)> = free.map(|(at, score)| (f64::from(*score + 0.0), *at)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let going = all.len() - kept.len().min(all.len());
        if going == 0 || going > order.len() || !kept.is_subset(&all) {
            self.seen.wrong += 1;
            return;
        }
        let gone: BTreeSet<u32> = order[..going].iter().map(|(_, at)| *at).collect();
        let stay: BTreeSet<u32> = all.difference(&gone).copied().collect();
        if stay == kept {
            return;
        }
        let (limit, spread) = (order[going - 1].0, order[order.len() - 1].0 - order[0].0);
        let scores: BTreeMap<u32, f64> = order.into_iter().map(|(score, at)| (at, score)).collect();
        // A protected token that has gone has no score.
        let distance = |at: &u32| scores.get(at).map_or(f64::INFINITY, |score| (score - limit).abs() / spread);
        let worst = stay.symmetric_difference(&kept).map(distance).fold(0.0, f64::max);
        if worst <= self.close {
            self.seen.ties += 1;
            self.seen.tie = self.seen.tie.max(worst);
        } else {
            self.seen.wrong += 1;
        }
    }
}

/// A policy whose choice is the GPU's.
#[derive(Debug)]
struct Led {
    policy: Arc<dyn TokenRetention>,
    lead: Arc<Mutex<Lead>>,
}

impl TokenRetention for Led {
    fn wants(&self) -> Wants {
        self.policy.wants()
    }

    fn note(&self, token: &Token<'_>) -> f32 {
        self.policy.note(token)
    }

    fn attended(&self, place: Place, query: u32, weights: &[f32], notes: &mut [f32]) {
        self.policy.attended(place, query, weights, notes);
    }

    fn asked(&self, position: u32, queries: &[f32], memory: &mut Vec<f32>) {
        self.policy.asked(position, queries, memory);
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        self.policy.scores(head, scores);
        let mut lead = self.lead.lock().unwrap_or_else(PoisonError::into_inner);
        if self.policy.joint() {
            let Place { seat, layer, head: number } = head.place;
            let kv_heads = lead.kv_heads;
            let heads = lead.heads.entry((seat, layer)).or_default();
            heads.insert(number, scores.to_vec());
            if heads.len() == kv_heads {
                let mean = |slot: usize| heads.values().map(|scores| scores[slot]).sum::<f32>() / kv_heads as f32;
                let mean: Vec<f32> = (0..scores.len()).map(mean).collect();
                lead.heads.remove(&(seat, layer));
                lead.judge(head, &mean);
            }
        } else {
            lead.judge(head, scores);
        }
        let Some(kept) = lead.kept.get(&head.place) else { return };
        for (score, position) in scores.iter_mut().zip(head.positions) {
            *score = if kept.contains(position) { 1.0 } else { 0.0 };
        }
    }

    fn joint(&self) -> bool {
        self.policy.joint()
    }
}

fn retention(
    config: &crate::config::Config,
    source: &dyn Source,
    spec: &RetentionSpec,
) -> Result<Retention, ExecutorError> {
    let gates = GateKind::of(&spec.policy).map(|kind| Gates::from_source(config, source, kind, |_| Ok(WIDTH)));
    let gates = gates.transpose().map_err(|error| ExecutorError(error.to_string()))?.map(Arc::new);
    Ok(Retention::new(spec, config, &Extras { gates, future: None, seed: SEED })?)
}

/// Of `random`.
const SEED: u64 = 5;

/// The steps of a script, and in the middle of them a budget that is lowered.
fn steps(script: &Script, vocab: u32, later: bool) -> Vec<Batch> {
    let mut steps = script.steps(vocab, later);
    let shrinks = vec![Shrink { seat: 1, budget: SHRUNK }];
    steps.insert(script.decodes as usize, Batch { shrinks, ..Batch::default() });
    steps
}

/// Everything that is to be said of a model with a specification.
///
/// # Errors
/// One of the two engines cannot have the model or the policy, or fails.
pub fn check(
    name: &str,
    model: &Arc<Model>,
    source: &dyn Source,
    spec: &RetentionSpec,
    script: &Script,
) -> Result<Vec<WholeCheck>, ExecutorError> {
    let what = format!("{name}, {} slots of {}", spec.budget, spec.policy.name());
    let retained = |spec: &RetentionSpec| -> Result<Arc<Retained>, ExecutorError> {
        Ok(Retained::new(model, retention(&model.config, source, spec)?, SEED)?)
    };
    let kept = retained(spec)?;
    let mut checks = against_cpu(&what, model, source, &kept, script)?;
    let capacity = script.capacity(&model.config);
    let executor = |retained: Option<&Arc<Retained>>, graphs| {
        CudaExecutor::retaining(model.clone(), capacity, retained.cloned(), graphs, &mut |_| true)
    };
    let own = steps(script, capacity.vocab, false);
    let graphs = run(executor(Some(&kept), true)?, &own, 1)?;
    let eager = run(executor(Some(&kept), false)?, &own, 1)?;
    checks.push(graphs.beside(format!("{what}, graphs beside single launches"), &eager));
    let deep = run(executor(Some(&kept), true)?, &own, 2)?;
    checks.push(graphs.beside(format!("{what}, two steps out beside one"), &deep));
    let own = script.steps(capacity.vocab, false);
    let ample = retained(&RetentionSpec { budget: capacity.max_model_len, ..spec.clone() })?;
    let (ample, whole) = (run(executor(Some(&ample), true)?, &own, 1)?, run(executor(None, true)?, &own, 1)?);
    checks.push(ample.beside(format!("{what}, slots for all tokens beside no budget"), &whole));
    Ok(checks)
}

/// Logits and survivors beside the CPU's.
fn against_cpu(
    what: &str,
    model: &Arc<Model>,
    source: &dyn Source,
    kept: &Arc<Retained>,
    script: &Script,
) -> Result<Vec<WholeCheck>, ExecutorError> {
    let (config, capacity) = (&model.config, script.capacity(&model.config));
    let mut cuda = CudaExecutor::retaining(model.clone(), capacity, Some(kept.clone()), true, &mut |_| true)?;
    let weights =
        Weights::from_source(config, source, Dtype::Bf16).map_err(|error| ExecutorError(error.to_string()))?;
    let exact = matches!(kept.retention().spec().policy, Policy::Random | Policy::Window | Policy::StreamingLlm(_));
    let lead = Arc::new(Mutex::new(Lead {
        kept: BTreeMap::new(),
        seen: Seen::default(),
        heads: BTreeMap::new(),
        kv_heads: config.kv_heads,
        close: if exact { 0.0 } else { CLOSE },
    }));
    let led = kept.retention().clone().led(|policy| Arc::new(Led { policy, lead: lead.clone() }));
    let mut cpu = cpu::Model::retaining(config.clone(), Arc::new(weights), &capacity, led)?;
    let mut histories = Histories::new(capacity);
    let empty = |what: &str, bound| WholeCheck {
        what: what.to_owned(),
        tokens: 0,
        ties: 0,
        wrong: 0,
        tie: 0.0,
        error: 0.0,
        bound,
    };
    let mut logits = empty(&format!("{what} beside the CPU engine"), LOGITS);
    let mut slots = empty(&format!("{what}, cuts of heads beside the CPU engine's"), 0.0);
    for batch in steps(script, capacity.vocab, true) {
        cuda.submit(0, batch.clone())?;
        let output = cuda.wait(0)?;
        let got = cuda.logits(draws(&batch))?;
        let Batch { shrinks, ends, begins, tables, sequences } = batch;
        let seats = sequences.iter().map(|sequence| sequence.seat).chain(shrinks.iter().map(|shrink| shrink.seat));
        let mut all = BTreeMap::new();
        for seat in seats {
            for (layer, head) in
                (0..config.layers).flat_map(|layer| (0..config.kv_heads).map(move |head| (layer, head)))
            {
                let place = Place { seat, layer, head };
                all.insert(place, cuda.kept(place)?.unwrap_or_default());
            }
        }
        lead.lock().unwrap_or_else(PoisonError::into_inner).kept.clone_from(&all);
        for shrink in shrinks {
            cpu.shrink(shrink, histories.table(shrink.seat))?;
        }
        histories.update(&ends, begins, &tables)?;
        let (inputs, tables) =
            (histories.inputs_in(&sequences, |sequence| cpu.slots(sequence))?, histories.tables(&sequences));
        let wanted = if inputs.is_empty() { &mut [][..] } else { cpu.forward(&inputs, &sequences, &tables) };
        let rows = wanted.chunks_exact(config.vocab).zip(got.chunks_exact(config.vocab));
        let samples = sequences.iter().filter(|sequence| sequence.samples);
        for ((sequence, (wanted, got)), (_, token)) in samples.zip(rows).zip(&output.tokens) {
            logits.compare(wanted, got, *token);
            if let Some((pending, _, _)) = histories.draw(sequence) {
                histories.take(pending, *token);
            }
        }
        // Both fill the slots of what goes in the same order.
        let other = all.iter().filter(|(place, kept)| cpu.kept(**place) != Some(&kept[..]));
        slots.error += other.count() as f64;
    }
    let Seen { cuts, ties, wrong, tie } = lead.lock().unwrap_or_else(PoisonError::into_inner).seen;
    slots = WholeCheck { tokens: cuts, ties, wrong, tie, ..slots };
    Ok(vec![logits, slots])
}
