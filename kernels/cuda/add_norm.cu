// What a layer adds to the residual stream, and the norm before the next.

#include "prelude.cuh"

constexpr i32 ADD_NORM_THREADS = 256;
constexpr i32 ADD_NORM_WIDTH_MAX = 16384;
// What a thread takes at once over the block.
constexpr i32 STRIDE = ADD_NORM_THREADS * 8;
// Vectors of a thread: as many as the width takes where it is known, else as the widest does.
#if defined(HIDDEN)
constexpr i32 ADD_NORM_VECTORS = (HIDDEN + STRIDE - 1) / STRIDE;
#else
constexpr i32 ADD_NORM_VECTORS = ADD_NORM_WIDTH_MAX / STRIDE;
#endif
static_assert(ADD_NORM_VECTORS * STRIDE <= ADD_NORM_WIDTH_MAX, "a row fits into registers");

// x + delta, rounded to bf16 once, as it stands in the stream from then on.
__device__ __forceinline__ Vec16 sum_of(const Vec16& held, const Vec16& delta) {
    float x[8], change[8];
    unpack8(held, x);
    unpack8(delta, change);
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        x[i] += change[i];
    }
    return pack8(x);
}

__device__ __forceinline__ float squares_of(const Vec16& held) {
    float x[8];
    unpack8(held, x);
    float squares = 0.0f;
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        squares += x[i] * x[i];
    }
    return squares;
}

// Sum over the block, the same in every thread.
__device__ __forceinline__ float block_sum(float x) {
    SHARED(float, sums, [ADD_NORM_THREADS / 32]);
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = x;
    }
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_THREADS / 32; ++i) {
        sum += sums[i];
    }
    return sum;
}

__device__ __forceinline__ Vec16 scaled(const Vec16& held, float scale, const Vec16 (&weight)[2]) {
    float x[8];
    unpack8(held, x);
#pragma unroll
    for (i32 i = 0; i < 8; ++i) {
        x[i] = x[i] * scale * float_from_bits(weight[i / 4].w[i % 4]);
    }
    return pack8(x);
}

// Grid: a block for each row of `out`. Row r is of row r of the stream, and x + delta is written back; with `pick`, of row
// pick[r], and the stream stays as it is (below zero: the row is zeros). `delta` may be null.
// `width` is a multiple of 8, at most ADD_NORM_WIDTH_MAX and at most HIDDEN if that is given: a row stays in registers between
// the sum and the norm. All reads are begun before the first is waited for, those of the weights too.
extern "C" __global__ void __launch_bounds__(ADD_NORM_THREADS) add_norm(
    bf16* __restrict__ x, const bf16* __restrict__ delta, const float* __restrict__ weight, bf16* __restrict__ out,
    const i32* __restrict__ pick, i32 width, float eps) {
    const i64 row = blockIdx.x;
    const i64 source = pick == nullptr ? row : pick[row];
    bf16* to = out + row * width;
    const i32 first = threadIdx.x * 8;
    if (source < 0) {
        for (i32 at = first; at < width; at += STRIDE) {
            store16(to + at, Vec16{{0, 0, 0, 0}});
        }
        return;
    }
    bf16* stream = x + source * width;
    const bf16* change = delta == nullptr ? nullptr : delta + source * width;
    Vec16 held[ADD_NORM_VECTORS], changes[ADD_NORM_VECTORS], weights[ADD_NORM_VECTORS][2];
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_VECTORS; ++i) {
        const i32 at = first + i * STRIDE;
        if (at < width) {
            held[i] = load16(stream + at);
            changes[i] = change == nullptr ? Vec16{{0, 0, 0, 0}} : load16(change + at);
        }
    }
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_VECTORS; ++i) {
        const i32 at = first + i * STRIDE;
        if (at < width) {
            weights[i][0] = load16(weight + at);
            weights[i][1] = load16(weight + at + 4);
        }
    }
    float squares = 0.0f;
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_VECTORS; ++i) {
        const i32 at = first + i * STRIDE;
        if (at < width) {
            if (change != nullptr) {
                held[i] = sum_of(held[i], changes[i]);
                if (pick == nullptr) {
                    store16(stream + at, held[i]);
                }
            }
            squares += squares_of(held[i]);
        }
    }
    const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(width) + eps);
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_VECTORS; ++i) {
        const i32 at = first + i * STRIDE;
        if (at < width) {
            store16(to + at, scaled(held[i], scale, weights[i]));
        }
    }
}
