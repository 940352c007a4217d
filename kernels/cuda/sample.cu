// From logits to a token: the CPU engine's choice, computed by a block.
//
// Weights are whole numbers, exp((logit - top) / temperature) in units of 2^-45, so that their sums are the same in any order
// and exact. A token's place is found without a sort: tokens are counted into buckets by their distance from the largest
// logit, and only the bucket that holds the place is put in order.

#include "prelude.cuh"

constexpr i32 SAMPLE_THREADS = 1024;
constexpr i32 SAMPLE_VOCAB_MAX = 262144;
constexpr i32 WARPS = SAMPLE_THREADS / 32;
// Tokens that a thread takes at once, and those that a warp does: a piece.
constexpr i32 RUN = 8;
constexpr i32 PIECE = 32 * RUN;
// A thread has one piece of the vocabulary, one bucket and one candidate.
constexpr i32 BUCKETS = SAMPLE_THREADS;
constexpr i32 CANDIDATES = SAMPLE_THREADS;
static_assert(SAMPLE_VOCAB_MAX == SAMPLE_THREADS * PIECE, "a piece for each thread");
// 2^18 weights of 2^45 fit into 64 bits.
constexpr double UNIT = 35184372088832.0;
// exp(-32) is below half a unit.
constexpr float FARTHEST = -32.0f;
constexpr u32 PADDING = 0xffffffffu;

struct alignas(16) Draw {
    float temperature;
    u32 top_k;
    float top_p;
    u32 position;
    u64 seed;
    u32 bans_start;
    u32 bans_len;
};
static_assert(sizeof(Draw) == 32, "as the host writes it");

// A row of logits.
struct Row {
    const float* logits;
    i32 vocab;
    float top;
    i32 top_token;
    float temperature;
    // Buckets per distance.
    float fineness;
};

// Where a token stands: what is before it in the order that is searched, and its own weight.
struct Place {
    u64 before;
    u64 weight;
    i32 token;
};

// What a block shares. One array serves one purpose between two barriers.
struct Shared {
    u64 scan[WARPS];
    // Per bucket: tokens, and the two halves of the sum of their weights.
    u32 counts[BUCKETS];
    u32 weights_low[BUCKETS];
    u32 weights_high[BUCKETS];
    // Tokens of one bucket.
    u32 keys[CANDIDATES];
    u32 tokens[CANDIDATES];
    u64 weights[CANDIDATES];
    u32 listed;
    u32 found;
    u64 found_before;
    u32 found_count;
    Place place;
};

// Orders as the numbers do; -0 is below 0.
__device__ __forceinline__ u32 key_of(float x) {
    const u32 bits = float_bits(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ u64 weight_of(const Row& row, float logit) {
    const float x = (logit - row.top) / row.temperature;
    // NaN has no weight.
    return x > FARTHEST ? static_cast<u64>(exp(static_cast<double>(x)) * UNIT + 0.5) : 0;
}

// Never falls where the logit does not rise.
__device__ __forceinline__ i32 bucket_of(const Row& row, float logit) {
    const float x = (row.top - logit) * row.fineness;
    return x < BUCKETS - 1 ? static_cast<i32>(x) : BUCKETS - 1;
}

// Four logits from `start`, a multiple of four; anything beyond the end.
__device__ __forceinline__ void load_quad(const float* logits, i32 vocab, i32 start, float* x) {
    // A row is only aligned if all rows are.
    if (vocab % 4 == 0) {
        const Vec16 v = start < vocab ? load16(logits + start) : Vec16{{0, 0, 0, 0}};
#pragma unroll
        for (i32 i = 0; i < 4; ++i) {
            x[i] = float_from_bits(v.w[i]);
        }
    } else {
#pragma unroll
        for (i32 i = 0; i < 4; ++i) {
            x[i] = start + i < vocab ? logits[start + i] : 0.0f;
        }
    }
}

// Calls visit(token, logit) for every token. A thread sees its tokens in order.
template <class Visit>
__device__ __forceinline__ void each_logit(const float* logits, i32 vocab, Visit visit) {
    for (i32 start = threadIdx.x * 4; start < vocab; start += SAMPLE_THREADS * 4) {
        float x[4];
        load_quad(logits, vocab, start, x);
#pragma unroll
        for (i32 i = 0; i < 4; ++i) {
            if (start + i < vocab) {
                visit(start + i, x[i]);
            }
        }
    }
}

// Sum over the block of what threads before this one have; `total` gets all.
__device__ __forceinline__ u64 sum_before(Shared& shared, u64 x, u64& total) {
    const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u64 sum = x;
#pragma unroll
    for (i32 step = 1; step < 32; step *= 2) {
        const u64 other = shuffle(sum, lane >= step ? lane - step : lane);
        sum += lane >= step ? other : 0;
    }
    __syncthreads();
    if (lane == 31) {
        shared.scan[warp] = sum;
    }
    __syncthreads();
    u64 before = sum - x;
    total = 0;
    for (i32 i = 0; i < WARPS; ++i) {
        before += i < warp ? shared.scan[i] : 0;
        total += shared.scan[i];
    }
    return before;
}

// floor(a b / 2^64)
__device__ __forceinline__ u64 upper_product(u64 a, u64 b) {
    const u64 a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
    const u64 middle = a1 * b0 + (a0 * b0 >> 32);
    return a1 * b1 + (middle >> 32) + (((middle & 0xffffffffu) + a0 * b1) >> 32);
}

// Output `index` + 1 of SplitMix64.
__device__ __forceinline__ u64 random_bits(u64 key, u64 index) {
    u64 z = key + (index + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// The draw's number in [0, 1) times `total`, rounded down: what stands before the token drawn is at most that.
__device__ __forceinline__ u64 target_of(const Draw* draw, u64 total) {
    const u64 bits = random_bits(random_bits(draw->seed, 0), draw->position);
    return upper_product(bits >> 11 << 11, total);
}

// Finds the largest logit, the first of its equals, and how fine buckets are.
__device__ __forceinline__ void find_top(Shared& shared, Row& row) {
    float top = -infinity(), bottom = infinity();
    i32 token = 0x7fffffff;
    each_logit(row.logits, row.vocab, [&](i32 at, float x) {
        if (x > top) {
            top = x;
            token = at;
        }
        if (x < bottom && x > -infinity()) {
            bottom = x;
        }
    });
    float* tops = reinterpret_cast<float*>(shared.counts);
    float* bottoms = reinterpret_cast<float*>(shared.weights_low);
    // Twice: lanes of a warp, then one thread of each warp.
    for (i32 round = 0; round < 2; ++round) {
#pragma unroll
        for (i32 mask = 16; mask > 0; mask /= 2) {
            const float other = shuffle_xor(top, mask), below = shuffle_xor(bottom, mask);
            const i32 other_token = shuffle_xor(token, mask);
            if (other > top || (other == top && other_token < token)) {
                top = other;
                token = other_token;
            }
            bottom = fminf(bottom, below);
        }
        if (round == 0) {
            if (threadIdx.x % 32 == 0) {
                tops[threadIdx.x / 32] = top;
                bottoms[threadIdx.x / 32] = bottom;
                shared.tokens[threadIdx.x / 32] = token;
            }
            __syncthreads();
            const i32 lane = threadIdx.x % 32;
            top = tops[lane];
            bottom = bottoms[lane];
            token = shared.tokens[lane];
        }
    }
    __syncthreads();
    row.top = top;
    // All are -inf: the first, as on the CPU.
    row.top_token = token < row.vocab ? token : 0;
    const float range = fminf(top - bottom, -FARTHEST * row.temperature);
    row.fineness = range > 0.0f ? fminf((BUCKETS - 1) / range, 1e30f) : 0.0f;
}

// Weights of the tokens of a run, and their sum.
__device__ __forceinline__ u64 run_weights(const Row& row, i32 start, u64 (&weights)[RUN]) {
    float x[RUN];
    load_quad(row.logits, row.vocab, start, x);
    load_quad(row.logits, row.vocab, start + 4, x + 4);
    u64 sum = 0;
#pragma unroll
    for (i32 i = 0; i < RUN; ++i) {
        weights[i] = start + i < row.vocab ? weight_of(row, x[i]) : 0;
        sum += weights[i];
    }
    return sum;
}

// The thread whose part of the order holds `target` says so. `before` is of that thread.
template <class T>
__device__ __forceinline__ bool holds(T before, T weight, T target) {
    return before <= target && target - before < weight;
}

// Draws in the order of the tokens.
__device__ __forceinline__ i32 draw_in_token_order(Shared& shared, const Row& row, const Draw* draw) {
    const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // Sums of pieces stand in `weights`.
    shared.weights[threadIdx.x] = 0;
    __syncthreads();
    const i32 pieces = (row.vocab + PIECE - 1) / PIECE;
    for (i32 piece = warp; piece < pieces; piece += WARPS) {
        u64 weights[RUN];
        const u64 sum = warp_sum(run_weights(row, piece * PIECE + lane * RUN, weights));
        if (lane == 0) {
            shared.weights[piece] = sum;
        }
    }
    __syncthreads();
    u64 total = 0;
    const u64 weight = shared.weights[threadIdx.x];
    const u64 before = sum_before(shared, weight, total);
    if (total == 0) {
        return row.top_token;
    }
    const u64 target = target_of(draw, total);
    if (holds(before, weight, target)) {
        shared.found = threadIdx.x;
        shared.found_before = before;
    }
    __syncthreads();
    // Every warp looks into the piece, so that none waits at a barrier for another.
    u64 weights[RUN];
    const i32 start = static_cast<i32>(shared.found) * PIECE + lane * RUN;
    const u64 mine = run_weights(row, start, weights);
    u64 sum = mine;
#pragma unroll
    for (i32 step = 1; step < 32; step *= 2) {
        const u64 other = shuffle(sum, lane >= step ? lane - step : lane);
        sum += lane >= step ? other : 0;
    }
    u64 at = shared.found_before + sum - mine;
    if (warp == 0) {
#pragma unroll
        for (i32 i = 0; i < RUN; ++i) {
            if (holds(at, weights[i], target)) {
                shared.place.token = start + i;
            }
            at += weights[i];
        }
    }
    __syncthreads();
    return shared.place.token;
}

// Counts all tokens into buckets.
__device__ __forceinline__ void fill_buckets(Shared& shared, const Row& row) {
    shared.counts[threadIdx.x] = 0;
    shared.weights_low[threadIdx.x] = 0;
    shared.weights_high[threadIdx.x] = 0;
    __syncthreads();
    each_logit(row.logits, row.vocab, [&](i32, float x) {
        const i32 bucket = bucket_of(row, x);
        const u64 weight = weight_of(row, x);
        add_shared(&shared.counts[bucket], 1u);
        if (weight != 0) {
            // Addition in halves is exact: who makes the lower overflow carries.
            const u32 low = static_cast<u32>(weight);
            const u32 carry = add_shared(&shared.weights_low[bucket], low) + low < low ? 1u : 0u;
            const u32 high = static_cast<u32>(weight >> 32) + carry;
            if (high != 0) {
                add_shared(&shared.weights_high[bucket], high);
            }
        }
    });
    __syncthreads();
}

// What is searched: a place by the number of tokens before it, or by their weight.
struct Goal {
    bool by_weight;
    u64 target;
};

// Likelier first, then the lower token.
__device__ __forceinline__ bool goes_before(u32 key, u32 token, u32 other_key, u32 other) {
    return key > other_key || (key == other_key && token < other);
}

// Puts the tokens of a bucket with keys from `least` to `most` in order and finds the place among them: at most CANDIDATES of
// them, `count` and `before` standing before the first.
__device__ __forceinline__ void place_in_list(
    Shared& shared, const Row& row, const Goal& goal, i32 bucket, u32 least, u32 most, u32 count, u64 before) {
    if (threadIdx.x == 0) {
        shared.listed = 0;
    }
    __syncthreads();
    each_logit(row.logits, row.vocab, [&](i32 token, float x) {
        const u32 key = key_of(x);
        if (bucket_of(row, x) == bucket && key >= least && key <= most) {
            const u32 at = add_shared(&shared.listed, 1u);
            shared.keys[at] = key;
            shared.tokens[at] = token;
            shared.weights[at] = weight_of(row, x);
        }
    });
    __syncthreads();
    const u32 listed = shared.listed;
    if (threadIdx.x < listed) {
        const u32 key = shared.keys[threadIdx.x], token = shared.tokens[threadIdx.x];
        for (u32 i = 0; i < listed; ++i) {
            if (goes_before(shared.keys[i], shared.tokens[i], key, token)) {
                count += 1;
                before += shared.weights[i];
            }
        }
        const u64 weight = shared.weights[threadIdx.x];
        if (goal.by_weight ? holds(before, weight, goal.target) : count == goal.target) {
            shared.place = Place{before, weight, static_cast<i32>(token)};
        }
    }
    __syncthreads();
}

// Among more than CANDIDATES tokens of one key: all weigh the same, and the lower token comes first.
__device__ __forceinline__ void place_among_equals(
    Shared& shared, const Row& row, const Goal& goal, u32 key, u32 count, u64 before) {
    const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    shared.keys[threadIdx.x] = 0;
    __syncthreads();
    const i32 pieces = (row.vocab + PIECE - 1) / PIECE;
    for (i32 piece = warp; piece < pieces; piece += WARPS) {
        u32 equal = 0;
        for (i32 i = 0; i < RUN; ++i) {
            const i32 token = piece * PIECE + i * 32 + lane;
            equal += token < row.vocab && key_of(row.logits[token]) == key ? 1u : 0u;
        }
        equal = warp_sum(equal);
        if (lane == 0) {
            shared.keys[piece] = equal;
        }
    }
    __syncthreads();
    u64 total = 0;
    const u64 mine = shared.keys[threadIdx.x];
    u64 passed = sum_before(shared, mine, total);
    const float logit = float_from_bits(key & 0x80000000u ? key & 0x7fffffffu : ~key);
    const u64 weight = weight_of(row, logit);
    const u64 index = goal.by_weight ? (goal.target - before) / weight : goal.target - count;
    if (holds(passed, mine, index)) {
        for (i32 token = threadIdx.x * PIECE; passed <= index; ++token) {
            if (key_of(row.logits[token]) == key) {
                if (passed == index) {
                    shared.place = Place{before + index * weight, weight, token};
                }
                passed += 1;
            }
        }
    }
    __syncthreads();
}

// Number and weight of the tokens of a bucket with keys from `least` to `most`.
__device__ __forceinline__ void count_keys(
    Shared& shared, const Row& row, i32 bucket, u32 least, u32 most, u32& count, u64& weight) {
    u32 mine = 0;
    u64 mine_weight = 0;
    each_logit(row.logits, row.vocab, [&](i32, float x) {
        const u32 key = key_of(x);
        if (bucket_of(row, x) == bucket && key >= least && key <= most) {
            mine += 1;
            mine_weight += weight_of(row, x);
        }
    });
    u64 all = 0;
    sum_before(shared, mine, all);
    count = static_cast<u32>(all);
    sum_before(shared, mine_weight, weight);
}

// Finds a place in a bucket. Where it has more tokens than can be listed, halves the range of keys until they can, or are all
// equal.
__device__ __forceinline__ void place_in_bucket(
    Shared& shared, const Row& row, const Goal& goal, i32 bucket, u32 inside, u32 count, u64 before) {
    u32 least = 0, most = 0xffffffffu;
    while (inside > CANDIDATES && least < most) {
        const u32 middle = least + (most - least) / 2;
        u32 above = 0;
        u64 weight = 0;
        count_keys(shared, row, bucket, middle + 1, most, above, weight);
        const bool in_upper = goal.by_weight ? goal.target < before + weight : goal.target < count + above;
        if (in_upper) {
            least = middle + 1;
            inside = above;
        } else {
            most = middle;
            inside -= above;
            count += above;
            before += weight;
        }
    }
    if (inside <= CANDIDATES) {
        place_in_list(shared, row, goal, bucket, least, most, count, before);
    } else {
        place_among_equals(shared, row, goal, least, count, before);
    }
}

// What is before bucket `threadIdx.x`: tokens, and their weight.
struct Sums {
    u32 count;
    u64 before;
};

__device__ __forceinline__ u64 bucket_weight(const Shared& shared, u32 bucket) {
    return static_cast<u64>(shared.weights_high[bucket]) << 32 | shared.weights_low[bucket];
}

// `total` gets the weight of all.
__device__ __forceinline__ Sums sum_buckets(Shared& shared, u64& total) {
    u64 tokens = 0;
    const u32 count = static_cast<u32>(sum_before(shared, shared.counts[threadIdx.x], tokens));
    return Sums{count, sum_before(shared, bucket_weight(shared, threadIdx.x), total)};
}

// The place in the order of likelihood that a goal names.
__device__ __forceinline__ Place place_of(Shared& shared, const Row& row, const Sums& sums, const Goal& goal) {
    // The last place is still read.
    __syncthreads();
    const u32 own = shared.counts[threadIdx.x];
    const u64 weight = bucket_weight(shared, threadIdx.x);
    if (goal.by_weight ? holds(sums.before, weight, goal.target) : holds(sums.count, own, static_cast<u32>(goal.target))) {
        shared.found = threadIdx.x;
        shared.found_count = sums.count;
        shared.found_before = sums.before;
    }
    __syncthreads();
    const u32 bucket = shared.found, inside = shared.counts[bucket];
    if (bucket_weight(shared, bucket) == 0) {
        // Where nothing has weight, places need no order.
        return Place{shared.found_before, 0, 0};
    }
    place_in_bucket(shared, row, goal, static_cast<i32>(bucket), inside, shared.found_count, shared.found_before);
    return shared.place;
}

// The last token before which the sum of weights is below the share `top_p` of `total`. The first always stays.
__device__ __forceinline__ Goal last_of_share(u64 total, float top_p) {
    const double bound = static_cast<double>(total) * static_cast<double>(top_p);
    u64 target = bound > 0.0 ? static_cast<u64>(bound) : 0;
    if (target > 0 && static_cast<double>(target) >= bound) {
        target -= 1;
    }
    return Goal{true, min(target, total - 1)};
}

// Draws in the order of likelihood among the first `keep` tokens, and of those among the fewest with the share `top_p`.
__device__ __forceinline__ i32 draw_in_order(Shared& shared, const Row& row, const Draw* draw, i32 keep) {
    fill_buckets(shared, row);
    u64 total = 0;
    const Sums sums = sum_buckets(shared, total);
    i32 token = row.top_token;
    // Three searches: the last of the first `keep`, the last of the share, the draw among what is left. Unrolled it would be
    // three times the code.
#pragma unroll 1
    for (i32 search = keep < row.vocab ? 0 : 1; search < 3 && total > 0; ++search) {
        Goal goal{false, static_cast<u64>(keep - 1)};
        if (search == 1) {
            if (draw->top_p >= 1.0f) {
                continue;
            }
            goal = last_of_share(total, draw->top_p);
        } else if (search == 2) {
            goal = Goal{true, target_of(draw, total)};
        }
        const Place place = place_of(shared, row, sums, goal);
        total = place.before + place.weight;
        token = place.token;
    }
    return token;
}

// Grid: a block for each row of `logits`. Writes the row's token to `drawn`, and -inf over its banned logits. Ties go to the
// lower token. Temperature 0 takes the largest logit. Else the token is the CPU engine's, but where the draw's number falls
// within vocab 2^-45 (in weights of the likeliest token) of the border between two. A NaN is never the largest and weighs nothing;
// whatever the logits are, the token is one of the vocabulary.
extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS) sample(
    i32* __restrict__ drawn, float* logits, const Draw* __restrict__ draws, const u32* __restrict__ bans, i32 vocab) {
    SHARED(Shared, shared, [1]);
    const Draw* draw = draws + blockIdx.x;
    if (draw->position == PADDING) {
        return;
    }
    float* own = logits + static_cast<i64>(blockIdx.x) * vocab;
    for (u32 i = threadIdx.x; i < draw->bans_len; i += SAMPLE_THREADS) {
        own[bans[draw->bans_start + i]] = -infinity();
    }
    __syncthreads();
    Row row{own, vocab, 0.0f, 0, draw->temperature, 0.0f};
    find_top(shared[0], row);
    i32 token = row.top_token;
    if (draw->temperature != 0.0f) {
        const i32 keep = draw->top_k == 0 ? vocab : static_cast<i32>(min(draw->top_k, static_cast<u32>(vocab)));
        const bool whole = keep == vocab && draw->top_p >= 1.0f;
        token = whole ? draw_in_token_order(shared[0], row, draw) : draw_in_order(shared[0], row, draw, keep);
    }
    if (threadIdx.x == 0) {
        drawn[blockIdx.x] = token;
    }
}
