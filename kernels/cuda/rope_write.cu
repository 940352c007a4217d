// Queries and keys get their place in the sequence; keys and values go to the cache.

#include "prelude.cuh"

constexpr i32 ROPE_WRITE_THREADS = 128;
// A lane holds 8 numbers of a head's lower half and the 8 that they are rotated with.
constexpr i32 ROPE_WRITE_USED = HEAD_DIM / 16;
// Lanes of a head, a power of two, so that shuffles stay inside.
constexpr i32 ROPE_WRITE_LANES = HEAD_DIM <= 32 ? 2 : HEAD_DIM <= 64 ? 4 : 8;
constexpr i32 ROPE_WRITE_HEADS = 32 / ROPE_WRITE_LANES;
constexpr i32 HALF = HEAD_DIM / 2;

// The 16 numbers of a lane: `low` at 8 * part, `high` half a head further.
struct Halves {
    float low[8];
    float high[8];
};

__device__ __forceinline__ void load_floats(const float* from, float (&to)[8]) {
    const Vec16 first = load16(from), second = load16(from + 4);
#pragma unroll
    for (i32 i = 0; i < 4; ++i) {
        to[i] = float_from_bits(first.w[i]);
        to[4 + i] = float_from_bits(second.w[i]);
    }
}

__device__ __forceinline__ void load_floats(const float* from, Halves& to) {
    load_floats(from, to.low);
    load_floats(from + HALF, to.high);
}

__device__ __forceinline__ void add_bias(Halves& x, const Halves& bias) {
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        x.low[i] += bias.low[i];
        x.high[i] += bias.high[i];
    }
}

// All lanes of the warp come here, those without numbers with zeros.
__device__ __forceinline__ float square_sum(const Halves& x) {
    float sum = 0.0f;
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        sum += x.low[i] * x.low[i] + x.high[i] * x.high[i];
    }
#pragma unroll
    for (i32 mask = ROPE_WRITE_LANES / 2; mask > 0; mask /= 2) {
        sum += shuffle_xor(sum, mask);
    }
    return sum;
}

__device__ __forceinline__ void multiply(Halves& x, float scale, const Halves& weight) {
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        x.low[i] = x.low[i] * scale * weight.low[i];
        x.high[i] = x.high[i] * scale * weight.high[i];
    }
}

// `angle`: cosines in `low`, sines in `high`.
__device__ __forceinline__ void rotate(Halves& x, const Halves& angle) {
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        const float low = x.low[i], high = x.high[i];
        x.low[i] = low * angle.low[i] - high * angle.high[i];
        x.high[i] = high * angle.low[i] + low * angle.high[i];
    }
}

// Grid: (rows, blocks for all heads of a row: ROPE_WRITE_HEADS for each warp). A row of `qkv` is
// [heads | kv_heads | kv_heads] x HEAD_DIM. Adds `bias` (may be null) to all; norms each head of queries and keys (if the norms'
// weights are not null) and rotates it by the row's position (pairs i and i + HEAD_DIM / 2; `cos`, `sin`
// [position][HEAD_DIM / 2]). Queries stay in `qkv`, keys and values go to slot slots[row] of their sequence. Rows without an owner are
// left alone.
extern "C" __global__ void __launch_bounds__(ROPE_WRITE_THREADS) rope_write(
    bf16* __restrict__ qkv, const float* __restrict__ bias, const float* __restrict__ query_norm,
    const float* __restrict__ key_norm, const float* __restrict__ cos, const float* __restrict__ sin,
    const i32* __restrict__ positions, const i32* __restrict__ slots, const i32* __restrict__ owners,
    const i32* __restrict__ tables, i32 table_width, bf16* __restrict__ keys, bf16* __restrict__ values, i32 heads,
    i32 kv_heads, float eps) {
    const i64 row = blockIdx.x;
    const i32 owner = owners[row];
    const i32 position = positions[row], place = slots[row];
    const i32 lane = threadIdx.x % 32, warp = blockIdx.y * (ROPE_WRITE_THREADS / 32) + threadIdx.x / 32;
    const i32 part = lane % ROPE_WRITE_LANES, head = warp * ROPE_WRITE_HEADS + lane / ROPE_WRITE_LANES;
    const i32 all = heads + 2 * kv_heads;
    const bool used = head < all && part < ROPE_WRITE_USED;
    bf16* from = qkv + (row * all + head) * HEAD_DIM + part * 8;
    const float* norm = head < heads ? query_norm : key_norm;
    // What depends on nothing is read while the owner and the position are on their way.
    Halves x = {}, offset = {}, weight = {}, angle = {};
    if (used) {
        unpack8(load16(from), x.low);
        unpack8(load16(from + HALF), x.high);
        if (bias != nullptr) {
            load_floats(bias + head * HEAD_DIM + part * 8, offset);
        }
        if (norm != nullptr) {
            load_floats(norm + part * 8, weight);
        }
    }
    if (owner < 0) {
        return;
    }
    const i64 angle_at = static_cast<i64>(position) * HALF + part * 8;
    // The slot is needed last, the angles before it.
    if (used) {
        load_floats(cos + angle_at, angle.low);
        load_floats(sin + angle_at, angle.high);
    }
    const i64 slot = slot_of(tables + static_cast<i64>(owner) * table_width, place);
    if (bias != nullptr) {
        add_bias(x, offset);
    }
    const float scale = 1.0f / sqrtf(square_sum(x) / HEAD_DIM + eps);
    if (!used) {
        return;
    }
    if (head < heads + kv_heads) {
        if (norm != nullptr) {
            multiply(x, scale, weight);
        }
        rotate(x, angle);
    }
    bf16* to = from;
    if (head >= heads) {
        const bool is_key = head < heads + kv_heads;
        const i32 kv_head = head - heads - (is_key ? 0 : kv_heads);
        to = (is_key ? keys : values) + (slot * kv_heads + kv_head) * HEAD_DIM + part * 8;
    }
    store16(to, pack8(x.low));
    store16(to + HALF, pack8(x.high));
}
