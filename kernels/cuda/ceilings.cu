// What memory and launches cost alone: the ceilings that steps are measured against.

#include "prelude.cuh"

constexpr i32 CEILING_THREADS = 256;
// Sixteen bytes of each thread at once, so many times.
constexpr i32 CEILING_DEPTH = 8;
constexpr i32 CEILING_TILE = CEILING_THREADS * CEILING_DEPTH;

// Grid: any number of blocks. Each takes tiles of CEILING_TILE vectors in turn; `vectors` is a multiple of it.
// out[block] = the sum of all words of 32 bits that the block has read.
extern "C" __global__ void __launch_bounds__(CEILING_THREADS) ceiling_read(u32* out, const Vec16* from, u32 vectors) {
    SHARED(u32, total, [1]);
    if (threadIdx.x == 0) {
        total[0] = 0;
    }
    __syncthreads();
    u32 sum = 0;
    for (u64 tile = static_cast<u64>(blockIdx.x) * CEILING_TILE; tile < vectors; tile += static_cast<u64>(gridDim.x) * CEILING_TILE) {
        Vec16 read[CEILING_DEPTH];
#pragma unroll
        for (i32 i = 0; i < CEILING_DEPTH; ++i) {
            read[i] = load16(from + tile + i * CEILING_THREADS + threadIdx.x);
        }
#pragma unroll
        for (i32 i = 0; i < CEILING_DEPTH; ++i) {
            sum += read[i].w[0] + read[i].w[1] + read[i].w[2] + read[i].w[3];
        }
    }
    add_shared(&total[0], sum);
    __syncthreads();
    if (threadIdx.x == 0) {
        out[blockIdx.x] = total[0];
    }
}

// The same grid. Every word becomes `word`.
extern "C" __global__ void __launch_bounds__(CEILING_THREADS) ceiling_write(Vec16* to, u32 vectors, u32 word) {
    const Vec16 value = Vec16{{word, word, word, word}};
    for (u64 tile = static_cast<u64>(blockIdx.x) * CEILING_TILE; tile < vectors; tile += static_cast<u64>(gridDim.x) * CEILING_TILE) {
#pragma unroll
        for (i32 i = 0; i < CEILING_DEPTH; ++i) {
            store16(to + tile + i * CEILING_THREADS + threadIdx.x, value);
        }
    }
}

// The same grid.
extern "C" __global__ void __launch_bounds__(CEILING_THREADS) ceiling_copy(Vec16* to, const Vec16* from, u32 vectors) {
    for (u64 tile = static_cast<u64>(blockIdx.x) * CEILING_TILE; tile < vectors; tile += static_cast<u64>(gridDim.x) * CEILING_TILE) {
        Vec16 read[CEILING_DEPTH];
#pragma unroll
        for (i32 i = 0; i < CEILING_DEPTH; ++i) {
            read[i] = load16(from + tile + i * CEILING_THREADS + threadIdx.x);
        }
#pragma unroll
        for (i32 i = 0; i < CEILING_DEPTH; ++i) {
            store16(to + tile + i * CEILING_THREADS + threadIdx.x, read[i]);
        }
    }
}

// Nothing: what a launch costs.
extern "C" __global__ void __launch_bounds__(CEILING_THREADS) ceiling_empty(u32* none) {
}
