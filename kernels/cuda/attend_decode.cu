// Attention of one new position per sequence over the paged cache.
//
// A block takes a part of a sequence's tokens and one KV head. The query heads that share it are the rows of an mma tile, so
// that keys and values are read once. Each warp has tiles of tokens and a pipeline of its own and meets the others at the end.

#include "prelude.cuh"

constexpr i32 ATTEND_DECODE_WARPS = 4;
constexpr i32 ATTEND_DECODE_THREADS = ATTEND_DECODE_WARPS * 32;
constexpr i32 ATTEND_DECODE_STAGES = 3;
constexpr i32 TILE = 16;
// Keys and values of a tile.
constexpr i32 STAGE_BYTES = 2 * TILE * ROW_BYTES;
constexpr i32 ATTEND_DECODE_SHARED = ATTEND_DECODE_WARPS * ATTEND_DECODE_STAGES * STAGE_BYTES;
constexpr i32 ATTEND_MERGE_THREADS = 128;
constexpr i32 ATTEND_SPLITS_MAX = 32;
constexpr i32 STEPS = HEAD_DIM / 16;
// Rows of the tile beyond the eighth are used or not, for all lanes alike.
constexpr i32 HALVES = GROUP > 8 ? 2 : 1;
constexpr float LOG2_E = 1.4426950408889634f;
// Floats from one row of a warp's result to the next: rows lie in different banks.
constexpr i32 RESULT_ROW = HEAD_DIM + 8;
static_assert(ATTEND_DECODE_WARPS * GROUP * RESULT_ROW * 4 <= ATTEND_DECODE_SHARED, "results fit where tiles were");

// Where a warp reads.
struct Source {
    Cache cache;
    const i32* table;
    i32 length;
};

// Slot of token `lane` % TILE of a tile; the first of the cache behind the end.
__device__ __forceinline__ u32 slot_in(const Source& source, i32 tile, i32 last) {
    const i32 position = tile * TILE + static_cast<i32>(threadIdx.x) % TILE;
    return tile < last && position < source.length ? slot_of(source.table, position) : 0;
}

// Starts the copies of a tile into a stage; tokens behind the end become zeros.
__device__ __forceinline__ void fetch(const Source& source, i32 tile, u32 slots, u8* stage) {
    const i32 lane = threadIdx.x % 32;
    const i32 valid = source.length - tile * TILE;
#pragma unroll
    for (i32 i = 0; i < TILE * CHUNKS / 32; ++i) {
        const i32 row = (i * 32 + lane) / CHUNKS, chunk = (i * 32 + lane) % CHUNKS;
        fetch_chunk(stage, TILE * ROW_BYTES, row, chunk, source.cache, shuffle(slots, row), row < valid);
    }
}

// Query heads of the group as fragments; rows without a head are zeros.
__device__ __forceinline__ void load_group(u32 (&q)[STEPS][4], const bf16* queries) {
    const i32 lane = threadIdx.x % 32;
#pragma unroll
    for (i32 step = 0; step < STEPS; ++step) {
#pragma unroll
        for (i32 i = 0; i < 4; ++i) {
            const i32 row = lane / 4 + i % 2 * 8, at = step * 16 + i / 2 * 8 + lane % 4 * 2;
            q[step][i] = row < GROUP ? *reinterpret_cast<const u32*>(queries + row * HEAD_DIM + at) : 0;
        }
    }
}

// What a warp has so far of its rows `lane` / 4 and that + 8: largest score in units of log2, this lane's part of the sum of
// weights, weighted sum of values.
struct State {
    float most[HALVES];
    float sum[HALVES];
    float out[2 * STEPS][4];
};

// Turns scores into weights relative to the largest so far, and brings what there is into the same terms.
__device__ __forceinline__ void soften(State& state, float (&s)[2][4], float scale) {
#pragma unroll
    for (i32 half = 0; half < HALVES; ++half) {
        float most = fmaxf(fmaxf(s[0][2 * half], s[0][2 * half + 1]), fmaxf(s[1][2 * half], s[1][2 * half + 1]));
        most = fmaxf(most, shuffle_xor(most, 1));
        most = fmaxf(most, shuffle_xor(most, 2)) * scale;
        most = fmaxf(most, state.most[half]);
        const float shrink = exp2_fast(state.most[half] - most);
        state.most[half] = most;
        float sum = 0.0f;
#pragma unroll
        for (i32 i = 0; i < 4; ++i) {
            float& x = s[i / 2][2 * half + i % 2];
            x = exp2_fast(x * scale - most);
            sum += x;
        }
        state.sum[half] = state.sum[half] * shrink + sum;
        // The further on, the rarer.
        if (shrink != 1.0f) {
#pragma unroll
            for (i32 i = 0; i < 2 * STEPS; ++i) {
                state.out[i][2 * half] *= shrink;
                state.out[i][2 * half + 1] *= shrink;
            }
        }
    }
    // Lanes may have parted, and matrix instructions want them together.
    sync_warp();
}

// Takes in a tile that has arrived. `valid`: how many of its tokens there are; at least one.
__device__ __forceinline__ void take(State& state, const u32 (&q)[STEPS][4], u8* stage, i32 valid, float scale) {
    float s[2][4] = {};
    const LaneRow keys = lane_across(stage), values = lane_down(stage + TILE * ROW_BYTES);
#pragma unroll
    for (i32 step = 0; step < STEPS; ++step) {
        u32 near[2], far[2];
        load_keys(near, far, keys, 0, step);
        mma_m16n8k16(s[0], q[step], near);
        mma_m16n8k16(s[1], q[step], far);
    }
    if (valid < TILE) {
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            const i32 token = i / 4 * 8 + static_cast<i32>(threadIdx.x) % 4 * 2 + i % 2;
            s[i / 4][i % 4] = token < valid ? s[i / 4][i % 4] : -infinity();
        }
    }
    soften(state, s, scale);
    const u32 weights[4] = {
        pack2(s[0][0], s[0][1]), HALVES > 1 ? pack2(s[0][2], s[0][3]) : 0,
        pack2(s[1][0], s[1][1]), HALVES > 1 ? pack2(s[1][2], s[1][3]) : 0};
#pragma unroll
    for (i32 step = 0; step < STEPS; ++step) {
        u32 near[2], far[2];
        load_values(near, far, values, 0, step);
        mma_m16n8k16(state.out[2 * step], weights, near);
        mma_m16n8k16(state.out[2 * step + 1], weights, far);
    }
}

// Runs over tiles first, first + ATTEND_DECODE_WARPS ... below `last`.
__device__ __forceinline__ void take_tiles(
    State& state, const u32 (&q)[STEPS][4], const Source& source, u8* stages, i32 first, i32 last, float scale) {
    constexpr i32 AHEAD = ATTEND_DECODE_STAGES - 1;
    // The table is read a turn before its slots are used.
    u32 slots = slot_in(source, first, last);
#pragma unroll
    for (i32 i = 0; i < AHEAD; ++i) {
        const i32 tile = first + i * ATTEND_DECODE_WARPS;
        if (tile < last) {
            fetch(source, tile, slots, stages + i * STAGE_BYTES);
        }
        cp_async_commit();
        slots = slot_in(source, tile + ATTEND_DECODE_WARPS, last);
    }
    i32 stage = 0;
    for (i32 tile = first; tile < last; tile += ATTEND_DECODE_WARPS) {
        cp_async_wait<AHEAD - 1>();
        // All lanes' copies of this tile are there, and all lanes have read the stage that is filled next.
        sync_warp();
        const i32 next = tile + AHEAD * ATTEND_DECODE_WARPS;
        if (next < last) {
            fetch(source, next, slots, stages + (stage == 0 ? AHEAD : stage - 1) * STAGE_BYTES);
        }
        // Possibly an empty group: the wait counts groups.
        cp_async_commit();
        slots = slot_in(source, next + ATTEND_DECODE_WARPS, last);
        take(state, q, stages + stage * STAGE_BYTES, source.length - tile * TILE, scale);
        stage = stage == AHEAD ? 0 : stage + 1;
    }
    cp_async_wait<0>();
}

// Largest score and sum of weights of a row, of each warp.
struct Stats {
    float most[ATTEND_DECODE_WARPS][16];
    float sum[ATTEND_DECODE_WARPS][16];
};

__device__ __forceinline__ void show(const State& state, Stats& stats, float* results) {
    const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (i32 half = 0; half < HALVES; ++half) {
        const i32 row = lane / 4 + half * 8;
        float sum = state.sum[half];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (row < GROUP) {
            if (lane % 4 == 0) {
                stats.most[warp][row] = state.most[half];
                stats.sum[warp][row] = sum;
            }
            float* to = results + (warp * GROUP + row) * RESULT_ROW + lane % 4 * 2;
#pragma unroll
            for (i32 i = 0; i < 2 * STEPS; ++i) {
                to[i * 8] = state.out[i][2 * half];
                to[i * 8 + 1] = state.out[i][2 * half + 1];
            }
        }
    }
}

// Eight numbers of a row over all warps, in terms of the largest score of all.
struct Joined {
    float most;
    float sum;
    float x[8];
};

__device__ __forceinline__ Joined join(const Stats& stats, const float* results, i32 row, i32 chunk) {
    Joined joined = {-infinity(), 0.0f, {}};
#pragma unroll
    for (i32 warp = 0; warp < ATTEND_DECODE_WARPS; ++warp) {
        joined.most = fmaxf(joined.most, stats.most[warp][row]);
    }
#pragma unroll
    for (i32 warp = 0; warp < ATTEND_DECODE_WARPS; ++warp) {
        // A warp without tiles has -inf and weighs nothing; the first has one.
        const float weight = exp2_fast(stats.most[warp][row] - joined.most);
        joined.sum += weight * stats.sum[warp][row];
        const float* from = results + (warp * GROUP + row) * RESULT_ROW + chunk * 8;
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            joined.x[i] += weight * from[i];
        }
    }
    return joined;
}

__device__ __forceinline__ void store_floats(float* to, const float (&x)[8]) {
#pragma unroll
    for (i32 i = 0; i < 8; i += 4) {
        store16(to + i, Vec16{{float_bits(x[i]), float_bits(x[i + 1]), float_bits(x[i + 2]), float_bits(x[i + 3])}});
    }
}

__device__ __forceinline__ void store_stats(float* stats, i64 place, float most, float sum) {
    stats[2 * place] = most;
    stats[2 * place + 1] = sum;
}

// Grid: (splits, kv_heads, rows). Row t of `qkv` attends to positions 0..=positions[t] of the sequence owners[t], which are in
// the cache, its own included; below zero: the row is left alone. The tokens are dealt to the splits by the length. One split
// writes `out` [row][heads][HEAD_DIM]; more write `partial` [row][head][split][HEAD_DIM], not yet divided by the sum, and
// `stats` [row][head][split] {largest score in units of log2, sum}, for `attend_merge`. A split without tokens writes
// stats {-inf, 0} alone. heads = kv_heads * GROUP.
extern "C" __global__ void __launch_bounds__(ATTEND_DECODE_THREADS, 2) attend_decode(
    bf16* __restrict__ out, float* __restrict__ partial, float* __restrict__ stats, const bf16* __restrict__ qkv,
    const bf16* __restrict__ keys, const bf16* __restrict__ values, const i32* __restrict__ tables, i32 table_width,
    const i32* __restrict__ positions, const i32* __restrict__ owners, i32 heads, i32 kv_heads, i32 splits, float scale) {
    DYNAMIC_SHARED(shared);
    SHARED(Stats, warps, [1]);
    const i64 row = blockIdx.z;
    const i32 owner = owners[row];
    if (owner < 0) {
        return;
    }
    const i32 kv_head = blockIdx.y, split = blockIdx.x, warp = threadIdx.x / 32;
    const i32 length = positions[row] + 1;
    const i32* table = tables + static_cast<i64>(owner) * table_width;
    const Source source{cache_of(keys, values, kv_heads, kv_head), table, length};
    const i32 tiles = (length + TILE - 1) / TILE;
    // Fewer tiles than warps are not worth a split.
    const i32 share = max((tiles + splits - 1) / splits, ATTEND_DECODE_WARPS);
    const i32 first = split * share, last = min(first + share, tiles);
    if (first >= tiles) {
        if (threadIdx.x < GROUP) {
            store_stats(stats, (row * heads + kv_head * GROUP + threadIdx.x) * splits + split, -infinity(), 0.0f);
        }
        return;
    }
    State state = {};
#pragma unroll
    for (i32 half = 0; half < HALVES; ++half) {
        state.most[half] = -infinity();
    }
    u32 q[STEPS][4];
    load_group(q, qkv + (row * (heads + 2 * kv_heads) + kv_head * GROUP) * HEAD_DIM);
    u8* stages = shared + warp * ATTEND_DECODE_STAGES * STAGE_BYTES;
    take_tiles(state, q, source, stages, first + warp, last, scale * LOG2_E);
    // No warp reads tiles any more: results take their place.
    __syncthreads();
    float* results = reinterpret_cast<float*>(shared);
    show(state, warps[0], results);
    __syncthreads();
    for (i32 i = threadIdx.x; i < GROUP * CHUNKS; i += ATTEND_DECODE_THREADS) {
        const i32 chunk = i % CHUNKS;
        const i64 head = row * heads + kv_head * GROUP + i / CHUNKS;
        Joined joined = join(warps[0], results, i / CHUNKS, chunk);
        if (splits > 1) {
            const i64 place = head * splits + split;
            if (chunk == 0) {
                store_stats(stats, place, joined.most, joined.sum);
            }
            store_floats(partial + place * HEAD_DIM + chunk * 8, joined.x);
            continue;
        }
#pragma unroll
        for (i32 j = 0; j < 8; ++j) {
            joined.x[j] /= joined.sum;
        }
        store16(out + head * HEAD_DIM + chunk * 8, pack8(joined.x));
    }
}

// Grid: (heads, rows). Puts the splits of `attend_decode` together, at most ATTEND_SPLITS_MAX.
extern "C" __global__ void __launch_bounds__(ATTEND_MERGE_THREADS, 8) attend_merge(
    bf16* __restrict__ out, const float* __restrict__ partial, const float* __restrict__ stats,
    const i32* __restrict__ owners, i32 heads, i32 splits) {
    // A thread has four numbers of a row and every GROUPS-th split.
    constexpr i32 QUADS = HEAD_DIM / 4;
    constexpr i32 GROUPS = ATTEND_MERGE_THREADS / QUADS;
    constexpr i32 TURNS = (ATTEND_SPLITS_MAX + GROUPS - 1) / GROUPS;
    SHARED(float, sums, [GROUPS * HEAD_DIM]);
    const i64 row = blockIdx.y;
    if (owners[row] < 0) {
        return;
    }
    const i64 head = row * heads + blockIdx.x;
    const float* own = stats + head * splits * 2;
    const i32 lane = threadIdx.x % 32, group = threadIdx.x / QUADS, quad = threadIdx.x % QUADS;
    // Every warp weighs all splits, one in each lane. An empty split weighs nothing and has written nothing else.
    const float mine = lane < splits ? own[2 * lane] : -infinity();
    const float inside = lane < splits ? own[2 * lane + 1] : 0.0f;
    const float most = warp_max(mine);
    const float weight = inside > 0.0f ? exp2_fast(mine - most) : 0.0f;
    const float sum = warp_sum(weight * inside);
    float weights[TURNS];
    Vec16 parts[TURNS];
#pragma unroll
    for (i32 turn = 0; turn < TURNS; ++turn) {
        const i32 split = turn * GROUPS + group;
        const float given = shuffle(weight, split % 32);
        weights[turn] = group < GROUPS && split < splits ? given : 0.0f;
        parts[turn] = weights[turn] > 0.0f ? load16(partial + (head * splits + split) * HEAD_DIM + quad * 4)
                                           : Vec16{{0, 0, 0, 0}};
    }
    float x[4] = {};
#pragma unroll
    for (i32 turn = 0; turn < TURNS; ++turn) {
#pragma unroll
        for (i32 i = 0; i < 4; ++i) {
            x[i] += weights[turn] * float_from_bits(parts[turn].w[i]);
        }
    }
    if (group < GROUPS) {
        store16(sums + group * HEAD_DIM + quad * 4,
                Vec16{{float_bits(x[0]), float_bits(x[1]), float_bits(x[2]), float_bits(x[3])}});
    }
    __syncthreads();
    if (threadIdx.x < CHUNKS) {
        float y[8] = {};
#pragma unroll
        for (i32 other = 0; other < GROUPS; ++other) {
#pragma unroll
            for (i32 i = 0; i < 8; i += 4) {
                const Vec16 v = load16(sums + other * HEAD_DIM + threadIdx.x * 8 + i);
#pragma unroll
                for (i32 j = 0; j < 4; ++j) {
                    y[i + j] += float_from_bits(v.w[j]);
                }
            }
        }
        const float scale = sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            y[i] *= scale;
        }
        store16(out + head * HEAD_DIM + threadIdx.x * 8, pack8(y));
    }
}
