//! Bytes and FLOP of one launch.

use std::ops::Add;

/// What one launch must at least move and compute.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Bytes read from and written to device memory.
    pub bytes: u64,
    /// Floating-point operations; a multiplication with addition counts two.
    pub flop: u64,
}

impl Work {
    /// The shortest possible time [s] at a bandwidth [bytes/s] and a peak [FLOP/s].
    pub fn floor_s(&self, bandwidth: f64, peak: f64) -> f64 {
        (self.bytes as f64 / bandwidth).max(self.flop as f64 / peak)
    }

    /// FLOP per byte.
    pub fn intensity(&self) -> f64 {
        self.flop as f64 / self.bytes.max(1) as f64
    }
}

impl Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work { bytes: self.bytes + other.bytes, flop: self.flop + other.flop }
    }
}

/// Heads of an attention launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heads {
    /// Query heads.
    pub query: u64,
    /// Key and value heads; divides `query`.
    pub kv: u64,
    /// Width of one head.
    pub dim: u64,
}

/// New tokens of one sequence, and those already in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Tokens computed in this launch.
    pub tokens: u64,
    /// Keys and values already stored.
    pub past: u64,
}

/// `y[m,n] = x[m,k] · W[n,k]ᵀ` with weights of `weight_bits` bits and activations of `activation_bytes` bytes.
pub fn matmul(m: u64, n: u64, k: u64, weight_bits: u64, activation_bytes: u64) -> Work {
    Work { bytes: (n * k * weight_bits).div_ceil(8) + activation_bytes * m * (n + k), flop: 2 * m * n * k }
}

/// Attention of one new token per sequence over a paged cache, its own key and value already written.
/// `contexts`: attended tokens of each sequence, the current one included. Queries and outputs are 16-bit; the block
/// table (4 bytes per 16 tokens or so) is not counted.
pub fn paged_decode_attention(heads: Heads, kv_bytes: u64, contexts: impl IntoIterator<Item = u64>) -> Work {
    contexts.into_iter().fold(Work::default(), |sum, context| {
        let queries = 2 * 2 * heads.query * heads.dim;
        let cache = 2 * kv_bytes * heads.kv * heads.dim * context;
        sum + Work { bytes: queries + cache, flop: 4 * heads.query * heads.dim * context }
    })
}

/// Causal attention of chunks of new tokens: reads queries, new keys and values and the cached past once, writes
/// outputs and stores the new keys and values. Activations are 16-bit.
pub fn prefill_attention(heads: Heads, kv_bytes: u64, chunks: impl IntoIterator<Item = Chunk>) -> Work {
    chunks.into_iter().fold(Work::default(), |sum, Chunk { tokens, past }| {
        let activations = 2 * heads.dim * tokens * (2 * heads.query + 2 * heads.kv);
        let cache = 2 * kv_bytes * heads.kv * heads.dim * (tokens + past);
        let pairs = tokens * past + tokens * (tokens + 1) / 2;
        sum + Work { bytes: activations + cache, flop: 4 * heads.query * heads.dim * pairs }
    })
}

/// Root-mean-square norm of `rows` rows in 16 bits: read, scale, write. Square, sum, scale and weight: four FLOP each.
pub fn rms_norm(rows: u64, width: u64) -> Work {
    Work { bytes: 2 * (2 * rows * width + width), flop: 4 * rows * width }
}

/// Rows of the embedding table, 16 bits: read once, written once, and a 32-bit input each.
pub fn embed(rows: u64, width: u64) -> Work {
    Work { bytes: rows * (2 * 2 * width + 4), flop: 0 }
}

/// Norm of rows of a stream in 16 bits by 32-bit weights; with `adds`, of their sum with a change, which is written back.
pub fn add_norm(rows: u64, width: u64, adds: bool) -> Work {
    let arrays = if adds { 4 } else { 2 };
    Work { bytes: 2 * arrays * rows * width + 4 * width, flop: (4 + u64::from(adds)) * rows * width }
}

/// What [`rope_write`] does beside rotating.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Before {
    /// Adds a bias.
    pub bias: bool,
    /// Norms queries and keys.
    pub norms: bool,
}

/// Rotation of queries and keys in 16 bits, and the write of keys and values: reads a row, writes all of it somewhere. Three FLOP
/// for each number that turns; sines and cosines, weights and biases in 32 bits.
pub fn rope_write(rows: u64, heads: Heads, before: Before) -> Work {
    let turned = (heads.query + heads.kv) * heads.dim;
    let all = turned + heads.kv * heads.dim;
    let bytes = rows * (2 * 2 * all + 4 * heads.dim)
        + 4 * (u64::from(before.bias) * all + u64::from(before.norms) * 2 * heads.dim);
    let flop = rows * (3 * turned + u64::from(before.bias) * all + u64::from(before.norms) * 4 * turned);
    Work { bytes, flop }
}

/// Putting together the splits of decode attention: 32-bit sums with a largest score and a total each, 16-bit outputs.
pub fn attend_merge(rows: u64, heads: Heads, splits: u64) -> Work {
    let sums = rows * heads.query * splits;
    let outputs = rows * heads.query * heads.dim;
    Work { bytes: sums * 4 * (heads.dim + 2) + 2 * outputs, flop: 2 * sums * (heads.dim + 1) + outputs }
}

/// The gated activation in 16 bits: two numbers in, one out; five FLOP, the exponential being one.
pub fn silu_mul(rows: u64, inner: u64) -> Work {
    Work { bytes: 2 * 3 * rows * inner, flop: 5 * rows * inner }
}

/// A token from 32-bit logits, read once: a comparison each, which counts as FLOP.
pub fn sample(rows: u64, vocab: u64) -> Work {
    Work { bytes: 4 * rows * vocab, flop: rows * vocab }
}

/// Changes of block tables: three numbers in, one out.
pub fn update_tables(changes: u64) -> Work {
    Work { bytes: 16 * changes, flop: 0 }
}

/// Moves of blocks in all planes, [bytes] of one block in one plane.
pub fn move_blocks(blocks: u64, planes: u64, block_bytes: u64) -> Work {
    Work { bytes: 2 * blocks * planes * block_bytes, flop: 0 }
}

/// Notes of new tokens: a position and a note out for each KV head, and in what they are made of: a key in 16 bits, or what the inner
/// layer of a network gives in 32 bits (its second layer is counted once; five FLOP for each activation).
pub fn note_tokens(rows: u64, kv_heads: u64, key: u64, width: u64) -> Work {
    let network = if width > 0 { 4 * (rows * width + width + kv_heads * (width + 1)) } else { 0 };
    let flop = rows * kv_heads * (2 * key + 2 * width) + 6 * rows * width;
    Work { bytes: rows * (kv_heads * (8 + 2 * key) + 12) + network, flop }
}

/// Products of the queries of a group with keys in 16 bits, `pairs` of a row and a slot, where `slots` are read; `out` numbers in 32 bits.
pub fn weigh(heads: Heads, pairs: u64, slots: u64, out: u64) -> Work {
    Work { bytes: 2 * heads.kv * heads.dim * slots + 4 * out, flop: 2 * heads.query * heads.dim * pairs }
}

/// Scores from the keys of so many slots in each head: a sum, and a product with it.
pub fn score_keys(slots: u64, kv_heads: u64, dim: u64) -> Work {
    Work { bytes: slots * kv_heads * (2 * dim + 4), flop: 6 * slots * kv_heads * dim }
}

/// A search for the lowest scores among `slots` of each head, positions and notes read once, and `moves` of keys and values in 16 bits.
pub fn cut_tokens(slots: u64, kv_heads: u64, moves: u64, dim: u64) -> Work {
    Work { bytes: 8 * slots * kv_heads + moves * 2 * (4 * dim + 8), flop: slots * kv_heads }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: Heads = Heads { query: 32, kv: 8, dim: 128 };

    #[test]
    fn a_matmul_by_hand() {
        assert_eq!(matmul(2, 3, 4, 16, 2), Work { bytes: 24 + 28, flop: 48 });
        assert_eq!(matmul(1, 3, 3, 4, 2).bytes, 5 + 12);
    }

    #[test]
    fn decode_attention_streams_the_cache() {
        let work = paged_decode_attention(LLAMA, 2, [2048; 64]);
        assert_eq!(work.bytes, 64 * (2048 * 4096 + 16_384));
        assert!((3.9..4.0).contains(&work.intensity()), "{}", work.intensity());
        assert!(work.floor_s(4.8e12, 989e12) > 1.1e-4);
    }

    #[test]
    fn a_prompt_in_chunks_computes_the_same_and_reads_more() {
        let chunk = |tokens, past| Chunk { tokens, past };
        let whole = prefill_attention(LLAMA, 2, [chunk(1024, 0)]);
        let parts = prefill_attention(LLAMA, 2, [chunk(256, 0), chunk(256, 256), chunk(512, 512)]);
        assert_eq!(whole.flop, parts.flop);
        assert_eq!(whole.flop, 2 * 32 * 128 * 1024 * 1025);
        assert_eq!(parts.bytes - whole.bytes, (256 + 512) * 4096);
    }

    #[test]
    fn decode_is_a_prefill_of_one_token() {
        let one = prefill_attention(LLAMA, 2, [Chunk { tokens: 1, past: 99 }]);
        let decode = paged_decode_attention(LLAMA, 2, [100]);
        assert_eq!(one.flop, decode.flop);
        // The prefill launch also takes the new key and value as activations.
        assert_eq!(one.bytes - decode.bytes, 2 * 2 * 8 * 128);
        assert_eq!(rms_norm(3, 5), Work { bytes: 70, flop: 60 });
    }

    #[test]
    fn small_kernels_by_hand() {
        assert_eq!(embed(2, 8), Work { bytes: 72, flop: 0 });
        assert_eq!(add_norm(3, 8, false), Work { bytes: 2 * 48 + 32, flop: 96 });
        assert_eq!(add_norm(3, 8, true), Work { bytes: 4 * 48 + 32, flop: 120 });
        let heads = Heads { query: 2, kv: 1, dim: 4 };
        // Sixteen numbers a row, twelve of which turn by two angles.
        assert_eq!(rope_write(3, heads, Before::default()), Work { bytes: 3 * (64 + 16), flop: 108 });
        let all = Before { bias: true, norms: true };
        assert_eq!(rope_write(3, heads, all), Work { bytes: 3 * 80 + 4 * 16 + 4 * 8, flop: 108 + 48 + 144 });
        assert_eq!(attend_merge(1, heads, 3), Work { bytes: 6 * 24 + 16, flop: 60 + 8 });
        assert_eq!(silu_mul(2, 8), Work { bytes: 96, flop: 80 });
        assert_eq!(sample(2, 100), Work { bytes: 800, flop: 200 });
        assert_eq!(note_tokens(3, 2, 0, 0), Work { bytes: 3 * (16 + 12), flop: 0 });
        assert_eq!(note_tokens(3, 2, 4, 0), Work { bytes: 3 * (2 * 16 + 12), flop: 48 });
        assert_eq!(note_tokens(3, 2, 0, 8), Work { bytes: 84 + 4 * (24 + 8 + 18), flop: 96 + 144 });
        assert_eq!(weigh(heads, 6, 4, 5), Work { bytes: 32 + 20, flop: 96 });
        assert_eq!(score_keys(5, 2, 4), Work { bytes: 120, flop: 240 });
        assert_eq!(cut_tokens(5, 2, 3, 4), Work { bytes: 80 + 144, flop: 10 });
        assert_eq!(update_tables(5).bytes, 80);
        assert_eq!(move_blocks(3, 4, 16).bytes, 384);
    }
}
