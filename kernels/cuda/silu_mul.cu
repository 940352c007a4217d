// The gated activation between the two halves of an MLP.

#include "prelude.cuh"

constexpr i32 SILU_MUL_THREADS = 256;
constexpr float LOG2_E = 1.4426950408889634f;

// Grid: (rows, any number of blocks that share a row). A row of `gate_up` is [gate | up], each `inner` wide, a multiple of 8;
// out = gate / (1 + exp(-gate)) * up.
extern "C" __global__ void __launch_bounds__(SILU_MUL_THREADS) silu_mul(
    bf16* __restrict__ out, const bf16* __restrict__ gate_up, i32 inner) {
    const i64 row = blockIdx.x;
    const bf16* gate = gate_up + row * 2 * inner;
    const bf16* up = gate + inner;
    bf16* to = out + row * inner;
    const i32 step = gridDim.y * SILU_MUL_THREADS * 8;
    for (i32 at = (blockIdx.y * SILU_MUL_THREADS + threadIdx.x) * 8; at < inner; at += step) {
        float g[8], u[8];
        unpack8(load16(gate + at), g);
        unpack8(load16(up + at), u);
#pragma unroll
        for (i32 i = 0; i < 8; ++i) {
            // Both are exact to 2^-16, and the result is rounded to 8 bits. Where exp(-gate) is too large for a float, or the
            // quotient's divisor for the division, it is 0.
            g[i] = __fdividef(g[i], 1.0f + exp2_fast(-LOG2_E * g[i])) * u[i];
        }
        store16(to + at, pack8(g));
    }
}
