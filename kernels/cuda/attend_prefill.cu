// Causal attention of chunks of new positions over the paged cache, after FlashAttention-2 (Dao 2023).
//
// A block takes one query head of a tile of neighbouring positions; a warp 32 of them, so that every key and value read from
// shared memory meets two fragments of queries. While a tile of tokens is computed, the next one is copied.

#include "prelude.cuh"

constexpr i32 PREFILL_TILE = 128;
constexpr i32 ATTEND_PREFILL_WARPS = 4;
constexpr i32 ATTEND_PREFILL_THREADS = ATTEND_PREFILL_WARPS * 32;
constexpr i32 ROWS = PREFILL_TILE / ATTEND_PREFILL_WARPS;
// Fragments of 16 rows.
constexpr i32 PARTS = ROWS / 16;
constexpr i32 TOKENS = 64;
// Of these, as many as a warp takes in at once: their scores must fit into registers beside the sums.
constexpr i32 SPAN = HEAD_DIM > 64 ? 32 : 64;
constexpr i32 STEPS = HEAD_DIM / 16;
// Keys and values of a tile of tokens.
constexpr i32 STAGE_BYTES = 2 * TOKENS * ROW_BYTES;
constexpr i32 ATTEND_PREFILL_SHARED = PREFILL_TILE * ROW_BYTES + 2 * STAGE_BYTES;
constexpr float LOG2_E = 1.4426950408889634f;
static_assert(ATTEND_PREFILL_SHARED <= 98304, "more would exclude GPUs");
static_assert(TOKENS * CHUNKS % ATTEND_PREFILL_THREADS == 0, "each thread copies as much");

// Where a block reads.
struct Source {
    Cache cache;
    const i32* table;
    i32 length;
};

// Slots of a tile's tokens, by its first threads; the first of the cache behind the end.
__device__ __forceinline__ void find_slots(const Source& source, i32 tile, u32* slots) {
    if (threadIdx.x < TOKENS) {
        const i32 position = tile * TOKENS + static_cast<i32>(threadIdx.x);
        slots[threadIdx.x] = position < source.length ? slot_of(source.table, position) : 0;
    }
}

// Starts the copies of a tile; tokens behind the end become zeros.
__device__ __forceinline__ void fetch(const Source& source, i32 tile, const u32* slots, u8* stage) {
    constexpr i32 TURNS = TOKENS * CHUNKS / ATTEND_PREFILL_THREADS;
    const i32 valid = source.length - tile * TOKENS;
    // All are read before the first copy: none of these reads may pass a copy, and each would be waited for.
    u32 own[TURNS];
#pragma unroll
    for (i32 i = 0; i < TURNS; ++i) {
        own[i] = slots[(i * ATTEND_PREFILL_THREADS + threadIdx.x) / CHUNKS];
    }
#pragma unroll
    for (i32 i = 0; i < TURNS; ++i) {
        const i32 item = i * ATTEND_PREFILL_THREADS + threadIdx.x;
        const i32 token = item / CHUNKS, chunk = item % CHUNKS;
        fetch_chunk(stage, TOKENS * ROW_BYTES, token, chunk, source.cache, own[i], token < valid);
    }
}

// Starts the copies of the queries; rows behind the last become zeros.
__device__ __forceinline__ void fetch_queries(const bf16* queries, i64 stride, i32 count, u8* rows) {
#pragma unroll
    for (i32 i = 0; i < PREFILL_TILE * CHUNKS / ATTEND_PREFILL_THREADS; ++i) {
        const i32 item = i * ATTEND_PREFILL_THREADS + threadIdx.x;
        const i32 row = item / CHUNKS, chunk = item % CHUNKS;
        const bool valid = row < count;
        cp_async16(chunk_at(rows, row, chunk), queries + (valid ? row : 0) * stride + chunk * 8, valid);
    }
}

// What a warp has so far of its rows `lane` / 4 and that + 8 of each part: largest score in units of log2, this lane's part of
// the sum of weights, weighted sum of values.
struct State {
    float most[PARTS][2];
    float sum[PARTS][2];
    float out[PARTS][2 * STEPS][4];
};

typedef float Scores[PARTS][SPAN / 8][4];

__device__ __forceinline__ void multiply_keys(Scores& s, const LaneRow& queries, const LaneRow& keys) {
#pragma unroll
    for (i32 step = 0; step < STEPS; ++step) {
        u32 q[PARTS][4];
#pragma unroll
        for (i32 part = 0; part < PARTS; ++part) {
            load_queries(q[part], queries, part * 16, step);
        }
#pragma unroll
        for (i32 pair = 0; pair < SPAN / 16; ++pair) {
            u32 near[2], far[2];
            load_keys(near, far, keys, pair * 16, step);
#pragma unroll
            for (i32 part = 0; part < PARTS; ++part) {
                mma_m16n8k16(s[part][2 * pair], q[part], near);
                mma_m16n8k16(s[part][2 * pair + 1], q[part], far);
            }
        }
    }
}

// Hides tokens behind a query. `room`: how far the warp's first query is behind the first token.
__device__ __forceinline__ void hide_future(Scores& s, i32 room) {
    const i32 lane = threadIdx.x % 32;
#pragma unroll
    for (i32 part = 0; part < PARTS; ++part) {
#pragma unroll
        for (i32 i = 0; i < SPAN / 8 * 4; ++i) {
            const i32 token = i / 4 * 8 + lane % 4 * 2 + i % 2;
            const i32 query = room + part * 16 + lane / 4 + i % 4 / 2 * 8;
            s[part][i / 4][i % 4] = token <= query ? s[part][i / 4][i % 4] : -infinity();
        }
    }
}

// Turns scores into weights relative to the largest so far, and brings what there is into the same terms.
__device__ __forceinline__ void soften(State& state, Scores& s, float scale) {
#pragma unroll
    for (i32 row = 0; row < 2 * PARTS; ++row) {
        const i32 part = row / 2, half = row % 2;
        float most = -infinity();
#pragma unroll
        for (i32 i = 0; i < SPAN / 8; ++i) {
            most = fmaxf(most, fmaxf(s[part][i][2 * half], s[part][i][2 * half + 1]));
        }
        most = fmaxf(most, shuffle_xor(most, 1));
        most = fmaxf(most, shuffle_xor(most, 2)) * scale;
        // Finite: the first span has position 0, which every query sees.
        most = fmaxf(most, state.most[part][half]);
        const float shrink = exp2_fast(state.most[part][half] - most);
        state.most[part][half] = most;
        float sum = 0.0f;
#pragma unroll
        for (i32 i = 0; i < SPAN / 4; ++i) {
            float& x = s[part][i / 2][2 * half + i % 2];
            x = exp2_fast(x * scale - most);
            sum += x;
        }
        state.sum[part][half] = state.sum[part][half] * shrink + sum;
        // The further on, the rarer.
        if (shrink != 1.0f) {
#pragma unroll
            for (i32 i = 0; i < 2 * STEPS; ++i) {
                state.out[part][i][2 * half] *= shrink;
                state.out[part][i][2 * half + 1] *= shrink;
            }
        }
    }
    // Lanes may have parted, and matrix instructions want them together.
    sync_warp();
}

// Weights are where the fragments of A want them: they never leave the registers.
__device__ __forceinline__ void multiply_values(State& state, const Scores& s, const LaneRow& values) {
#pragma unroll
    for (i32 pair = 0; pair < SPAN / 16; ++pair) {
        u32 weights[PARTS][4];
#pragma unroll
        for (i32 part = 0; part < PARTS; ++part) {
#pragma unroll
            for (i32 i = 0; i < 4; ++i) {
                const float(&from)[4] = s[part][2 * pair + i / 2];
                weights[part][i] = pack2(from[i % 2 * 2], from[i % 2 * 2 + 1]);
            }
        }
#pragma unroll
        for (i32 step = 0; step < STEPS; ++step) {
            u32 near[2], far[2];
            load_values(near, far, values, pair * 16, step);
#pragma unroll
            for (i32 part = 0; part < PARTS; ++part) {
                mma_m16n8k16(state.out[part][2 * step], weights[part], near);
                mma_m16n8k16(state.out[part][2 * step + 1], weights[part], far);
            }
        }
    }
}

// Takes in what the warp's queries see of a tile of tokens that has arrived. `room`: how far the warp's first query is behind
// the tile's first token.
__device__ __forceinline__ void take(State& state, u8* queries, u8* stage, i32 room, float scale) {
#pragma unroll 1
    for (i32 first = 0; first < TOKENS && room - first + ROWS > 0; first += SPAN) {
        Scores s = {};
        LaneRow down = lane_down(queries), across = lane_across(stage + first * ROW_BYTES);
        down.mix = opaque(down.mix);
        across.mix = opaque(across.mix);
        multiply_keys(s, down, across);
        if (room - first < SPAN - 1) {
            hide_future(s, room - first);
        }
        soften(state, s, scale);
        down = lane_down(stage + (TOKENS + first) * ROW_BYTES);
        down.mix = opaque(down.mix);
        multiply_values(state, s, down);
    }
}

// Divides by the sums and writes `count` rows by way of the warp's part of the queries, which nobody else reads.
__device__ __forceinline__ void write(State& state, u8* rows, bf16* out, i64 stride, i32 count) {
    const i32 lane = threadIdx.x % 32;
    // All lanes have read the queries.
    sync_warp();
#pragma unroll
    for (i32 row = 0; row < 2 * PARTS; ++row) {
        const i32 part = row / 2, half = row % 2;
        float sum = state.sum[part][half];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const float scale = 1.0f / sum;
#pragma unroll
        for (i32 i = 0; i < 2 * STEPS; ++i) {
            const float(&x)[4] = state.out[part][i];
            u8* at = chunk_at(rows, part * 16 + half * 8 + lane / 4, i) + lane % 4 * 4;
            *reinterpret_cast<u32*>(at) = pack2(x[2 * half] * scale, x[2 * half + 1] * scale);
        }
    }
    sync_warp();
#pragma unroll
    for (i32 i = 0; i < ROWS * CHUNKS / 32; ++i) {
        const i32 row = (i * 32 + lane) / CHUNKS, chunk = (i * 32 + lane) % CHUNKS;
        if (row < count) {
            store16(out + row * stride + chunk * 8, load16(chunk_at(rows, row, chunk)));
        }
    }
}

// Grid: (tiles, heads). A tile is {first row, count <= PREFILL_TILE, row of the block table, position of the first row}: `count`
// rows of `qkv` are positions in a row of one sequence, each attending to all up to itself, which are in the cache, the
// tile's own included. `out` [row][heads][HEAD_DIM]. heads = kv_heads * GROUP. A count of 0 fills up and does nothing.
extern "C" __global__ void __launch_bounds__(ATTEND_PREFILL_THREADS) attend_prefill(
    bf16* __restrict__ out, const bf16* __restrict__ qkv, const bf16* __restrict__ keys,
    const bf16* __restrict__ values, const i32* __restrict__ tables, i32 table_width, const i32* __restrict__ tiles,
    i32 heads, i32 kv_heads, float scale) {
    DYNAMIC_SHARED(shared);
    SHARED(u32, slots, [2 * TOKENS]);
    // The last tiles of a prompt take the longest: they begin first.
    const i32* own = tiles + 4 * static_cast<i64>(gridDim.x - 1 - blockIdx.x);
    const i32 first_row = own[0], count = own[1], owner = own[2], position = own[3];
    if (count <= 0) {
        return;
    }
    const i32 head = blockIdx.y, warp = threadIdx.x / 32;
    const i64 stride = static_cast<i64>(heads + 2 * kv_heads) * HEAD_DIM;
    const i32* table = tables + static_cast<i64>(owner) * table_width;
    const Source source{cache_of(keys, values, kv_heads, head / GROUP), table, position + count};
    const i32 last = (position + count + TOKENS - 1) / TOKENS;
    u8* stages = shared + PREFILL_TILE * ROW_BYTES;
    find_slots(source, 0, slots);
    __syncthreads();
    fetch_queries(qkv + first_row * stride + head * HEAD_DIM, stride, count, shared);
    fetch(source, 0, slots, stages);
    cp_async_commit();
    find_slots(source, 1, slots + TOKENS);
    State state = {};
#pragma unroll
    for (i32 row = 0; row < 2 * PARTS; ++row) {
        state.most[row / 2][row % 2] = -infinity();
    }
    u8* queries = shared + warp * ROWS * ROW_BYTES;
    const i32 mine = position + warp * ROWS;
    for (i32 tile = 0; tile < last; ++tile) {
        cp_async_wait<0>();
        // All copies of this tile are there, and the slots of the next; all have read the stage that is filled next.
        __syncthreads();
        const i32 now = tile % 2, then = 1 - now;
        if (tile + 1 < last) {
            fetch(source, tile + 1, slots + then * TOKENS, stages + then * STAGE_BYTES);
            cp_async_commit();
            find_slots(source, tile + 2, slots + now * TOKENS);
        }
        const i32 room = mine - tile * TOKENS;
        // Rows behind the last have nothing to do but copy.
        if (warp * ROWS < count) {
            take(state, queries, stages + now * STAGE_BYTES, room, scale * LOG2_E);
        }
    }
    if (warp * ROWS < count) {
        bf16* to = out + (static_cast<i64>(first_row + warp * ROWS) * heads + head) * HEAD_DIM;
        write(state, queries, to, static_cast<i64>(heads) * HEAD_DIM, count - warp * ROWS);
    }
}
