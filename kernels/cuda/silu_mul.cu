// The gated activation between the two halves of an MLP.

#include "prelude.cuh"

constexpr i32 SILU_MUL_THREADS = 256;

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
            g[i] = g[i] / (1.0f + expf(-g[i])) * u[i];
        }
        store16(to + at, pack8(g));
    }
}
