// Rows of the embedding table for the step's input tokens.

#include "prelude.cuh"

constexpr i32 EMBED_THREADS = 128;

// Grid: a block for each row of x. An input below zero is -1 - i and stands for drawn[i], the token that the step before
// drew: the host need not know it yet.
extern "C" __global__ void __launch_bounds__(EMBED_THREADS) embed(
    bf16* __restrict__ x, const bf16* __restrict__ table, const i32* __restrict__ inputs,
    const i32* __restrict__ drawn, i32 width) {
    const i64 row = blockIdx.x;
    const i32 input = inputs[row];
    const i64 token = input >= 0 ? input : drawn[-1 - input];
    const bf16* from = table + token * width;
    bf16* to = x + row * width;
    for (i32 at = threadIdx.x * 8; at < width; at += EMBED_THREADS * 8) {
        store16(to + at, load16(from + at));
    }
}
