//! Sources of the CUDA kernels, and what a launch of each must know.
//!
//! A source is compiled for the GPU at hand by NVRTC, with [`PRELUDE`] as the header `prelude.cuh` and the shape of the model as
//! macros: `HEAD_DIM` (one of [`HEAD_DIMS`]), `GROUP` (query heads per KV head, 1 to [`GROUP_MAX`]) and `BLOCK_SHIFT` (log2 of
//! the tokens per block, 0 to [`BLOCK_SHIFT_MAX`]); `HIDDEN` (width of the rows of `add_norm`) is optional. It includes nothing else. Arguments are pointers, 32-bit integers and floats;
//! what they mean stands above each kernel. Pointers to what is read or written by 16 bytes must be multiples of 16, and so must
//! rows: widths are multiples of 8.

/// One translation unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its file in `kernels/cuda`, without the ending.
    pub name: &'static str,
    /// What the file contains.
    pub text: &'static str,
    /// Which macros of the model's shape it needs: code is the same for models that do not differ in these.
    pub takes: &'static [&'static str],
    /// Its kernels.
    pub kernels: &'static [&'static str],
}

/// The header `prelude.cuh`.
pub const PRELUDE: &str = include_str!("../cuda/prelude.cuh");

/// All sources.
pub const SOURCES: [Source; 10] = [
    Source { name: "embed", text: include_str!("../cuda/embed.cu"), takes: &[], kernels: &["embed"] },
    Source { name: "add_norm", text: include_str!("../cuda/add_norm.cu"), takes: &["HIDDEN"], kernels: &["add_norm"] },
    Source {
        name: "rope_write",
        text: include_str!("../cuda/rope_write.cu"),
        takes: &["HEAD_DIM", "BLOCK_SHIFT"],
        kernels: &["rope_write"],
    },
    Source {
        name: "attend_decode",
        text: include_str!("../cuda/attend_decode.cu"),
        takes: &["HEAD_DIM", "GROUP", "BLOCK_SHIFT"],
        kernels: &["attend_decode", "attend_merge"],
    },
    Source {
        name: "attend_prefill",
        text: include_str!("../cuda/attend_prefill.cu"),
        takes: &["HEAD_DIM", "GROUP", "BLOCK_SHIFT"],
        kernels: &["attend_prefill"],
    },
    Source { name: "silu_mul", text: include_str!("../cuda/silu_mul.cu"), takes: &[], kernels: &["silu_mul"] },
    Source { name: "sample", text: include_str!("../cuda/sample.cu"), takes: &[], kernels: &["sample"] },
    Source {
        name: "blocks",
        text: include_str!("../cuda/blocks.cu"),
        takes: &[],
        kernels: &["update_tables", "copy_blocks", "gather_blocks", "scatter_blocks"],
    },
    Source {
        name: "retain",
        text: include_str!("../cuda/retain.cu"),
        takes: &["HEAD_DIM", "BLOCK_SHIFT"],
        kernels: &["note_tokens", "score_keys", "cut_tokens"],
    },
    Source {
        name: "weigh",
        text: include_str!("../cuda/weigh.cu"),
        takes: &["HEAD_DIM", "GROUP", "BLOCK_SHIFT"],
        kernels: &["weigh_queries", "weigh_tokens"],
    },
];

/// Names of the sources that only sequences need which keep some of their tokens.
pub const RETENTION: [&str; 2] = ["retain", "weigh"];

/// Kernels that only measure: what memory and launches cost alone.
pub const CEILINGS: Source = Source {
    name: "ceilings",
    text: include_str!("../cuda/ceilings.cu"),
    kernels: &["ceiling_read", "ceiling_write", "ceiling_copy", "ceiling_empty"],
    takes: &[],
};

/// Widths of a head that the kernels are written for.
pub const HEAD_DIMS: [u32; 4] = [32, 64, 96, 128];
/// Most query heads per KV head.
pub const GROUP_MAX: u32 = 16;
/// Most tokens per block, as log2.
pub const BLOCK_SHIFT_MAX: u32 = 8;

/// Threads per block of `embed`; grid: rows.
pub const EMBED_THREADS: u32 = 128;
/// Threads per block of `add_norm`; grid: rows of `out`.
pub const ADD_NORM_THREADS: u32 = 256;
/// Widest row of `add_norm`.
pub const ADD_NORM_WIDTH_MAX: u32 = 16384;
/// Threads per block of `rope_write`; grid: rows, blocks for all heads of a row (see [`rope_write_share`]).
pub const ROPE_WRITE_THREADS: u32 = 128;
/// Threads per block of `attend_decode`; grid: splits, KV heads, rows.
pub const ATTEND_DECODE_THREADS: u32 = 128;
/// Most splits of `attend_decode`: a lane of `attend_merge` for each.
pub const ATTEND_SPLITS_MAX: u32 = 32;
/// Threads per block of `attend_merge`; grid: query heads, rows.
pub const ATTEND_MERGE_THREADS: u32 = 128;
/// Threads per block of `attend_prefill`; grid: tiles, query heads.
pub const ATTEND_PREFILL_THREADS: u32 = 128;
/// Positions of a tile of `attend_prefill`, at most.
pub const PREFILL_TILE: u32 = 128;
/// Threads per block of `silu_mul`; grid: rows, and any number of blocks that share a row (see [`silu_mul_share`]).
pub const SILU_MUL_THREADS: u32 = 256;
/// Threads per block of `sample`; grid: rows of logits.
pub const SAMPLE_THREADS: u32 = 1024;
/// Largest vocabulary of `sample`.
pub const SAMPLE_VOCAB_MAX: u32 = 262_144;
/// Position in a [`Draw`] of a row that draws nothing.
pub const PADDING: u32 = u32::MAX;
/// Threads per block of `update_tables` (grid: as many blocks as there are changes for their threads), `copy_blocks` (grid: pairs,
/// planes), `gather_blocks` and `scatter_blocks` (grid: blocks, planes; a plane is the keys or the values of a layer).
pub const BLOCKS_THREADS: u32 = 256;

/// Threads per block of `note_tokens`; grid: rows.
pub const NOTE_TOKENS_THREADS: u32 = 128;
/// Threads per block of `score_keys`; grid: parts, KV heads.
pub const SCORE_KEYS_THREADS: u32 = 256;
/// Threads per block of `cut_tokens`; grid: parts, KV heads.
pub const CUT_TOKENS_THREADS: u32 = 256;
/// Moves that `cut_tokens` lists at once.
pub const CUT_LIST: u32 = 512;
/// Threads per block of `weigh_queries` (grid: rows or parts, KV heads) and `weigh_tokens` (grid: any number of blocks that share the
/// slots of a part, KV heads or 1, parts).
pub const WEIGH_THREADS: u32 = 128;

/// Threads per block of the kernels of [`CEILINGS`].
pub const CEILING_THREADS: u32 = 256;
/// What their memory is a multiple of [16 bytes].
pub const CEILING_TILE: u32 = 2048;

/// Dynamic shared memory of a block of `attend_decode` [bytes]: three tiles of 16 keys and values for each of four warps.
pub const fn attend_decode_shared(head_dim: u32) -> u32 {
    4 * 3 * 2 * 16 * 2 * head_dim
}

/// Dynamic shared memory of a block of `attend_prefill` [bytes]: the queries, and two tiles of 64 keys and values.
pub const fn attend_prefill_shared(head_dim: u32) -> u32 {
    (PREFILL_TILE + 2 * 2 * 64) * 2 * head_dim
}

/// Splits for `attend_decode`: as many as `sms` multiprocessors take in one wave, two blocks on each. A block more than that would
/// take as long as a second wave.
pub const fn attend_decode_splits(rows: u32, kv_heads: u32, sms: u32) -> u32 {
    match 2 * sms / (rows * kv_heads) {
        0 => 1,
        splits if splits > ATTEND_SPLITS_MAX => ATTEND_SPLITS_MAX,
        splits => splits,
    }
}

/// Blocks of `rope_write` for a row of so many heads, those of queries, keys and values: a thread has a part of one of them.
pub const fn rope_write_share(all_heads: u32, head_dim: u32) -> u32 {
    // Lanes of a head have 16 numbers each.
    all_heads.div_ceil(ROPE_WRITE_THREADS / (head_dim / 16).next_power_of_two())
}

/// Blocks that should share a row of `silu_mul`, so that a few rows use more than as many multiprocessors.
pub const fn silu_mul_share(inner: u32) -> u32 {
    inner.div_ceil(8 * SILU_MUL_THREADS)
}

/// How `sample` draws a row's token, as it stands in device memory.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(16))]
pub struct Draw {
    /// 0 takes the likeliest token; else logits are divided by it.
    pub temperature: f32,
    /// Only this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Only the likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Position of the token whose logits these are; [`PADDING`]: the row draws nothing.
    pub position: u32,
    /// With the position it keys the draw.
    pub seed: u64,
    /// Where the row's banned tokens begin in the list of all.
    pub bans_start: u32,
    /// How many they are.
    pub bans_len: u32,
}

impl Draw {
    /// What a row has that draws nothing.
    pub const PADDING: Draw =
        Draw { temperature: 0.0, top_k: 0, top_p: 1.0, position: PADDING, seed: 0, bans_start: 0, bans_len: 0 };

    /// As it stands in device memory.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let low = [self.temperature.to_bits(), self.top_k, self.top_p.to_bits(), self.position];
        let words = low.into_iter().chain([self.seed as u32, (self.seed >> 32) as u32, self.bans_start, self.bans_len]);
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// What `note_tokens` notes of a token beside its position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Note {
    /// 0.
    Nothing,
    /// A number of 24 bits, drawn from a key for each head and the position.
    Random,
    /// The negative length of its key.
    Norm,
    /// What a network gives.
    Gate,
    /// The logarithm of the logistic function of that.
    LogGate,
}

/// What `cut_tokens` takes for the score of a token; the lowest goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Score {
    /// Its position.
    Position,
    /// Its note.
    Note,
    /// Its note, as often as it is old: once for the token that was computed last.
    Age,
}

/// A sequence in a step, as it stands in device memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct Part {
    /// Row of its block table; below zero: the part fills up, and is left alone.
    pub owner: i32,
    /// Slots occupied before the step.
    pub kept: i32,
    /// Tokens that landed behind them.
    pub rows: i32,
    /// Row of the first.
    pub first_row: i32,
    /// Slots that stay; below zero: nothing goes.
    pub budget: i32,
    /// Position computed last.
    pub now: i32,
    /// Tokens at the start of the sequence that never go.
    pub first: i32,
    /// Latest tokens that never go.
    pub latest: i32,
}

impl Part {
    /// One that fills up.
    pub const PADDING: Part =
        Part { owner: -1, kept: 0, rows: 0, first_row: 0, budget: -1, now: 0, first: 0, latest: 0 };

    /// Its numbers in their order.
    pub fn words(&self) -> [i32; 8] {
        let Part { owner, kept, rows, first_row, budget, now, first, latest } = *self;
        [owner, kept, rows, first_row, budget, now, first, latest]
    }

    /// As it stands in device memory.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let four = bytes.chunks_exact_mut(4).zip(self.words());
        four.for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        bytes
    }

    /// Whether a token never goes.
    pub fn protects(&self, position: i32) -> bool {
        position < self.first || position > self.now - self.latest
    }

    /// Slots that are occupied when some go.
    pub fn slots(&self) -> usize {
        (self.kept + self.rows) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that a source gives to a name: sums and products of numbers and of names that it or the prelude defines.
    fn constant(source: &str, head_dim: u32, name: &str) -> u32 {
        if let Ok(number) = name.parse() {
            return number;
        }
        if name == "HEAD_DIM" {
            return head_dim;
        }
        let start = format!("constexpr i32 {name} = ");
        let text = [source, PRELUDE]
            .into_iter()
            .find_map(|text| text.split_once(&start))
            .unwrap_or_else(|| panic!("no {name}"));
        let value = text.1.split_once(';').expect("an end").0;
        let product = |term: &str| -> u32 {
            let factor = |factor: &str| match factor.split_once(" / ") {
                Some((a, b)) => constant(source, head_dim, a) / constant(source, head_dim, b),
                None => constant(source, head_dim, factor),
            };
            term.split(" * ").map(factor).product()
        };
        value.split(" + ").map(product).sum()
    }

    fn source(name: &str) -> &'static str {
        SOURCES.iter().chain([&CEILINGS]).find(|source| source.name == name).expect("a source").text
    }

    #[test]
    fn constants_are_those_of_the_sources() {
        for (file, name, wanted) in [
            ("embed", "EMBED_THREADS", EMBED_THREADS),
            ("add_norm", "ADD_NORM_THREADS", ADD_NORM_THREADS),
            ("add_norm", "ADD_NORM_WIDTH_MAX", ADD_NORM_WIDTH_MAX),
            ("rope_write", "ROPE_WRITE_THREADS", ROPE_WRITE_THREADS),
            ("attend_decode", "ATTEND_DECODE_THREADS", ATTEND_DECODE_THREADS),
            ("attend_decode", "ATTEND_SPLITS_MAX", ATTEND_SPLITS_MAX),
            ("attend_decode", "ATTEND_MERGE_THREADS", ATTEND_MERGE_THREADS),
            ("attend_prefill", "ATTEND_PREFILL_THREADS", ATTEND_PREFILL_THREADS),
            ("attend_prefill", "PREFILL_TILE", PREFILL_TILE),
            ("silu_mul", "SILU_MUL_THREADS", SILU_MUL_THREADS),
            ("sample", "SAMPLE_THREADS", SAMPLE_THREADS),
            ("sample", "SAMPLE_VOCAB_MAX", SAMPLE_VOCAB_MAX),
            ("blocks", "BLOCKS_THREADS", BLOCKS_THREADS),
            ("retain", "NOTE_TOKENS_THREADS", NOTE_TOKENS_THREADS),
            ("retain", "SCORE_KEYS_THREADS", SCORE_KEYS_THREADS),
            ("retain", "CUT_TOKENS_THREADS", CUT_TOKENS_THREADS),
            ("retain", "CUT_LIST", CUT_LIST),
            ("weigh", "WEIGH_THREADS", WEIGH_THREADS),
            ("retain", "NOTE_NONE", Note::Nothing as u32),
            ("retain", "NOTE_RANDOM", Note::Random as u32),
            ("retain", "NOTE_NORM", Note::Norm as u32),
            ("retain", "NOTE_GATE", Note::Gate as u32),
            ("retain", "NOTE_LOG_GATE", Note::LogGate as u32),
            ("retain", "SCORE_POSITION", Score::Position as u32),
            ("retain", "SCORE_NOTE", Score::Note as u32),
            ("retain", "SCORE_AGE", Score::Age as u32),
            ("ceilings", "CEILING_THREADS", CEILING_THREADS),
            ("ceilings", "CEILING_TILE", CEILING_TILE),
        ] {
            assert_eq!(constant(source(file), 128, name), wanted, "{name}");
        }
        for dim in HEAD_DIMS {
            let of = |file, name| constant(source(file), dim, name);
            assert_eq!(of("attend_decode", "ATTEND_DECODE_SHARED"), attend_decode_shared(dim));
            assert_eq!(of("attend_prefill", "ATTEND_PREFILL_SHARED"), attend_prefill_shared(dim));
            // What every GPU from sm_80 on can give, a kilobyte or so of static arrays beside.
            assert!(attend_decode_shared(dim).max(attend_prefill_shared(dim)) <= 96 << 10);
        }
    }

    #[test]
    fn kernels_are_those_of_the_sources() {
        for source in SOURCES.into_iter().chain([CEILINGS]) {
            let starts = source.text.lines().filter_map(|line| line.strip_prefix("extern \"C\" __global__ void "));
            let named = starts.map(|line| {
                let line =
                    line.strip_prefix("__launch_bounds__(").and_then(|line| line.split_once(") ")).expect("bounds").1;
                line.split_once('(').expect("arguments").0
            });
            assert_eq!(named.collect::<Vec<_>>(), source.kernels, "{}", source.name);
            let includes: Vec<_> = source.text.lines().filter(|line| line.starts_with("#include")).collect();
            assert_eq!(includes, ["#include \"prelude.cuh\""], "{}", source.name);
        }
    }

    #[test]
    fn sources_take_the_macros_that_they_use() {
        for source in SOURCES {
            let head = ["HEAD_DIM", "CHUNKS", "ROW_BYTES", "fetch_chunk"];
            let uses: [(&str, &[&str]); 4] = [
                ("HEAD_DIM", &head),
                ("GROUP", &["GROUP ", "GROUP}", "GROUP)", "GROUP;"]),
                ("BLOCK_SHIFT", &["slot_of"]),
                ("HIDDEN", &["HIDDEN"]),
            ];
            let used = uses.iter().filter(|(_, words)| words.iter().any(|word| source.text.contains(word)));
            assert_eq!(used.map(|(name, _)| *name).collect::<Vec<_>>(), source.takes, "{}", source.name);
        }
    }

    #[test]
    fn a_draw_has_the_layout_of_the_source() {
        let text = source("sample").split_once("struct alignas(16) Draw {").expect("a structure").1;
        let fields: Vec<_> =
            text.split_once('}').expect("an end").0.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let wanted = [
            "float temperature;",
            "u32 top_k;",
            "float top_p;",
            "u32 position;",
            "u64 seed;",
            "u32 bans_start;",
            "u32 bans_len;",
        ];
        assert_eq!(fields, wanted);
        assert_eq!((size_of::<Draw>(), align_of::<Draw>()), (32, 16));
        let draw = Draw {
            temperature: 1.0,
            top_k: 2,
            top_p: 0.5,
            position: 3,
            seed: 0x0102_0304_0506_0708,
            bans_start: 4,
            bans_len: 5,
        };
        let words = [0x3f80_0000, 2, 0x3f00_0000, 3, 0x0506_0708, 0x0102_0304, 4, 5_u32];
        assert_eq!(draw.to_bytes().to_vec(), words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    }

    #[test]
    fn a_part_has_the_layout_of_the_sources() {
        for name in RETENTION {
            let text = source(name).split_once("struct alignas(16) Part {").expect("a structure").1;
            let lines = text.split_once('}').expect("an end").0.lines().map(str::trim);
            let fields: Vec<_> = lines.filter(|line| line.starts_with("i32 ")).collect();
            let names = ["owner", "kept", "rows", "first_row", "budget", "now", "first", "latest"];
            assert_eq!(fields, names.map(|name| format!("i32 {name};")), "{name}");
        }
        let part = Part { owner: 1, kept: 2, rows: 3, first_row: 4, budget: 5, now: 6, first: 7, latest: 8 };
        assert_eq!((part.words(), size_of::<Part>()), ([1, 2, 3, 4, 5, 6, 7, 8], 32));
        assert_eq!(part.to_bytes()[4..8], [2, 0, 0, 0]);
        assert!(Part { first: 2, latest: 3, now: 9, ..part }.protects(1), "a sink");
        assert_eq!([6, 7].map(|at| Part { latest: 3, now: 9, first: 0, ..part }.protects(at)), [false, true]);
    }

    #[test]
    fn splits_fill_the_device() {
        assert_eq!(attend_decode_splits(1, 8, 132), 32);
        assert_eq!(attend_decode_splits(8, 8, 132), 4);
        assert_eq!(attend_decode_splits(17, 8, 132), 1);
        assert_eq!(attend_decode_splits(256, 8, 132), 1);
        for (rows, kv_heads, sms) in (1..40).flat_map(|rows| (1..10).map(move |heads| (rows, heads, 5 * rows + heads)))
        {
            let splits = attend_decode_splits(rows, kv_heads, sms);
            // One wave, and not two where half of the splits would do.
            assert!(splits == 1 || splits * rows * kv_heads <= 2 * sms);
            assert!(splits == ATTEND_SPLITS_MAX || (splits + 1) * rows * kv_heads > 2 * sms);
        }
        assert_eq!(silu_mul_share(14_336), 7);
        assert_eq!(HEAD_DIMS.map(|dim| rope_write_share(48, dim)), [1, 2, 3, 3]);
    }
}
