// Block tables, and blocks of the cache on their way between places.

#include "prelude.cuh"

constexpr i32 BLOCKS_THREADS = 256;

// Grid: as many blocks as `count` threads need. A change is {row, column, block}; a row below zero fills up and changes
// nothing. No two changes of a launch are of one place.
extern "C" __global__ void __launch_bounds__(BLOCKS_THREADS) update_tables(
    i32* __restrict__ tables, const i32* __restrict__ changes, i32 count, i32 width) {
    const i64 at = static_cast<i64>(blockIdx.x) * BLOCKS_THREADS + threadIdx.x;
    if (at >= count) {
        return;
    }
    const i32 row = changes[3 * at], column = changes[3 * at + 1], block = changes[3 * at + 2];
    if (row >= 0) {
        tables[static_cast<i64>(row) * width + column] = block;
    }
}

// The cache is [plane][block][words], with a plane for the keys and one for the values of each layer; a word is 16 bytes.
__device__ __forceinline__ i64 word_of(u32 plane, i64 block, u32 words, u32 blocks) {
    return (static_cast<i64>(plane) * blocks + block) * words;
}

__device__ __forceinline__ void copy_words(u8* to, const u8* from, u32 words) {
    for (u32 at = threadIdx.x; at < words; at += BLOCKS_THREADS) {
        store16(to + static_cast<i64>(at) * 16, load16(from + static_cast<i64>(at) * 16));
    }
}

// Grid: (pairs, planes). A pair is {from, to}; no block is the goal of one pair and stands in another.
extern "C" __global__ void __launch_bounds__(BLOCKS_THREADS) copy_blocks(
    bf16* cache, const i32* __restrict__ pairs, u32 words, u32 blocks) {
    u8* bytes = reinterpret_cast<u8*>(cache);
    const i64 from = word_of(blockIdx.y, pairs[2 * blockIdx.x], words, blocks);
    const i64 to = word_of(blockIdx.y, pairs[2 * blockIdx.x + 1], words, blocks);
    copy_words(bytes + to * 16, bytes + from * 16, words);
}

// Grid: (blocks of the list, planes). The staging buffer is [block of the list][plane][words].
extern "C" __global__ void __launch_bounds__(BLOCKS_THREADS) gather_blocks(
    bf16* __restrict__ staging, const bf16* __restrict__ cache, const i32* __restrict__ list, u32 words, u32 blocks) {
    const i64 from = word_of(blockIdx.y, list[blockIdx.x], words, blocks);
    const i64 to = (static_cast<i64>(blockIdx.x) * gridDim.y + blockIdx.y) * words;
    copy_words(reinterpret_cast<u8*>(staging) + to * 16, reinterpret_cast<const u8*>(cache) + from * 16, words);
}

// The way back: grid and buffer as for `gather_blocks`.
extern "C" __global__ void __launch_bounds__(BLOCKS_THREADS) scatter_blocks(
    bf16* __restrict__ cache, const bf16* __restrict__ staging, const i32* __restrict__ list, u32 words, u32 blocks) {
    const i64 to = word_of(blockIdx.y, list[blockIdx.x], words, blocks);
    const i64 from = (static_cast<i64>(blockIdx.x) * gridDim.y + blockIdx.y) * words;
    copy_words(reinterpret_cast<u8*>(cache) + to * 16, reinterpret_cast<const u8*>(staging) + from * 16, words);
}
