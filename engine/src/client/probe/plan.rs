//! Which probes are sent, and in which order.

use std::time::Duration;

use crate::prompt::key;

/// What a deployment is probed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbePlan {
    /// Most sequences in a step.
    pub max_seqs: u32,
    /// Most tokens in a step, as far as is known.
    pub max_tokens: u32,
    /// Longest sequence.
    pub max_model_len: u32,
    /// KV tokens that there are, as far as is known.
    pub kv_tokens: u64,
    /// Time after which no further probe is begun.
    pub budget: Duration,
    /// Times that every probe is repeated, if the budget allows.
    pub rounds: u32,
    /// Seed of the order.
    pub seed: u64,
}

/// Something that is sent to learn one thing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Probe {
    /// One prompt for an idle server: the time to its first token.
    Prompt {
        /// Its length.
        tokens: u32,
    },
    /// So many requests at once: the gaps between their tokens.
    Decode {
        /// How many.
        seqs: u32,
        /// Length of their prompts.
        context: u32,
    },
    /// Prompts, one after the other, for a server that decodes: the gaps that they make longer.
    Mixed {
        /// Sequences that decode.
        seqs: u32,
        /// Length of their prompts.
        context: u32,
    },
}

impl Probe {
    /// Its name, in words.
    pub fn name(&self) -> String {
        let many = |seqs: &u32| if *seqs == 1 { "1 sequence".to_owned() } else { format!("{seqs} sequences") };
        match self {
            Probe::Prompt { tokens } => format!("a prompt of {tokens} tokens"),
            Probe::Decode { seqs, context } => format!("{} at {context} tokens", many(seqs)),
            Probe::Mixed { seqs, context } => format!("prompts beside {} at {context} tokens", many(seqs)),
        }
    }
}

/// Steps in which all sequences of a decode probe run.
const PLATEAU: u32 = 24;
/// Tokens of a running sequence between two prompts beside it.
pub(super) const BETWEEN: u32 = 5;
/// Shortest prompt.
const SHORT: u32 = 16;
/// A prompt that takes so many steps shows how many tokens a step has.
pub(super) const CHUNKS: u32 = 3;
/// Share of the KV pool that probes use: a preemption would spoil them.
const KV_SHARE: f64 = 0.85;

/// Prompts of a decode probe fill so many steps at most: KV tokens cost what they cost, however many there are.
const FILLED: u32 = 16;

/// 1, 2, 3, 4, 6, 8, 12 … and `most` itself.
fn ladder(most: u32) -> Vec<u32> {
    let powers = (0..31).map(|i| 1u32 << i).take_while(|&power| power <= most);
    let mut all: Vec<u32> = powers.flat_map(|power| [power, power + power / 2]).filter(|&n| n <= most).collect();
    all.push(most);
    all.sort_unstable();
    all.dedup();
    all
}

/// 16, 32, 64 … and `most` itself.
fn doubling(most: u32) -> Vec<u32> {
    let powers = (0..27).map(|i| SHORT << i).take_while(|&power| power < most);
    powers.chain([most]).filter(|&n| n > 0).collect()
}

impl ProbePlan {
    /// Output tokens of the requests of a decode probe: the last prompt is computed before the first request ends.
    pub(super) fn decode_output(&self, seqs: u32, context: u32) -> u32 {
        let prompts = u64::from(seqs) * u64::from(context);
        // While prompts are computed, sequences that decode already take a token each of every step.
        let room = self.max_tokens.saturating_sub(seqs).max(self.max_tokens / 4).max(1);
        prompts.div_ceil(u64::from(room)) as u32 + 4 + PLATEAU
    }

    /// Prompt tokens of a step beside so many sequences that decode.
    pub(super) fn room(&self, seqs: u32) -> u32 {
        self.max_tokens.saturating_sub(seqs)
    }

    /// The prompts of a mixed probe.
    pub(super) fn beside(&self, seqs: u32) -> Vec<u32> {
        let room = self.room(seqs);
        let longest = self.max_model_len.saturating_sub(2);
        let mut prompts = doubling(room.min(longest));
        prompts.extend([CHUNKS * room].into_iter().filter(|&tokens| tokens <= longest));
        prompts.retain(|&tokens| tokens > 0);
        prompts
    }

    /// Output tokens of the sequences that decode beside them.
    pub(super) fn mixed_output(&self, seqs: u32) -> u32 {
        let prompts = self.beside(seqs);
        let steps: u32 = prompts.iter().map(|tokens| tokens.div_ceil(self.room(seqs).max(1)) + BETWEEN + 4).sum();
        // They start one after the other.
        steps + 2 * BETWEEN + 8
    }

    fn fits(&self, seqs: u32, context: u32, output: u32) -> bool {
        let length = context + output;
        let all = u64::from(seqs) * u64::from(length);
        length <= self.max_model_len && all as f64 <= self.kv_tokens as f64 * KV_SHARE
    }

    /// The longest prompts of so many requests at once, at most `most`; `None` if not even short ones fit.
    fn context(&self, seqs: u32, most: u32) -> Option<u32> {
        let share = (self.kv_tokens as f64 * KV_SHARE / f64::from(seqs)) as u32;
        let filled = (FILLED * self.max_tokens / seqs).max(SHORT);
        let mut context = most.min(share).min(filled).min(self.max_model_len);
        // Their outputs get longer with them.
        while context >= SHORT && !self.fits(seqs, context, self.decode_output(seqs, context)) {
            context = context * 7 / 8;
        }
        (context >= SHORT).then_some(context)
    }

    /// All probes.
    pub fn probes(&self) -> Vec<Probe> {
        let longest = self.max_model_len.saturating_sub(2);
        // Prompts of a few tokens take as long as a decode step, and the time between client and engine.
        let tiny = [1, 2, 4, 8].into_iter().filter(|&tokens| tokens < self.max_tokens.min(longest).min(SHORT));
        let prompts = tiny.chain(doubling(self.max_tokens.min(longest)));
        let mut probes: Vec<Probe> = prompts.map(|tokens| Probe::Prompt { tokens }).collect();
        // Prompts of whole steps: one more step each.
        let whole = (2..=4).map(|n| n * self.max_tokens).filter(|&tokens| tokens <= longest);
        probes.extend(whole.map(|tokens| Probe::Prompt { tokens }));
        for (index, seqs) in ladder(self.max_seqs).into_iter().enumerate() {
            // Long and half as long in turn: the time grows evenly with the context.
            let long = self.max_model_len / if index % 2 == 0 { 1 } else { 2 };
            let mut contexts: Vec<u32> = [SHORT, long].iter().filter_map(|&most| self.context(seqs, most)).collect();
            contexts.dedup();
            probes.extend(contexts.into_iter().map(|context| Probe::Decode { seqs, context }));
        }
        let mut beside = vec![1, self.max_seqs.div_ceil(4), self.max_seqs.div_ceil(2)];
        beside.dedup();
        for seqs in beside {
            let output = self.mixed_output(seqs);
            let prompt = self.beside(seqs).last().copied().unwrap_or(0);
            let pool = (self.kv_tokens as f64 * KV_SHARE) as u64;
            let all = u64::from(seqs) * u64::from(SHORT + output) + u64::from(prompt);
            if SHORT + output <= self.max_model_len && all <= pool && prompt > 0 {
                probes.push(Probe::Mixed { seqs, context: SHORT });
            }
        }
        probes
    }

    /// Some decode probes, small and large, that show how fast the server is now.
    pub(super) fn anchors(&self) -> Vec<Probe> {
        let short = |probe: &Probe| matches!(probe, Probe::Decode { context, .. } if *context == SHORT);
        let all: Vec<Probe> = self.probes().into_iter().filter(short).collect();
        let mut at = vec![0, all.len() / 2, all.len().saturating_sub(1)];
        at.dedup();
        at.into_iter().filter_map(|at| all.get(at).cloned()).collect()
    }

    /// The probes of a round in random order. In the first one those without long contexts come first: without them nothing
    /// can be told, and the budget may be small.
    pub(super) fn order(&self, round: u32) -> Vec<Probe> {
        let mut probes = shuffled(self.probes(), self.seed, u64::from(round));
        if round == 0 {
            probes.sort_by_key(|probe| matches!(probe, Probe::Decode { context, .. } if *context > SHORT));
        }
        probes
    }
}

/// In an order that no drift can follow.
pub(super) fn shuffled<T>(items: Vec<T>, seed: u64, round: u64) -> Vec<T> {
    let mut keyed: Vec<(u64, T)> =
        items.into_iter().enumerate().map(|(index, item)| (key([seed, round, index as u64]), item)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> ProbePlan {
        ProbePlan {
            max_seqs: 32,
            max_tokens: 256,
            max_model_len: 1024,
            kv_tokens: 16_384,
            budget: Duration::from_secs(300),
            rounds: 3,
            seed: 0,
        }
    }

    #[test]
    fn every_batch_and_length_is_asked_and_fits() {
        let plan = plan();
        let probes = plan.probes();
        let prompts: Vec<u32> =
            probes.iter().filter_map(|p| if let Probe::Prompt { tokens } = p { Some(*tokens) } else { None }).collect();
        assert_eq!(prompts, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768]);
        let mut batches = Vec::new();
        for probe in &probes {
            if let Probe::Decode { seqs, context } = *probe {
                batches.push(seqs);
                assert!(plan.fits(seqs, context, plan.decode_output(seqs, context)), "{probe:?}");
            }
        }
        batches.dedup();
        assert_eq!(batches, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]);
        let mixed = probes.iter().filter(|probe| matches!(probe, Probe::Mixed { .. })).count();
        assert_eq!((mixed, plan.beside(8)), (3, vec![16, 32, 64, 128, 248, 744]));
    }

    #[test]
    fn anchors_are_small_and_large_batches() {
        let seqs = |probe: &Probe| if let Probe::Decode { seqs, context: SHORT } = probe { Some(*seqs) } else { None };
        assert_eq!(plan().anchors().iter().map(seqs).collect::<Vec<_>>(), [Some(1), Some(8), Some(32)]);
    }

    #[test]
    fn orders_are_of_the_seed_and_differ_by_round() {
        let plan = plan();
        assert_eq!(plan.order(0), plan.order(0));
        assert_ne!(plan.order(0), plan.order(1));
        assert_eq!(plan.order(1).len(), plan.probes().len());
    }

    #[test]
    fn a_small_server_gets_what_fits() {
        let plan = ProbePlan { max_seqs: 4, max_tokens: 64, max_model_len: 128, kv_tokens: 512, ..plan() };
        for probe in plan.probes() {
            match probe {
                Probe::Prompt { tokens } => assert!(tokens < 128),
                Probe::Decode { seqs, context } => {
                    assert!(plan.fits(seqs, context, plan.decode_output(seqs, context)));
                }
                Probe::Mixed { seqs, context } => {
                    assert!(plan.fits(seqs, context, plan.mixed_output(seqs)));
                }
            }
        }
    }
}
