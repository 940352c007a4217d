// Retention: what is noted of a token when it gets a slot, and which tokens of a sequence lose theirs after a step.
//
// Beside keys and values every slot of the cache has, for each KV head, the position of its token and a note, one number. All heads of
// a sequence have equally many slots and share its block table, whatever tokens they have there. A score follows from position
// and note; the lowest goes, of equal scores the older token. Survivors that lie beyond the budget take the slots of those that went.

#include "prelude.cuh"

constexpr i32 NOTE_TOKENS_THREADS = 128;
constexpr i32 SCORE_KEYS_THREADS = 256;
constexpr i32 CUT_TOKENS_THREADS = 256;
constexpr i32 WARPS = CUT_TOKENS_THREADS / 32;
// What is noted of a token.
constexpr i32 NOTE_NONE = 0;
constexpr i32 NOTE_RANDOM = 1;
constexpr i32 NOTE_NORM = 2;
constexpr i32 NOTE_GATE = 3;
constexpr i32 NOTE_LOG_GATE = 4;
// What its score is.
constexpr i32 SCORE_POSITION = 0;
constexpr i32 SCORE_NOTE = 1;
constexpr i32 SCORE_AGE = 2;
// Moves that are listed at once.
constexpr i32 CUT_LIST = 512;
constexpr float LEAST = 1.17549435e-38f;

// A sequence in a step.
struct alignas(16) Part {
    // Row of its block table; below zero: it fills up and is left alone.
    i32 owner;
    // Slots occupied before.
    i32 kept;
    // Tokens that landed behind them, and the row of the first.
    i32 rows;
    i32 first_row;
    // Slots that stay; below zero: nothing goes.
    i32 budget;
    // Position computed last.
    i32 now;
    // Tokens that never go: so many at the start of the sequence, and so many of the latest.
    i32 first;
    i32 latest;
};
static_assert(sizeof(Part) == 32, "as the host writes it");

// ---- Notes ----

// Bits of a number under a key, as the simulator's `counter::draw` has them.
__device__ __forceinline__ u64 draw(u64 key, u64 index) {
    u64 z = key + (index + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// The length of a row of HEAD_DIM numbers, by a warp.
__device__ __forceinline__ float length_of(const bf16* row) {
    const i32 lane = threadIdx.x % 32;
    float sum = 0.0f;
    if (lane < CHUNKS) {
        float x[8];
        unpack8(load16(row + lane * 8), x);
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            sum += x[i] * x[i];
        }
    }
    return sqrtf(warp_sum(sum));
}

// A head's output of the network, by a warp. `inner` is the product of w1 with the row.
__device__ __forceinline__ float gate_of(
    const float* inner, const float* b1, const float* w2, const float* b2, i32 width, i32 head) {
    const float* weights = w2 + static_cast<i64>(head) * width;
    float sum = 0.0f;
    for (i32 at = threadIdx.x % 32; at < width; at += 32) {
        const float u = inner[at] + b1[at];
        sum += u / (1.0f + expf(-u)) * weights[at];
    }
    return warp_sum(sum) + b2[head];
}

// log of the logistic function, which loses nothing where that is near 1.
__device__ __forceinline__ float log_sigmoid(float z) {
    return fminf(z, 0.0f) - log1pf(expf(-fabsf(z)));
}

// Grid: rows. Token `row` lies in slot slots[row] of the sequence owners[row] (below zero: the row is left alone), with its key. Notes
// its position and, by `kind`, for each KV head: nothing (0), a number drawn from keys_of_draws[head] and the position, the negative
// length of its key, or what a network gives for it, with its logarithm of the logistic function or without. `inner` [row][width] is
// what w1 gives; w2 [kv_heads][width], b1 [width], b2 [kv_heads].
extern "C" __global__ void __launch_bounds__(NOTE_TOKENS_THREADS) note_tokens(
    i32* __restrict__ token_positions, float* __restrict__ notes, const bf16* __restrict__ keys,
    const i32* __restrict__ tables, i32 table_width, const i32* __restrict__ positions, const i32* __restrict__ slots,
    const i32* __restrict__ owners, i32 kv_heads, i32 kind, const u64* __restrict__ keys_of_draws,
    const float* __restrict__ inner, const float* __restrict__ b1, const float* __restrict__ w2,
    const float* __restrict__ b2, i32 width) {
    const i64 row = blockIdx.x;
    const i32 owner = owners[row];
    if (owner < 0) {
        return;
    }
    const i32 position = positions[row];
    const i64 slot = slot_of(tables + static_cast<i64>(owner) * table_width, slots[row]);
    for (i32 head = threadIdx.x / 32; head < kv_heads; head += NOTE_TOKENS_THREADS / 32) {
        const i64 at = slot * kv_heads + head;
        float note = 0.0f;
        if (kind == NOTE_NONE) {
            note = 0.0f;
        } else if (kind == NOTE_RANDOM) {
            // 24 bits: all of what a float has.
            note = static_cast<float>(static_cast<u32>(draw(keys_of_draws[head], static_cast<u64>(position)) >> 40));
        } else if (kind == NOTE_NORM) {
            note = -length_of(keys + at * HEAD_DIM);
        } else if (kind == NOTE_GATE || kind == NOTE_LOG_GATE) {
            note = gate_of(inner + row * width, b1, w2, b2, width, head);
            note = kind == NOTE_LOG_GATE ? log_sigmoid(note) : note;
        }
        if (threadIdx.x % 32 == 0) {
            token_positions[at] = position;
            notes[at] = note;
        }
    }
}

// ---- Scores from keys ----

// Lanes of a key, a power of two.
constexpr i32 KEY_LANES = CHUNKS <= 4 ? 4 : CHUNKS <= 8 ? 8 : 16;
constexpr i32 KEYS_AT_ONCE = SCORE_KEYS_THREADS / KEY_LANES;

__device__ __forceinline__ float key_sum(float x) {
#pragma unroll
    for (i32 mask = KEY_LANES / 2; mask > 0; mask /= 2) {
        x += shuffle_xor(x, mask);
    }
    return x;
}

__device__ __forceinline__ float product(const float (&a)[8], const float (&b)[8]) {
    float sum = 0.0f;
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

// Grid: (parts, kv_heads). Where some tokens go, the note of each becomes the negative cosine of its key and the mean of all
// normalised keys.
extern "C" __global__ void __launch_bounds__(SCORE_KEYS_THREADS) score_keys(
    float* __restrict__ notes, const bf16* __restrict__ keys, const i32* __restrict__ tables, i32 table_width,
    const Part* __restrict__ parts, i32 kv_heads) {
    SHARED(float, sums, [SCORE_KEYS_THREADS / 32 * HEAD_DIM]);
    const Part part = parts[blockIdx.x];
    const i32 count = part.kept + part.rows;
    if (part.owner < 0 || part.budget < 0 || count <= part.budget) {
        return;
    }
    const i32 head = blockIdx.y, chunk = threadIdx.x % KEY_LANES;
    const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const i32* table = tables + static_cast<i64>(part.owner) * table_width;
    // The sum and the mean have one direction.
    float sum[8] = {};
    for (i32 base = 0; base < count; base += KEYS_AT_ONCE) {
        const i32 slot = base + threadIdx.x / KEY_LANES;
        const bool used = slot < count && chunk < CHUNKS;
        float key[8] = {};
        if (used) {
            const i64 at = static_cast<i64>(slot_of(table, slot)) * kv_heads + head;
            unpack8(load16(keys + at * HEAD_DIM + chunk * 8), key);
        }
        const float scale = 1.0f / fmaxf(sqrtf(key_sum(product(key, key))), LEAST);
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            sum[i] += used ? key[i] * scale : 0.0f;
        }
    }
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
#pragma unroll
        for (i32 mask = KEY_LANES; mask < 32; mask *= 2) {
            sum[i] += shuffle_xor(sum[i], mask);
        }
    }
    if (lane < CHUNKS) {
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            sums[warp * HEAD_DIM + lane * 8 + i] = sum[i];
        }
    }
    __syncthreads();
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        sum[i] = 0.0f;
        for (i32 other = 0; other < SCORE_KEYS_THREADS / 32; ++other) {
            sum[i] += chunk < CHUNKS ? sums[other * HEAD_DIM + chunk * 8 + i] : 0.0f;
        }
    }
    const float size = fmaxf(sqrtf(key_sum(product(sum, sum))), LEAST);
    for (i32 base = 0; base < count; base += KEYS_AT_ONCE) {
        const i32 slot = base + threadIdx.x / KEY_LANES;
        i64 at = 0;
        float key[8] = {};
        if (slot < count) {
            at = static_cast<i64>(slot_of(table, slot)) * kv_heads + head;
            if (chunk < CHUNKS) {
                unpack8(load16(keys + at * HEAD_DIM + chunk * 8), key);
            }
        }
        const float along = key_sum(product(key, sum)), own = fmaxf(sqrtf(key_sum(product(key, key))), LEAST);
        if (slot < count && chunk == 0) {
            notes[at] = -along / (own * size);
        }
    }
}

// ---- Cuts ----

// A head of a sequence.
struct Head {
    i32* positions;
    float* notes;
    bf16* keys;
    bf16* values;
    const i32* table;
    i32 kv_heads;
    i32 head;

    __device__ __forceinline__ i64 at(i32 slot) const {
        return static_cast<i64>(slot_of(table, slot)) * kv_heads + head;
    }
};

struct Shared {
    u32 counts[256];
    i32 scan[WARPS];
    u64 least[WARPS];
    i32 slot;
    u32 digit;
    u32 below;
    u32 inside;
    i32 holes[CUT_LIST];
    i32 moved[CUT_LIST];
};

// What a slot's token is worth: keys order as (score, position) do, and no two are equal. Protected tokens have the largest.
__device__ __forceinline__ u64 worth(const Head& head, const Part& part, i32 kind, i32 slot) {
    const i64 at = head.at(slot);
    const i32 position = head.positions[at];
    if (position < part.first || position > part.now - part.latest) {
        return ~0ull;
    }
    float score = 0.0f;
    if (kind == SCORE_POSITION) {
        score = static_cast<float>(position);
    } else if (kind == SCORE_NOTE) {
        score = head.notes[at];
    } else if (kind == SCORE_AGE) {
        score = static_cast<float>(part.now + 1 - position) * head.notes[at];
    }
    // The two zeros are one.
    const u32 bits = score == 0.0f ? 0 : float_bits(score);
    const u32 ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<u64>(ordered) << 32 | static_cast<u32>(position);
}

// How many threads before this one say yes; `total` of all.
__device__ __forceinline__ i32 count_before(Shared& shared, bool yes, i32& total) {
    const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i32 sum = yes ? 1 : 0;
#pragma unroll
    for (i32 step = 1; step < 32; step *= 2) {
        const i32 other = shuffle(sum, lane >= step ? lane - step : lane);
        sum += lane >= step ? other : 0;
    }
    __syncthreads();
    if (lane == 31) {
        shared.scan[warp] = sum;
    }
    __syncthreads();
    i32 before = sum - (yes ? 1 : 0);
    total = 0;
    for (i32 i = 0; i < WARPS; ++i) {
        before += i < warp ? shared.scan[i] : 0;
        total += shared.scan[i];
    }
    return before;
}

// The token that is worth least, and its slot.
__device__ __forceinline__ i32 least_slot(Shared& shared, const Head& head, const Part& part, i32 kind, i32 count) {
    u64 least = ~0ull;
    i32 slot = -1;
    for (i32 at = threadIdx.x; at < count; at += CUT_TOKENS_THREADS) {
        const u64 own = worth(head, part, kind, at);
        if (own < least) {
            least = own;
            slot = at;
        }
    }
    u64 all = least;
#pragma unroll
    for (i32 mask = 16; mask > 0; mask /= 2) {
        const u64 other = shuffle_xor(all, mask);
        all = other < all ? other : all;
    }
    if (threadIdx.x % 32 == 0) {
        shared.least[threadIdx.x / 32] = all;
    }
    __syncthreads();
    for (i32 i = 0; i < WARPS; ++i) {
        all = shared.least[i] < all ? shared.least[i] : all;
    }
    if (slot >= 0 && least == all) {
        shared.slot = slot;
    }
    __syncthreads();
    return shared.slot;
}

// What the `going` tokens that are worth least are worth at most: byte by byte, from the highest.
__device__ __forceinline__ u64 limit(
    Shared& shared, const Head& head, const Part& part, i32 kind, i32 count, u32 going) {
    u64 prefix = 0;
#pragma unroll 1
    for (i32 shift = 56; shift >= 0; shift -= 8) {
        shared.counts[threadIdx.x] = 0;
        __syncthreads();
        for (i32 at = threadIdx.x; at < count; at += CUT_TOKENS_THREADS) {
            const u64 own = worth(head, part, kind, at);
            // A shift by 64 is none.
            if (shift == 56 || own >> (shift + 8) == prefix >> (shift + 8)) {
                add_shared(&shared.counts[own >> shift & 255], 1u);
            }
        }
        __syncthreads();
        if (threadIdx.x < 32) {
            // Each lane has eight digits.
            u32 own = 0;
            for (i32 i = 0; i < 8; ++i) {
                own += shared.counts[threadIdx.x * 8 + i];
            }
            u32 sum = own;
#pragma unroll
            for (i32 step = 1; step < 32; step *= 2) {
                const u32 other = shuffle(sum, static_cast<i32>(threadIdx.x) >= step ? threadIdx.x - step : threadIdx.x);
                sum += static_cast<i32>(threadIdx.x) >= step ? other : 0;
            }
            u32 before = sum - own;
            if (before < going && sum >= going) {
                u32 digit = threadIdx.x * 8;
                while (before + shared.counts[digit] < going) {
                    before += shared.counts[digit++];
                }
                shared.digit = digit;
                shared.below = before;
                shared.inside = shared.counts[digit];
            }
        }
        __syncthreads();
        prefix |= static_cast<u64>(shared.digit) << shift;
        going -= shared.below;
        if (going == shared.inside) {
            // All that begin so go.
            prefix |= (1ull << shift) - 1;
            break;
        }
        __syncthreads();
    }
    return prefix;
}

// A warp moves what a slot has to another.
__device__ __forceinline__ void move_slot(const Head& head, i32 from_slot, i32 to_slot) {
    const i32 lane = threadIdx.x % 32, chunk = lane % 16;
    const i64 from = head.at(from_slot), to = head.at(to_slot);
    bf16* rows = lane < 16 ? head.keys : head.values;
    if (chunk < CHUNKS) {
        store16(rows + to * HEAD_DIM + chunk * 8, load16(rows + from * HEAD_DIM + chunk * 8));
    }
    if (lane == 0) {
        head.positions[to] = head.positions[from];
        head.notes[to] = head.notes[from];
    }
}

// Lists slots in a range whose tokens go, or stay, in order: those numbered from `skip` on, as many as the list has room for. Returns
// how many there are in all.
__device__ __forceinline__ i32 list_slots(
    Shared& shared, const Head& head, const Part& part, i32 kind, i32 begin, i32 end, u64 most, bool go, i32 skip,
    i32* list) {
    i32 found = 0;
    for (i32 base = begin; base < end; base += CUT_TOKENS_THREADS) {
        const i32 slot = base + threadIdx.x;
        const bool yes = slot < end && (worth(head, part, kind, slot) <= most) == go;
        i32 total = 0;
        const i32 place = found + count_before(shared, yes, total) - skip;
        if (yes && place >= 0 && place < CUT_LIST) {
            list[place] = slot;
        }
        found += total;
    }
    return found;
}

// Grid: (parts, kv_heads). Brings heads back to their budgets.
extern "C" __global__ void __launch_bounds__(CUT_TOKENS_THREADS) cut_tokens(
    i32* token_positions, float* notes, bf16* keys, bf16* values, const i32* __restrict__ tables, i32 table_width,
    const Part* __restrict__ parts, i32 kv_heads, i32 kind) {
    SHARED(Shared, shared, [1]);
    const Part part = parts[blockIdx.x];
    const i32 count = part.kept + part.rows, going = count - part.budget;
    if (part.owner < 0 || part.budget < 0 || going <= 0) {
        return;
    }
    const i32* table = tables + static_cast<i64>(part.owner) * table_width;
    const Head head{token_positions, notes, keys, values, table, kv_heads, static_cast<i32>(blockIdx.y)};
    const i32 warp = threadIdx.x / 32;
    if (going == 1) {
        const i32 slot = least_slot(shared[0], head, part, kind, count);
        if (warp == 0 && slot < part.budget) {
            move_slot(head, part.budget, slot);
        }
        return;
    }
    const u64 most = limit(shared[0], head, part, kind, count, static_cast<u32>(going));
    for (i32 done = 0;; done += CUT_LIST) {
        __syncthreads();
        // Holes that are filled are none any more; survivors beyond the budget are still there.
        const i32 holes = list_slots(shared[0], head, part, kind, 0, part.budget, most, true, 0, shared[0].holes);
        list_slots(shared[0], head, part, kind, part.budget, count, most, false, done, shared[0].moved);
        __syncthreads();
        for (i32 at = warp; at < min(holes, CUT_LIST); at += WARPS) {
            move_slot(head, shared[0].moved[at], shared[0].holes[at]);
        }
        if (holes <= CUT_LIST) {
            return;
        }
    }
}
