// What the kernels are written in. It needs no header of a toolkit: a user's NVRTC may come without any.
//
// The first half wraps instructions, one function for each. It has a second version for the host (`device.h` of the
// tests' emulator), so that the very same kernels run without a GPU. The second half is built on the first.

#pragma once

#if defined(OVERBOOK_EMULATED)
#include "device.h"
#else

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

// The upper half of a float.
struct bf16 {
    u16 bits;
};

// One access of 16 bytes.
struct alignas(16) Vec16 {
    u32 w[4];
};

#define SHARED(type, name, extent) __shared__ __align__(16) type name extent
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) u8 name[]

__device__ __forceinline__ float to_float(bf16 x) {
    return __uint_as_float(static_cast<u32>(x.bits) << 16);
}

// The nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ bf16 to_bf16(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// Two bf16 in a word, `lo` in the low half.
__device__ __forceinline__ u32 pack2(float lo, float hi) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
    return word;
}

// `p` is in global or shared memory and a multiple of 16.
__device__ __forceinline__ Vec16 load16(const void* p) {
    const uint4 v = *static_cast<const uint4*>(p);
    return Vec16{{v.x, v.y, v.z, v.w}};
}

__device__ __forceinline__ void store16(void* p, Vec16 v) {
    *static_cast<uint4*>(p) = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
}

// Addresses of shared memory as instructions take them.
__device__ __forceinline__ u32 shared_address(const void* p) {
    return static_cast<u32>(__cvta_generic_to_shared(p));
}

// d += a b for a tile of 16 x 8 over depth 16, spread over a warp. With `row = lane / 4` and `pair = lane % 4 * 2`:
// a[0], a[1] hold rows `row` and `row + 8` at depths pair, pair + 1; a[2], a[3] the same rows 8 deeper;
// b[0] holds column `row` at depths pair, pair + 1; b[1] 8 deeper;
// d[0], d[1] are row `row`, columns pair, pair + 1; d[2], d[3] row `row + 8`.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads four 8 x 8 matrices of 16-bit elements. Lane i gives the address of row i % 8 (16 bytes) of matrix i / 8;
// r[m] gets of matrix m the row `lane / 4`, columns lane % 4 * 2 and the next.
__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
}

// The same with every matrix transposed: r[m] gets the column `lane / 4`, rows lane % 4 * 2 and the next.
__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&r)[4], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
}

// Copies 16 bytes in the background. Without `valid` it writes zeros and reads nothing.
__device__ __forceinline__ void cp_async16(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
                 : "memory");
}

// Closes a group of copies, which may be empty.
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the newest N groups of this thread are pending.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// 2^x within 2 units in the last place; -inf gives 0.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// What the lane `own lane ^ mask` gives. All lanes of the warp take part; so in all that follows.
template <class T>
__device__ __forceinline__ T shuffle_xor(T v, i32 mask) {
    return __shfl_xor_sync(0xffffffffu, v, mask);
}

// What lane `lane` gives.
template <class T>
__device__ __forceinline__ T shuffle(T v, i32 lane) {
    return __shfl_sync(0xffffffffu, v, lane);
}

__device__ __forceinline__ void sync_warp() {
    __syncwarp();
}

// Adds to a number in shared memory and gives what stood there before.
__device__ __forceinline__ u32 add_shared(u32* p, u32 v) {
    return atomicAdd(p, v);
}

__device__ __forceinline__ u64 add_shared(u64* p, u64 v) {
    return atomicAdd(p, v);
}

#endif

__device__ __forceinline__ u32 float_bits(float x) {
    union {
        float number;
        u32 bits;
    } both;
    both.number = x;
    return both.bits;
}

__device__ __forceinline__ float float_from_bits(u32 x) {
    union {
        u32 bits;
        float number;
    } both;
    both.bits = x;
    return both.number;
}

// A value that the compiler knows nothing of, so that it computes what depends on it where it is used: what it computes before
// a loop takes a register all the while.
__device__ __forceinline__ u32 opaque(u32 x) {
#if !defined(OVERBOOK_EMULATED)
    asm volatile("" : "+r"(x));
#endif
    return x;
}

__device__ __forceinline__ float infinity() {
    return float_from_bits(0x7f800000u);
}

// Halves of a word that `pack2` made.
__device__ __forceinline__ float low(u32 word) {
    return float_from_bits(word << 16);
}

__device__ __forceinline__ float high(u32 word) {
    return float_from_bits(word & 0xffff0000u);
}

// Eight bf16 as floats.
__device__ __forceinline__ void unpack8(const Vec16& v, float (&x)[8]) {
#pragma unroll
    for (i32 i = 0; i < 4; ++i) {
        x[2 * i] = low(v.w[i]);
        x[2 * i + 1] = high(v.w[i]);
    }
}

__device__ __forceinline__ Vec16 pack8(const float (&x)[8]) {
    return Vec16{{pack2(x[0], x[1]), pack2(x[2], x[3]), pack2(x[4], x[5]), pack2(x[6], x[7])}};
}

// Sum over a warp, in every lane: the same bits in each, since both partners of a step add the same two numbers.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (i32 mask = 16; mask > 0; mask /= 2) {
        x += shuffle_xor(x, mask);
    }
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (i32 mask = 16; mask > 0; mask /= 2) {
        x = fmaxf(x, shuffle_xor(x, mask));
    }
    return x;
}

// Where a position's key and value stand in the cache of a layer. A cache has less than 2^32 slots.
#if defined(BLOCK_SHIFT)
__device__ __forceinline__ u32 slot_of(const i32* table, i32 position) {
    const u32 offset = static_cast<u32>(position) & ((1u << BLOCK_SHIFT) - 1);
    return static_cast<u32>(table[position >> BLOCK_SHIFT]) << BLOCK_SHIFT | offset;
}
#endif

// Rows of HEAD_DIM numbers in shared memory, as chunks of 16 bytes. A row's chunks are permuted by its number, so that the
// same chunk of eight rows in a row lies in all banks: neither ldmatrix nor writing rows meets a conflict.
#if defined(HEAD_DIM)
constexpr i32 CHUNKS = HEAD_DIM / 8;
constexpr i32 ROW_BYTES = HEAD_DIM * 2;

__device__ __forceinline__ u8* chunk_at(u8* rows, i32 row, i32 chunk) {
    // Rows of an odd multiple of 64 bytes differ by half of the banks already.
    const i32 mixed = CHUNKS % 8 == 0 ? chunk ^ (row & 7) : chunk ^ (row >> 1 & 3);
    return rows + row * ROW_BYTES + mixed * 16;
}

// Where a lane's row begins for ldmatrix, and what its chunks are permuted by, in bytes. Chunk 2 * step + odd of the row is at
// row + (mix ^ 32 * step), in rows a multiple of eight further too.
struct LaneRow {
    u8* row;
    u32 mix;
};

__device__ __forceinline__ LaneRow lane_row(u8* rows, i32 row, i32 odd) {
    return LaneRow{rows + row * ROW_BYTES, static_cast<u32>(chunk_at(rows, row, odd) - (rows + row * ROW_BYTES))};
}

// Matrices in the order of a fragment of A, and of values as B: lower rows, upper rows, and the same 8 numbers further.
__device__ __forceinline__ LaneRow lane_down(u8* rows) {
    const i32 lane = threadIdx.x % 32;
    return lane_row(rows, lane / 8 % 2 * 8 + lane % 8, lane / 16);
}

// Matrices in the order of keys as B: lower rows, the same 8 numbers further, and both 8 rows up.
__device__ __forceinline__ LaneRow lane_across(u8* rows) {
    const i32 lane = threadIdx.x % 32;
    return lane_row(rows, lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

// A fragment of 16 rows from `first` and the numbers from 16 * step.
__device__ __forceinline__ void load_queries(u32 (&a)[4], const LaneRow& down, i32 first, i32 step) {
    ldmatrix_x4(a, down.row + first * ROW_BYTES + (down.mix ^ 32 * step));
}

// Two fragments of B, columns being tokens: those from `first` and the eight after, over the numbers from 16 * step.
__device__ __forceinline__ void load_keys(u32 (&near)[2], u32 (&far)[2], const LaneRow& across, i32 first, i32 step) {
    u32 r[4];
    ldmatrix_x4(r, across.row + first * ROW_BYTES + (across.mix ^ 32 * step));
    near[0] = r[0];
    near[1] = r[1];
    far[0] = r[2];
    far[1] = r[3];
}

// Two fragments of B, columns being numbers: those from 16 * step and the eight after, over 16 tokens from `first`.
__device__ __forceinline__ void load_values(u32 (&near)[2], u32 (&far)[2], const LaneRow& down, i32 first, i32 step) {
    u32 r[4];
    ldmatrix_x4_trans(r, down.row + first * ROW_BYTES + (down.mix ^ 32 * step));
    near[0] = r[0];
    near[1] = r[1];
    far[0] = r[2];
    far[1] = r[3];
}

// Keys and values of one KV head of a layer.
struct Cache {
    const u8* keys;
    const u8* values;
    // Bytes from a slot to the next.
    u32 stride;
};

__device__ __forceinline__ Cache cache_of(const bf16* keys, const bf16* values, i32 kv_heads, i32 kv_head) {
    const i32 start = kv_head * HEAD_DIM;
    return Cache{reinterpret_cast<const u8*>(keys + start), reinterpret_cast<const u8*>(values + start),
                 static_cast<u32>(kv_heads) * ROW_BYTES};
}

// Starts the copies of a chunk of a slot's key and value into a row of a stage: `values` bytes after the keys are the values.
// Without `valid` they become zeros.
__device__ __forceinline__ void fetch_chunk(
    u8* stage, i32 values, i32 row, i32 chunk, const Cache& cache, u32 slot, bool valid) {
    const u64 at = static_cast<u64>(slot) * cache.stride;
    u8* to = chunk_at(stage, row, chunk);
    cp_async16(to, cache.keys + chunk * 16 + at, valid);
    cp_async16(to + values, cache.values + chunk * 16 + at, valid);
}
#endif
