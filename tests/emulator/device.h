// The host side of prelude.cuh: what kernels use of CUDA, lane for lane. Compile a kernel's source with -DOVERBOOK_EMULATED, C++17 and
// -fno-strict-aliasing; start it with emulator::launch (launch.h).
#pragma once
#include <math.h>

#include "fibers.h"
#include "races.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

// ---- CUDA's own names ----

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#ifndef __restrict__
#define __restrict__ __restrict
#endif
#define threadIdx (emulator::engine.current->index)
#define blockIdx (emulator::engine.block)
#define blockDim (emulator::engine.launch->block)
#define gridDim (emulator::engine.launch->grid)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

inline void __syncthreads(int line = __builtin_LINE()) { emulator::barrier(line); }

inline float rsqrtf(float x) { return float(1.0 / sqrt(double(x))); }
inline i32 max(i32 a, i32 b) { return a > b ? a : b; }
inline u32 max(u32 a, u32 b) { return a > b ? a : b; }
inline u32 max(i32 a, u32 b) { return max(u32(a), b); }
inline u32 max(u32 a, i32 b) { return max(a, u32(b)); }
inline i64 max(i64 a, i64 b) { return a > b ? a : b; }
inline u64 max(u64 a, u64 b) { return a > b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline i32 min(i32 a, i32 b) { return a < b ? a : b; }
inline u32 min(u32 a, u32 b) { return a < b ? a : b; }
inline u32 min(i32 a, u32 b) { return min(u32(a), b); }
inline u32 min(u32 a, i32 b) { return min(a, u32(b)); }
inline i64 min(i64 a, i64 b) { return a < b ? a : b; }
inline u64 min(u64 a, u64 b) { return a < b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }

template <class To, class From>
inline To overbook_same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline u32 __float_as_uint(float x) { return overbook_same_bits<u32>(x); }
inline i32 __float_as_int(float x) { return overbook_same_bits<i32>(x); }
inline float __uint_as_float(u32 x) { return overbook_same_bits<float>(x); }
inline float __int_as_float(i32 x) { return overbook_same_bits<float>(x); }
inline i32 __popc(u32 x) { return __builtin_popcount(x); }
inline i32 __popcll(u64 x) { return __builtin_popcountll(x); }
inline i32 __clz(i32 x) { return x ? __builtin_clz(u32(x)) : 32; }
inline i32 __clzll(i64 x) { return x ? __builtin_clzll(u64(x)) : 64; }
inline i32 __ffs(i32 x) { return __builtin_ffs(x); }
inline u32 __umulhi(u32 a, u32 b) { return u32(u64(a) * b >> 32); }
inline u64 __umul64hi(u64 a, u64 b) { return u64((unsigned __int128)a * b >> 64); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
/// As on the GPU: 0 where the divisor is beyond 2^126, and nothing that is rounded to the last bit.
inline float __fdividef(float a, float b) {
  const float size = fabsf(b);
  if (size > 0x1p126f && size < HUGE_VALF) return isinf(a) ? NAN : copysignf(0.0f, a * copysignf(1.0f, b));
  return a * (1.0f / b);
}
inline float __fsqrt_rn(float a) { return sqrtf(a); }

// ---- Numbers ----

struct bf16 {
  u16 bits;
};

inline float to_float(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

/// To the nearest, ties to even. A NaN becomes the one that the GPU makes.
inline bf16 to_bf16(float x) {
  const u32 bits = __float_as_uint(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return bf16{0x7FFF};
  return bf16{u16((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
}

inline u32 pack2(float lo, float hi) { return u32(to_bf16(lo).bits) | u32(to_bf16(hi).bits) << 16; }

/// ex2.approx.ftz: subnormal results are zero.
inline float exp2_fast(float x) {
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
}

// ---- Memory ----

struct alignas(16) Vec16 {
  u32 w[4];
};

namespace emulator {

inline void check_aligned(const void* p, unsigned to, const char* what, int line) {
  if (reinterpret_cast<uintptr_t>(p) % to != 0) stop("misaligned %s of %p at line %d: must be a multiple of %u", what, p, line, to);
}

inline void check_shared(const void* p, const char* what, int line) {
  if (!is_shared(p)) stop("%s of %p at line %d: not shared memory", what, p, line);
}

}  // namespace emulator

inline Vec16 load16(const void* p, int line = __builtin_LINE()) {
  emulator::check_aligned(p, 16, "load16", line);
  emulator::see(p, 16, emulator::Access::Read);
  Vec16 v;
  memcpy(&v, p, 16);
  return v;
}

inline void store16(void* p, Vec16 v, int line = __builtin_LINE()) {
  emulator::check_aligned(p, 16, "store16", line);
  emulator::see(p, 16, emulator::Access::Write);
  memcpy(p, &v, 16);
}

/// A static array that the threads of a block share. In functions only.
#define SHARED(type, name, count)                                               \
  typedef type name##_shared_type count;                                        \
  static emulator::SharedArray name##_shared_array(sizeof(name##_shared_type), #name); \
  name##_shared_type& name = *static_cast<name##_shared_type*>(name##_shared_array.enter())

#define DYNAMIC_SHARED(name) u8* const name = static_cast<u8*>(emulator::dynamic_shared())

OVERBOOK_UNSEEN inline u32 add_shared(u32* p, u32 v, int line = __builtin_LINE()) {
  emulator::check_shared(p, "add_shared", line);
  emulator::check_aligned(p, 4, "add_shared", line);
  emulator::see(p, 4, emulator::Access::Atomic);
  const u32 old = *p;
  *p = old + v;
  return old;
}

OVERBOOK_UNSEEN inline u64 add_shared(u64* p, u64 v, int line = __builtin_LINE()) {
  emulator::check_shared(p, "add_shared", line);
  emulator::check_aligned(p, 8, "add_shared", line);
  emulator::see(p, 8, emulator::Access::Atomic);
  const u64 old = *p;
  *p = old + v;
  return old;
}

// ---- cp.async ----

/// Copies as late as it may: when its own thread waits for its group. Until then the target is poison, since the GPU may write it at any time from now on.
inline void cp_async16(void* shared, const void* global, bool valid, int line = __builtin_LINE()) {
  emulator::check_shared(shared, "cp_async16 to", line);
  emulator::check_aligned(shared, 16, "cp_async16 to", line);
  if (valid) {
    emulator::check_aligned(global, 16, "cp_async16 from", line);
    if (emulator::is_shared(global)) emulator::stop("cp_async16 from %p at line %d: not global memory", global, line);
    const volatile u8* probe = static_cast<const volatile u8*>(global);
    (void)probe[0];  // an address that cannot be read is named where it was asked for
  }
  emulator::Thread& self = *emulator::engine.current;
  if (self.copy_end == self.copy_room) {
    self.copy_room = self.copy_room ? 2 * self.copy_room : 16;
    self.copies = static_cast<emulator::Copy*>(realloc(self.copies, self.copy_room * sizeof(emulator::Copy)));
  }
  self.copies[self.copy_end++] = emulator::Copy{shared, global, valid, self.groups};
  emulator::see(shared, 16, emulator::Access::Write);
  memset(shared, emulator::POISON, 16);
}

inline void cp_async_commit() { ++emulator::engine.current->groups; }

template <int N>
inline void cp_async_wait() {
  static_assert(N >= 0, "a count of groups");
  emulator::Thread& self = *emulator::engine.current;
  while (self.copy_first < self.copy_end && self.copies[self.copy_first].group + N < self.groups) {
    const emulator::Copy& copy = self.copies[self.copy_first++];
    emulator::see(copy.to, 16, emulator::Access::Write);
    if (copy.valid) memcpy(copy.to, copy.from, 16);
    else memset(copy.to, 0, 16);
  }
  if (self.copy_first == self.copy_end) self.copy_first = self.copy_end = 0;
}

// ---- What a warp does together ----

namespace emulator {

struct Exchange {
  u64 value, result;
  u32 source;
};

inline void complete_shuffle(Thread* lanes) {
  for (u32 i = 0; i < WARP; ++i) {
    Exchange& mine = *static_cast<Exchange*>(lanes[i].operands);
    mine.result = static_cast<Exchange*>(lanes[mine.source].operands)->value;
  }
}
inline void complete_sync(Thread* lanes) { ++engine.warp_syncs[lanes->rank / WARP]; }

struct Rows {
  u32* r;
  const void* row;
};

OVERBOOK_UNSEEN inline u32 pair_of(const void* row_lo, u32 column_lo, const void* row_hi, u32 column_hi) {
  const u16 lo = static_cast<const u16*>(row_lo)[column_lo], hi = static_cast<const u16*>(row_hi)[column_hi];
  return u32(lo) | u32(hi) << 16;
}

template <bool TRANSPOSED>
OVERBOOK_UNSEEN inline void complete_ldmatrix(Thread* lanes) {
  for (u32 matrix = 0; matrix < 4; ++matrix) {
    const void* row[8];
    for (u32 i = 0; i < 8; ++i) row[i] = static_cast<Rows*>(lanes[matrix * 8 + i].operands)->row;
    for (u32 lane = 0; lane < WARP; ++lane) {
      const u32 group = lane / 4, pair = lane % 4 * 2;
      u32& r = static_cast<Rows*>(lanes[lane].operands)->r[matrix];
      r = TRANSPOSED ? pair_of(row[pair], group, row[pair + 1], group) : pair_of(row[group], pair, row[group], pair + 1);
    }
  }
}

struct Fragments {
  float* d;
  const u32 *a, *b;
};

typedef float Float8 __attribute__((vector_size(32)));

inline float low_of(u32 pair) { return __uint_as_float(pair << 16); }
inline float high_of(u32 pair) { return __uint_as_float(pair & 0xFFFF0000u); }

/// The fragments of mma.m16n8k16 in the PTX manual: group = lane / 4 is a row of A and D and a column of B, pair = lane % 4 * 2 its first column or row.
inline void complete_mma(Thread* lanes) {
  float a[16][16], d[16][8], b[16][8];
  for (u32 lane = 0; lane < WARP; ++lane) {
    const Fragments& f = *static_cast<Fragments*>(lanes[lane].operands);
    const u32 group = lane / 4, pair = lane % 4 * 2;
    for (u32 i = 0; i < 4; ++i) {
      const u32 row = group + i % 2 * 8, column = pair + i / 2 * 8;
      a[row][column] = low_of(f.a[i]);
      a[row][column + 1] = high_of(f.a[i]);
      d[group + i / 2 * 8][pair + i % 2] = f.d[i];
    }
    for (u32 i = 0; i < 2; ++i) {
      b[pair + i * 8][group] = low_of(f.b[i]);
      b[pair + i * 8 + 1][group] = high_of(f.b[i]);
    }
  }
  for (u32 row = 0; row < 16; ++row) {
    Float8 sum;
    memcpy(&sum, d[row], sizeof sum);
    for (u32 k = 0; k < 16; ++k) {
      Float8 column;
      memcpy(&column, b[k], sizeof column);
      sum += a[row][k] * column;
    }
    memcpy(d[row], &sum, sizeof sum);
  }
  for (u32 lane = 0; lane < WARP; ++lane) {
    const Fragments& f = *static_cast<Fragments*>(lanes[lane].operands);
    for (u32 i = 0; i < 4; ++i) f.d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

inline constexpr Meeting SHUFFLE4 = {"a shuffle of 4 bytes", complete_shuffle}, SHUFFLE8 = {"a shuffle of 8 bytes", complete_shuffle};
inline constexpr Meeting SYNC_WARP = {"sync_warp", complete_sync}, MMA = {"mma_m16n8k16", complete_mma};
inline constexpr Meeting LDMATRIX = {"ldmatrix_x4", complete_ldmatrix<false>};
inline constexpr Meeting LDMATRIX_TRANS = {"ldmatrix_x4_trans", complete_ldmatrix<true>};

template <class T>
inline T exchange(T v, u32 source, int line) {
  Exchange e = {0, 0, source};
  memcpy(&e.value, &v, sizeof v);
  meet(sizeof v == 4 ? SHUFFLE4 : SHUFFLE8, &e, line);
  memcpy(&v, &e.result, sizeof v);
  return v;
}

template <class T>
inline T exchange_xor(T v, i32 mask, int line) {
  if (mask < 0 || mask > 31) stop("shuffle_xor with mask %d at line %d", mask, line);
  return exchange(v, (engine.current->rank ^ u32(mask)) % WARP, line);
}

OVERBOOK_UNSEEN inline void load_matrix(const Meeting& meeting, u32 (&r)[4], const void* row, int line) {
  check_shared(row, meeting.name, line);
  check_aligned(row, 16, meeting.name, line);
  (void)*static_cast<const volatile u8*>(row);  // a bad row is named by the lane that gave it
  see(row, 16, Access::ReadTogether);
  Rows rows = {r, row};
  meet(meeting, &rows, line);
}

}  // namespace emulator

inline float shuffle_xor(float v, i32 mask, int line = __builtin_LINE()) { return emulator::exchange_xor(v, mask, line); }
inline i32 shuffle_xor(i32 v, i32 mask, int line = __builtin_LINE()) { return emulator::exchange_xor(v, mask, line); }
inline u32 shuffle_xor(u32 v, i32 mask, int line = __builtin_LINE()) { return emulator::exchange_xor(v, mask, line); }
inline u64 shuffle_xor(u64 v, i32 mask, int line = __builtin_LINE()) { return emulator::exchange_xor(v, mask, line); }
inline float shuffle(float v, i32 lane, int line = __builtin_LINE()) { return emulator::exchange(v, u32(lane) % 32, line); }
inline i32 shuffle(i32 v, i32 lane, int line = __builtin_LINE()) { return emulator::exchange(v, u32(lane) % 32, line); }
inline u32 shuffle(u32 v, i32 lane, int line = __builtin_LINE()) { return emulator::exchange(v, u32(lane) % 32, line); }
inline u64 shuffle(u64 v, i32 lane, int line = __builtin_LINE()) { return emulator::exchange(v, u32(lane) % 32, line); }
inline void sync_warp(int line = __builtin_LINE()) { emulator::meet(emulator::SYNC_WARP, nullptr, line); }

inline void ldmatrix_x4(u32 (&r)[4], const void* shared_row, int line = __builtin_LINE()) {
  emulator::load_matrix(emulator::LDMATRIX, r, shared_row, line);
}
inline void ldmatrix_x4_trans(u32 (&r)[4], const void* shared_row, int line = __builtin_LINE()) {
  emulator::load_matrix(emulator::LDMATRIX_TRANS, r, shared_row, line);
}

/// d += a b, as one warp. Sums go in the order of k.
inline void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], int line = __builtin_LINE()) {
  emulator::Fragments f = {d, a, b};
  emulator::meet(emulator::MMA, &f, line);
}

#include "launch.h"
