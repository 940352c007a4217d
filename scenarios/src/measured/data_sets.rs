//! Data sets whose prompts runs name without publishing how long they are, as far as others published it.
//!
//! The prompts of ML.ENERGY's benchmark (v3) are public data sets, taken with a stated seed by its code (github ml-energy/benchmark at
//! c1d6557f, `mlenergy/benchmark/llm`). Token counts: LiYing-98/computational_load_to_power at 02bb7252 rebuilt the requests with the models'
//! tokenizers, chat templates included; its totals are the origin's own, to the token, in 523 of 562 runs. Outputs: the histograms in
//! ml-energy/leaderboard, `public/data/models`, at 0ea52b6a. Repeats of the list: `sweeps.yaml` of the benchmark.

use overbook_traces::{GenerateSpec, LengthDist, LengthSpec, RepeatSpec, TranscriptSpec};

/// A data set: what its prompts and outputs look like.
pub(super) struct DataSet {
    /// The first word of `prompt_spec`.
    name: &'static str,
    /// Mean prompt [tokens].
    pub(super) mean: u32,
    /// Different requests.
    unique: u32,
    /// Longest output that the client allows [tokens].
    pub(super) limit: u32,
    /// Largest `max_num_seqs` with so many passes over the list.
    passes: &'static [(u64, u32)],
    /// Quantiles of prompts that share nothing; none: turns of conversations.
    prompts: &'static [(f64, u32)],
    /// Quantiles of outputs over their mean.
    outputs: &'static [(f64, f64)],
}

/// Quantiles of outputs over their mean, gpt-oss on `gpqa`: shorter and more uneven than of other models that think.
const GPT_OSS_OUTPUTS: &[(f64, f64)] = &[
    (0.0, 0.06),
    (0.16, 0.37),
    (0.46, 0.68),
    (0.64, 0.99),
    (0.77, 1.3),
    (0.85, 1.61),
    (0.89, 1.92),
    (0.94, 2.54),
    (0.98, 3.48),
    (0.992, 4.1),
    (1.0, 7.5),
];

const DATA_SETS: [DataSet; 3] = [
    DataSet {
        name: "lm-arena-chat",
        mean: 674,
        unique: 1024,
        limit: 4096,
        passes: &[(512, 1), (1024, 2), (2048, 3), (3072, 4), (u64::MAX, 6)],
        prompts: &[],
        outputs: &[
            (0.0, 0.003),
            (0.18, 0.137),
            (0.34, 0.404),
            (0.496, 0.804),
            (0.61, 1.07),
            (0.7, 1.34),
            (0.778, 1.61),
            (0.868, 2.0),
            (0.92, 2.41),
            (0.956, 2.81),
            (0.982, 3.47),
            (0.997, 4.8),
            (1.0, 6.7),
        ],
    },
    DataSet {
        name: "gpqa",
        mean: 233,
        unique: 198,
        limit: 32_768,
        passes: &[(128, 1), (256, 2), (512, 3), (768, 5), (1024, 6), (1536, 9), (2048, 12), (u64::MAX, 21)],
        prompts: &[(0.0, 58), (0.5, 197), (0.9, 355), (0.95, 442), (0.99, 600), (1.0, 2785)],
        outputs: &[
            (0.0, 0.11),
            (0.04, 0.2),
            (0.172, 0.383),
            (0.303, 0.565),
            (0.45, 0.747),
            (0.53, 0.928),
            (0.62, 1.11),
            (0.727, 1.29),
            (0.81, 1.56),
            (0.88, 1.75),
            (0.93, 2.02),
            (0.96, 2.38),
            (0.985, 2.65),
            (1.0, 3.7),
        ],
    },
    DataSet {
        name: "sourcegraph-fim",
        mean: 1374,
        unique: 1024,
        limit: 2048,
        passes: &[(256, 1), (512, 2), (768, 3), (1024, 4), (1536, 6), (u64::MAX, 8)],
        prompts: &[(0.0, 65), (0.5, 1203), (0.9, 2428), (0.95, 2797), (1.0, 5005)],
        outputs: &[
            (0.0, 0.01),
            (0.17, 0.17),
            (0.415, 0.34),
            (0.547, 0.5),
            (0.626, 0.66),
            (0.72, 0.99),
            (0.807, 1.48),
            (0.865, 1.97),
            (0.904, 2.46),
            (0.936, 3.28),
            (0.955, 4.26),
            (0.983, 6.1),
            (0.9831, 8.19),
            (1.0, 8.19),
        ],
    },
];

/// The recorded conversations of `lm-arena-chat` (lmarena-ai/arena-human-preference-100k). How many turns they have is not published; first
/// prompts, turns and what a turn adds were chosen by the published lengths of prompts alone: their mean, median, p90, p95 and standard
/// deviation are 682, 127, 2062, 3064 and 1156 tokens, and of the data set 674, 96, 2157, 2999 and 1123. Some 60 % of the prompt tokens are
/// then new, the rest are those of the turn before.
const FIRST_PROMPTS: LengthDist = LengthDist::LogNormal { median: 28, sigma: 1.3, max: 9740 };
const FOLLOW_UP: LengthDist = LengthDist::LogNormal { median: 550, sigma: 0.8, max: 6000 };
const TURNS: [(f64, u32); 12] = [
    (0.0, 1),
    (0.57, 1),
    (0.57, 2),
    (0.815, 2),
    (0.815, 3),
    (0.92, 3),
    (0.92, 4),
    (0.966, 4),
    (0.966, 5),
    (0.985, 5),
    (0.985, 6),
    (1.0, 10),
];

impl DataSet {
    /// The data set that a run names.
    pub(super) fn of(prompt_spec: &str) -> Option<&'static DataSet> {
        let first = prompt_spec.split_whitespace().next()?;
        DATA_SETS.iter().find(|set| set.name == first)
    }

    /// Requests that the client sends to a server of so many sequences.
    pub(super) fn requests(&self, seqs: u64) -> u64 {
        u64::from(self.unique) * u64::from(self.passes_of(seqs))
    }

    fn passes_of(&self, seqs: u64) -> u32 {
        self.passes.iter().find(|(most, _)| seqs <= *most).map_or(1, |(_, passes)| *passes)
    }

    /// The workload of a run with such a mean output, with prompts `scale` times as long.
    pub(super) fn generate(
        &self,
        seqs: u64,
        output: f64,
        model: &str,
        scale: f64,
        plain: GenerateSpec,
    ) -> GenerateSpec {
        let shape = if model.contains("gpt-oss") { GPT_OSS_OUTPUTS } else { self.outputs };
        let mean: f64 = shape.windows(2).map(|two| (two[1].0 - two[0].0) * f64::midpoint(two[0].1, two[1].1)).sum();
        let tokens = |times: f64| ((times / mean * output).round() as u32).clamp(1, self.limit);
        let outputs = shape.iter().map(|&(p, times)| (p, tokens(times))).collect();
        let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        let again = self.passes_of(seqs) > 1;
        let distinct = again.then_some(self.unique);
        let (prompt, transcripts) = if self.prompts.is_empty() {
            let turns = TranscriptSpec {
                turns: LengthDist::Quantiles(TURNS.to_vec()),
                follow_up: stretched(FOLLOW_UP, scaled),
                max_prompt_tokens: scaled(9740),
                requests: distinct,
                block_tokens: 16,
            };
            (stretched(FIRST_PROMPTS, scaled), Some(turns))
        } else {
            (LengthDist::Quantiles(self.prompts.iter().map(|&(p, length)| (p, scaled(length))).collect()), None)
        };
        let repeats = distinct.filter(|_| transcripts.is_none()).map(|prompts| RepeatSpec {
            prompts,
            groups: prompts,
            shared_prefix_tokens: 0,
            order: overbook_traces::RepeatOrder::InTurn,
            block_tokens: 16,
        });
        let lengths = LengthSpec::Independent { prompt, output: LengthDist::Quantiles(outputs) };
        GenerateSpec { lengths, repeats, transcripts, requests: Some(self.requests(seqs)), ..plain }
    }
}

/// A log-normal distribution of lengths that are all as many times as long.
fn stretched(dist: LengthDist, scaled: impl Fn(u32) -> u32) -> LengthDist {
    match dist {
        LengthDist::LogNormal { median, sigma, max } => {
            LengthDist::LogNormal { median: scaled(median), sigma, max: scaled(max) }
        }
        other => other,
    }
}
