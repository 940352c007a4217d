// What a layer adds to the residual stream, and the norm before the next.

#include "prelude.cuh"

constexpr i32 ADD_NORM_THREADS = 256;
constexpr i32 ADD_NORM_VECTORS = 8;
constexpr i32 ADD_NORM_WIDTH_MAX = 16384;
static_assert(ADD_NORM_WIDTH_MAX == ADD_NORM_THREADS * ADD_NORM_VECTORS * 8, "a row fits into registers");

// x + delta, rounded to bf16 once, as it stands in the stream from then on. Gives the sum of its squares.
__device__ __forceinline__ float add_vector(Vec16& held, const bf16* delta) {
    float x[8];
    unpack8(held, x);
    if (delta != nullptr) {
        float change[8];
        unpack8(load16(delta), change);
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            x[i] += change[i];
        }
        held = pack8(x);
        unpack8(held, x);
    }
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

__device__ __forceinline__ Vec16 scaled(const Vec16& held, float scale, const float* weight) {
    float x[8];
    unpack8(held, x);
    const Vec16 first = load16(weight), second = load16(weight + 4);
#pragma unroll
    for (i32 i = 0; i < 4; ++i) {
        x[i] = x[i] * scale * float_from_bits(first.w[i]);
        x[4 + i] = x[4 + i] * scale * float_from_bits(second.w[i]);
    }
    return pack8(x);
}

// Grid: a block for each row of `out`. Row r is of row r of the stream, and x + delta is written back; with `pick`, of row
// pick[r], and the stream stays as it is (below zero: the row is zeros). `delta` may be null.
// `width` is a multiple of 8, at most ADD_NORM_WIDTH_MAX: a row stays in registers between the sum and the norm.
extern "C" __global__ void __launch_bounds__(ADD_NORM_THREADS) add_norm(
    bf16* __restrict__ x, const bf16* __restrict__ delta, const float* __restrict__ weight, bf16* __restrict__ out,
    const i32* __restrict__ pick, i32 width, float eps) {
    const i64 row = blockIdx.x;
    const i64 source = pick == nullptr ? row : pick[row];
    bf16* to = out + row * width;
    const i32 first = threadIdx.x * 8;
    if (source < 0) {
        for (i32 at = first; at < width; at += ADD_NORM_THREADS * 8) {
            store16(to + at, Vec16{{0, 0, 0, 0}});
        }
        return;
    }
    bf16* stream = x + source * width;
    const bf16* change = delta == nullptr ? nullptr : delta + source * width;
    Vec16 held[ADD_NORM_VECTORS];
    float squares = 0.0f;
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_VECTORS; ++i) {
        const i32 at = first + i * ADD_NORM_THREADS * 8;
        if (at < width) {
            held[i] = load16(stream + at);
            squares += add_vector(held[i], change == nullptr ? nullptr : change + at);
            if (change != nullptr && pick == nullptr) {
                store16(stream + at, held[i]);
            }
        }
    }
    const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(width) + eps);
#pragma unroll
    for (i32 i = 0; i < ADD_NORM_VECTORS; ++i) {
        const i32 at = first + i * ADD_NORM_THREADS * 8;
        if (at < width) {
            store16(to + at, scaled(held[i], scale, weight + at));
        }
    }
}
