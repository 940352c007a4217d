// Attention that tokens get, for policies of retention that look at it: its weights are computed once more, beside attention itself.

#include "prelude.cuh"

constexpr i32 WEIGH_THREADS = 128;
constexpr i32 WARPS = WEIGH_THREADS / 32;
constexpr float LOG2_E = 1.4426950408889634f;

// A sequence in a step, as in retain.cu.
struct alignas(16) Part {
    i32 owner;
    i32 kept;
    i32 rows;
    i32 first_row;
    i32 budget;
    i32 now;
    i32 first;
    i32 latest;
};
static_assert(sizeof(Part) == 32, "as the host writes it");

// The queries of a group as floats, by the whole block.
__device__ __forceinline__ void load_group(float* to, const bf16* queries) {
    for (i32 i = threadIdx.x; i < GROUP * CHUNKS; i += WEIGH_THREADS) {
        float x[8];
        unpack8(load16(queries + i * 8), x);
#pragma unroll
        for (i32 j = 0; j < 8; ++j) {
            to[i * 8 + j] = x[j];
        }
    }
}

// Products of a key with the queries of its group.
__device__ __forceinline__ void multiply(float (&products)[GROUP], const float* queries, const bf16* key) {
#pragma unroll
    for (i32 member = 0; member < GROUP; ++member) {
        products[member] = 0.0f;
    }
#pragma unroll 1
    for (i32 chunk = 0; chunk < CHUNKS; ++chunk) {
        float x[8];
        unpack8(load16(key + chunk * 8), x);
#pragma unroll
        for (i32 member = 0; member < GROUP; ++member) {
            const float* query = queries + member * HEAD_DIM + chunk * 8;
#pragma unroll
            for (i32 i = 0; i < 8; ++i) {
                products[member] += x[i] * query[i];
            }
        }
    }
}

// Largest product and sum of weights relative to it, of two sets of tokens; one may be empty.
__device__ __forceinline__ void join(float& most, float& sum, float other_most, float other_sum) {
    const float joined = fmaxf(most, other_most);
    const float own = sum > 0.0f ? sum * exp2_fast(most - joined) : 0.0f;
    const float other = other_sum > 0.0f ? other_sum * exp2_fast(other_most - joined) : 0.0f;
    most = joined;
    sum = own + other;
}

// Grid: (rows, kv_heads), or, with `latest`, (parts, kv_heads) for the last row of each. A row's query, rotated, attends to
// the slots up to its own. Writes stats [row][head] {largest product in units of log2, sum of weights relative to it}.
extern "C" __global__ void __launch_bounds__(WEIGH_THREADS, 2) weigh_queries(
    float* __restrict__ stats, const bf16* __restrict__ qkv, const bf16* __restrict__ keys,
    const i32* __restrict__ tables, i32 table_width, const i32* __restrict__ slots, const i32* __restrict__ owners,
    const Part* __restrict__ parts, i32 latest, i32 kv_heads, float scale) {
    SHARED(float, queries, [GROUP * HEAD_DIM]);
    SHARED(float, mosts, [WARPS * GROUP]);
    SHARED(float, sums, [WARPS * GROUP]);
    i64 row = blockIdx.x;
    if (latest != 0) {
        const Part part = parts[blockIdx.x];
        if (part.owner < 0 || part.rows <= 0) {
            return;
        }
        row = part.first_row + part.rows - 1;
    }
    const i32 owner = owners[row];
    if (owner < 0) {
        return;
    }
    const i32 head = blockIdx.y, heads = kv_heads * GROUP, count = slots[row] + 1;
    const i32* table = tables + static_cast<i64>(owner) * table_width;
    load_group(queries, qkv + (row * (heads + 2 * kv_heads) + head * GROUP) * HEAD_DIM);
    __syncthreads();
    float most[GROUP], sum[GROUP];
#pragma unroll
    for (i32 member = 0; member < GROUP; ++member) {
        most[member] = -infinity();
        sum[member] = 0.0f;
    }
    for (i32 slot = threadIdx.x; slot < count; slot += WEIGH_THREADS) {
        float products[GROUP];
        multiply(products, queries, keys + (static_cast<i64>(slot_of(table, slot)) * kv_heads + head) * HEAD_DIM);
#pragma unroll
        for (i32 member = 0; member < GROUP; ++member) {
            join(most[member], sum[member], products[member] * scale * LOG2_E, 1.0f);
        }
    }
    // Threads have seen more slots or fewer.
    sync_warp();
#pragma unroll
    for (i32 member = 0; member < GROUP; ++member) {
#pragma unroll
        for (i32 mask = 16; mask > 0; mask /= 2) {
            const float other_most = shuffle_xor(most[member], mask), other_sum = shuffle_xor(sum[member], mask);
            join(most[member], sum[member], other_most, other_sum);
        }
        if (threadIdx.x % 32 == 0) {
            mosts[threadIdx.x / 32 * GROUP + member] = most[member];
            sums[threadIdx.x / 32 * GROUP + member] = sum[member];
        }
    }
    __syncthreads();
    if (threadIdx.x < GROUP) {
        float all_most = -infinity(), all_sum = 0.0f;
        for (i32 warp = 0; warp < WARPS; ++warp) {
            join(all_most, all_sum, mosts[warp * GROUP + threadIdx.x], sums[warp * GROUP + threadIdx.x]);
        }
        const i64 at = row * heads + head * GROUP + threadIdx.x;
        stats[2 * at] = all_most;
        stats[2 * at + 1] = all_sum;
    }
}

// The weight of a slot for a row: the mean over the group of a head. All threads of the block come here.
__device__ __forceinline__ float weight_of(
    float* queries, const float* stats, const bf16* qkv, const bf16* keys, i64 row, i64 slot, i32 head, i32 kv_heads,
    float scale, bool sees) {
    const i32 heads = kv_heads * GROUP;
    // All have read the queries before.
    __syncthreads();
    load_group(queries, qkv + (row * (heads + 2 * kv_heads) + head * GROUP) * HEAD_DIM);
    __syncthreads();
    if (!sees) {
        return 0.0f;
    }
    float products[GROUP];
    multiply(products, queries, keys + (slot * kv_heads + head) * HEAD_DIM);
    float weight = 0.0f;
#pragma unroll
    for (i32 member = 0; member < GROUP; ++member) {
        const float* own = stats + 2 * (row * heads + head * GROUP + member);
        weight += exp2_fast(products[member] * scale * LOG2_E - own[0]) / own[1];
    }
    return weight / GROUP;
}

// Grid: (any number of blocks that share the slots of a part, kv_heads, parts). Adds to the note of each token what the rows of its
// part attend to it, in their order. With `latest` (grid: (.., 1, parts)) the note becomes what the last row attends to it, the mean
// over all heads, in all heads. `stats` are those of weigh_queries.
extern "C" __global__ void __launch_bounds__(WEIGH_THREADS, 2) weigh_tokens(
    float* __restrict__ notes, const float* __restrict__ stats, const bf16* __restrict__ qkv,
    const bf16* __restrict__ keys, const i32* __restrict__ tables, i32 table_width, const Part* __restrict__ parts,
    i32 latest, i32 kv_heads, float scale) {
    SHARED(float, queries, [GROUP * HEAD_DIM]);
    const Part part = parts[blockIdx.z];
    if (part.owner < 0 || part.rows <= 0) {
        return;
    }
    const i32 count = part.kept + part.rows;
    const i32* table = tables + static_cast<i64>(part.owner) * table_width;
    for (i32 base = blockIdx.x * WEIGH_THREADS; base < count; base += gridDim.x * WEIGH_THREADS) {
        const i32 slot = base + threadIdx.x;
        const i64 at = slot < count ? slot_of(table, slot) : 0;
        if (latest != 0) {
            const i64 row = part.first_row + part.rows - 1;
            float sum = 0.0f;
            for (i32 head = 0; head < kv_heads; ++head) {
                sum += weight_of(queries, stats, qkv, keys, row, at, head, kv_heads, scale, slot < count);
            }
            for (i32 head = 0; head < kv_heads && slot < count; ++head) {
                notes[at * kv_heads + head] = sum / kv_heads;
            }
            continue;
        }
        const i32 head = blockIdx.y;
        float note = slot < count ? notes[at * kv_heads + head] : 0.0f;
        // Rows whose own slot is before all of the block's see none of them.
        for (i32 row = max(base - part.kept, 0); row < part.rows; ++row) {
            const bool sees = slot <= part.kept + row;
            note += weight_of(queries, stats, qkv, keys, part.first_row + row, at, head, kv_heads, scale, sees);
        }
        if (slot < count) {
            notes[at * kv_heads + head] = note;
        }
    }
}
