// Cases of what happens inside of a kernel: exact lanes, and everything that must stop with kernel, block and thread.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "selftest.h"

namespace selftest {

const char* const KERNELS = R"CU(
#include "prelude.cuh"
extern "C" __global__ void add_to(i32* x, i32 n, i32 by) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < u32(n); i += gridDim.x * blockDim.x) x[i] += by;
}
// Arguments of every size, to prove that the buffer of a launch has them in their places.
extern "C" __global__ void __launch_bounds__(32) tell(u32* out, i32 a, float b, const u32* c, u32 d) {
  if (threadIdx.x == 0) out[0] = u32(a), out[1] = __float_as_uint(b), out[2] = c[0], out[3] = d;
}
extern "C" __global__ void __launch_bounds__(64) product(const bf16* a, const bf16* b, float* d, i32 transposed) {
  SHARED(bf16, left, [16][16]);
  SHARED(bf16, right, [16][8]);
  SHARED(bf16, columns, [8][16]);
  const u32 lane = threadIdx.x % 32;
  for (u32 i = threadIdx.x; i < 256; i += blockDim.x) left[i / 16][i % 16] = a[i];
  for (u32 i = threadIdx.x; i < 128; i += blockDim.x) right[i / 8][i % 8] = columns[i % 8][i / 8] = b[i];
  __syncthreads();
  u32 x[4], y[4];
  ldmatrix_x4(x, &left[lane % 16][lane / 16 * 8]);
  if (transposed) ldmatrix_x4_trans(y, &right[lane % 16][0]);
  else ldmatrix_x4(y, &columns[lane % 8][lane / 8 % 2 * 8]);
  const u32 z[2] = {y[0], y[1]};
  float sum[4] = {1, 1, 1, 1};
  mma_m16n8k16(sum, x, z);
  if (threadIdx.x >= 32) return;
  float* row = d + lane / 4 * 8 + lane % 4 * 2;
  row[0] = sum[0], row[1] = sum[1], row[64] = sum[2], row[65] = sum[3];
}
extern "C" __global__ void total(const float* x, float* out, i32 n) {
  SHARED(float, part, [4]);
  float sum = 0;
  for (i32 i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
  for (i32 mask = 16; mask; mask /= 2) sum += shuffle_xor(sum, mask);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}
extern "C" __global__ void rotate(const u32* in, u32* out, i32 fault) {
  DYNAMIC_SHARED(room);
  const u32 t = threadIdx.x;
  u32* words = reinterpret_cast<u32*>(room);
  cp_async16(room + t * 16, in + t * 4, t % 2 == 0);
  if (fault != 1) cp_async_commit();
  if (fault != 1 && fault != 2) cp_async_wait<0>();
  if (fault == 3) cp_async16(room + t * 16, in + t * 4, true);
  if (fault == 4 && t == 5) return;
  if (fault == 5) { if (t == 5) __syncthreads(); else
    __syncthreads(); }
  else if (fault != 6) __syncthreads();
  const u32 from = (t * 4 + 64) % (blockDim.x * 4);
  for (u32 i = 0; i < 4; ++i) out[t * 4 + i] = words[from + i];
}
__attribute__((noinline)) void deep() { volatile char room[100000]; room[0] = 1; }
extern "C" __global__ void misbehave(u32* out, i32 how) {
  SHARED(u32, array, [10]);
  DYNAMIC_SHARED(room);
  volatile u32* shared = array;
  volatile u32* global = out;
  const u32 t = threadIdx.x;
  array[t % 10] = t;
  if (how == 1 && t == 3) global[16] = global[64];
  if (how == 2 && t == 3) shared[12] = 1;
  if (how == 3 && t == 3) shared[11] = 1;
  if (how == 4 && t == 3) room[blockDim.x] = 1;
  if (how == 5 && t == 3) load16(out + 1);
  if (how == 6 && t == 3) store16(room + 8, Vec16{});
  if (how == 7 && t % 2) sync_warp();
  if (how == 8) { if (t % 2) shuffle(t, 0); else
    shuffle(t, 1); }
  if (how == 9 && t == 3) deep();
  if (how == 10 && t == 3) global[10] = 1;
  if (how == 11 && t == 3) add_shared(out, 1u);
  if (how == 12) { u32 r[4]; ldmatrix_x4(r, room + t % 3 * 8); }
  if (how == 13 && t == 3) cp_async16(room, out + 64, true);
  if (how == 14) { SHARED(u8, large, [48 << 10]); large[t] = 1; }
  if (how == 16 && t == 3) global[0] = 100 / (global[20 - 20] - global[0]);
  if (how == 15 && t == 3) global[0] = shared[-2000];
}
extern "C" __global__ void race(u32* out, i32 how) {
  SHARED(u32, cells, [64]);
  const u32 t = threadIdx.x;
  cells[t] = t;
  if (how == 0) sync_warp();
  if (how <= 1) out[t] = cells[t ^ 1];
  if (how == 2) sync_warp(), out[t] = cells[t ^ 32];
  if (how == 3) {
    __syncthreads();
    out[t] = cells[t ^ 32];
    sync_warp();
    cells[t] = t + 1;
  }
  if (how == 4) cells[t / 2 * 2] = t;
  if (how == 5) __syncthreads(), add_shared(&cells[0], t), out[t] = t;
  if (how == 6) __syncthreads(), add_shared(&cells[0], t), out[t] = cells[t / 63];
  if (how == 7) {
    DYNAMIC_SHARED(room);
    __syncthreads();
    cp_async16(room + t / 2 * 16, out, true);
    cp_async_commit();
    cp_async_wait<0>();
  }
}
extern "C" __global__ void poison(u32* out) {
  SHARED(u32, array, [32]);
  DYNAMIC_SHARED(room);
  const u32 t = threadIdx.x;
  out[blockIdx.x * 64 + t] = array[t];
  out[blockIdx.x * 64 + 32 + t] = reinterpret_cast<u32*>(room)[t];
  array[t] = reinterpret_cast<u32*>(room)[t] = 1;
}
extern "C" __global__ void orders(u32* blocks, u32* threads) {
  SHARED(u32, count, [1]);
  if (threadIdx.x == 0) blocks[blockIdx.x] = ++threads[64];
  if (threadIdx.x < 1) count[0] = 0;
  __syncthreads();
  const u32 mine = add_shared(count, 1u);
  if (blockIdx.x == 0) threads[threadIdx.x] = mine;
}
extern "C" __global__ void spaced(u32* out) {  // dim3 indices
  const u32 t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const u32 b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[b * 32 + t] = b * 32 + t;
}
)CU";

namespace {

std::vector<uint16_t> random_halves(size_t n) {
  std::vector<uint16_t> all(n);
  for (auto& x : all) x = narrow(float(rand() % 2001 - 1000) / 256);
  return all;
}

void mma_and_ldmatrix() {
  start();
  const Opaque s = new_stream(), f = kernel("product");
  const auto a = random_halves(256), b = random_halves(128);
  const Pointer left = device_memory(512), right = device_memory(256), d = device_memory(512);
  OK(cuMemcpyHtoD_v2(left, a.data(), 512));
  OK(cuMemcpyHtoD_v2(right, b.data(), 256));
  for (int transposed = 0; transposed < 2; ++transposed) {
    launch(f, 1, 64, 0, s, left, right, d, transposed);
    OK(cuStreamSynchronize(s));
    float out[128];
    OK(cuMemcpyDtoH_v2(out, d, 512));
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) {
        float sum = 1;
        for (int k = 0; k < 16; ++k) sum += wide(a[i * 16 + k]) * wide(b[k * 8 + j]);
        EQUAL(out[i * 8 + j], sum);
      }
  }
}

void sums() {
  start();
  const Opaque s = new_stream();
  std::vector<float> x(100 * 333);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i % 17);
  const Pointer in = device_memory(x.size() * 4), out = device_memory(400);
  OK(cuMemcpyHtoD_v2(in, x.data(), x.size() * 4));
  launch(kernel("total"), 100, 128, 0, s, in, out, 333);
  OK(cuStreamSynchronize(s));
  float got[100];
  OK(cuMemcpyDtoH_v2(got, out, 400));
  for (int b = 0; b < 100; ++b) {
    float sum = 0;
    for (int i = 0; i < 333; ++i) sum += x[size_t(b) * 333 + size_t(i)];
    EQUAL(got[b], sum);
  }
}

/// Arguments are those of the moment of the launch; sizes and places are right.
void arguments() {
  start();
  const Opaque s = new_stream();
  const Pointer out = device_memory(16), c = device_memory(4);
  OK(cuMemsetD32Async(c, 77, 1, s));
  Pointer to = out, from = c;
  int a = -5;
  float b = 1.5f;
  unsigned d = 9;
  void* all[] = {&to, &a, &b, &from, &d};
  OK(cuLaunchKernel(kernel("tell"), 1, 1, 1, 32, 1, 1, 0, s, all, nullptr));
  to = from = 0;
  a = 0, b = 0, d = 0;
  OK(cuStreamSynchronize(s));
  unsigned got[4];
  OK(cuMemcpyDtoH_v2(got, out, 16));
  EQUAL(int(got[0]), -5);
  EQUAL(got[1], 0x3FC00000u);
  EQUAL(got[2], 77u);
  EQUAL(got[3], 9u);
}

void shapes() {
  start();
  const Opaque s = new_stream();
  const Pointer out = device_memory(24 * 32 * 4), none = 0;
  void* all[] = {const_cast<Pointer*>(&out)};
  OK(cuLaunchKernel(kernel("spaced"), 2, 3, 4, 4, 4, 2, 0, s, all, nullptr));
  OK(cuStreamSynchronize(s));
  std::vector<unsigned> got(24 * 32);
  OK(cuMemcpyDtoH_v2(got.data(), out, got.size() * 4));
  for (unsigned i = 0; i < got.size(); ++i) EQUAL(got[i], i);
  void* const zero = const_cast<Pointer*>(&none);
  void* zeros[] = {zero, zero, zero, zero, zero};
  EQUAL(cuLaunchKernel(kernel("tell"), 1, 1, 1, 64, 1, 1, 0, s, zeros, nullptr), INVALID_VALUE);  // more than __launch_bounds__
  EQUAL(cuLaunchKernel(kernel("spaced"), 1, 65536, 1, 32, 1, 1, 0, s, all, nullptr), INVALID_VALUE);
  EQUAL(cuLaunchKernel(kernel("spaced"), 1, 1, 1, 2048, 1, 1, 0, s, all, nullptr), INVALID_VALUE);
  EQUAL(cuLaunchKernel(kernel("spaced"), 1, 1, 1, 32, 1, 1, 50000, s, all, nullptr), INVALID_VALUE);
  OK(cuFuncSetAttribute(kernel("spaced"), 8, 50000));
  OK(cuLaunchKernel(kernel("spaced"), 1, 1, 1, 32, 1, 1, 50000, s, all, nullptr));
  EQUAL(cuFuncSetAttribute(kernel("spaced"), 8, (227 << 10) + 1), INVALID_VALUE);
  Opaque f = nullptr;
  EQUAL(cuModuleGetFunction(&f, s, "spaced"), 400);
  OK(cuStreamSynchronize(s));
}

/// Shared memory starts as poison in every block.
void shared_is_poisoned() {
  start();
  const Opaque s = new_stream();
  const Pointer out = device_memory(8 * 256);
  launch(kernel("poison"), 8, 32, 128, s, out);
  OK(cuStreamSynchronize(s));
  std::vector<unsigned> got(8 * 64);
  OK(cuMemcpyDtoH_v2(got.data(), out, got.size() * 4));
  for (unsigned x : got) EQUAL(x, 0xFFFFFFFFu);
}

/// Neither blocks nor threads go in their order, and not twice in the same.
void order_is_random() {
  start();
  const Opaque s = new_stream();
  const Pointer blocks = device_memory(64 * 4), threads = device_memory(65 * 4);
  std::vector<unsigned> seen[2], order[2];
  for (int round = 0; round < 2; ++round) {
    OK(cuMemsetD32Async(threads, 0, 65, s));
    launch(kernel("orders"), 64, 64, 0, s, blocks, threads);
    OK(cuStreamSynchronize(s));
    seen[round].resize(64);
    order[round].resize(64);
    OK(cuMemcpyDtoH_v2(seen[round].data(), blocks, 256));
    OK(cuMemcpyDtoH_v2(order[round].data(), threads, 256));
  }
  CHECK(seen[0] != seen[1] && order[0] != order[1]);
  unsigned fixed = 0;
  for (unsigned i = 0; i < 64; ++i) fixed += (seen[0][i] == i + 1) + (order[0][i] == i);
  CHECK(fixed < 20);
}

void rotate(int fault) {
  start();
  const Opaque s = new_stream();
  std::vector<unsigned> in(512), got(512);
  for (unsigned i = 0; i < 512; ++i) in[i] = i;
  const Pointer from = device_memory(2048), to = device_memory(2048);
  OK(cuMemcpyHtoD_v2(from, in.data(), 2048));
  launch(kernel("rotate"), 1, 128, 2048, s, from, to, fault);
  OK(cuStreamSynchronize(s));
  OK(cuMemcpyDtoH_v2(got.data(), to, 2048));
  for (unsigned i = 0; i < 512; ++i) {
    const unsigned j = (i + 64) % 512;
    EQUAL(got[i], j / 4 % 2 == 0 ? j : 0u);
  }
}

void misbehave(int how) {
  start();
  const Opaque s = new_stream();
  launch(kernel("misbehave"), 1, 32, 32, s, device_memory(40), how);
  OK(cuStreamSynchronize(s));
}

template <int FAULT>
void rotate_with() { rotate(FAULT); }
template <int HOW>
void misbehave_by() { misbehave(HOW); }

template <int HOW>
void race_by() {
  start();
  const Opaque s = new_stream();
  launch(kernel("race"), 3, 64, 512, s, device_memory(256), HOW);
  OK(cuStreamSynchronize(s));
}

void use_after_free() {
  start();
  const Opaque s = new_stream();
  const Pointer d = device_memory(40);
  OK(cuMemFree_v2(d));
  launch(kernel("add_to"), 1, 32, 0, s, d, 10, 1);
  OK(cuStreamSynchronize(s));
}

void pointer_of_the_host() {
  start();
  int here[4];
  launch(kernel("add_to"), 1, 32, 0, new_stream(), Pointer(reinterpret_cast<uintptr_t>(here)), 4, 1);
  OK(cuCtxSynchronize());
}

}  // namespace

std::vector<Case> kernel_cases() {
  const char* rotate_edit = "OVERBOOK_EMULATOR_EDIT=t * 4 + 64=>t * 4 + 60";
  const char* races = "OVERBOOK_EMULATOR_RACES=1";
  return {
      {"mma_and_ldmatrix", mma_and_ldmatrix, {}, 0, nullptr},
      {"sums", sums, {}, 0, nullptr},
      {"arguments", arguments, {}, 0, nullptr},
      {"shapes", shapes, {}, 0, nullptr},
      {"shared_is_poisoned", shared_is_poisoned, {}, 0, nullptr},
      {"order_is_random", order_is_random, {}, 0, nullptr},
      {"misbehave_not", misbehave_by<0>, {}, 0, nullptr},
      {"rotate", rotate_with<0>, {}, 0, nullptr},
      {"rotate_uncommitted", rotate_with<1>, {}, -6, "kernel rotate, block (0,0,0), thread ("},
      {"rotate_not_waited", rotate_with<2>, {}, -6, "never waited for"},
      {"rotate_forgotten_copy", rotate_with<3>, {}, -6, "never waited for"},
      {"rotate_thread_left", rotate_with<4>, {}, -6, "127 threads (first 0) wait in __syncthreads"},
      {"rotate_two_barriers", rotate_with<5>, {}, -6, "divergent barrier: __syncthreads at line"},
      {"rotate_no_barrier", rotate_with<6>, {}, 1, "got[i] is 4294967295"},
      {"edit_shifts", rotate_with<0>, {rotate_edit}, 1, "got[i] is"},
      {"edit_unmatched", rotate_with<0>, {"OVERBOOK_EMULATOR_EDIT=not there=>x;;u32 from=>u32 from"}, 97, "the edit of `not there` matched no source"},
      {"read_past_end", misbehave_by<1>, {}, -6, "thread (3,0,0): access to"},
      {"shared_past_end", misbehave_by<2>, {}, -6, "outside of its shared arrays"},
      {"shared_slack", misbehave_by<3>, {}, -6, "wrote past the end of array, a shared array of 40 bytes"},
      {"dynamic_past_end", misbehave_by<4>, {}, -6, "outside of its shared arrays"},
      {"misaligned_load", misbehave_by<5>, {}, -6, "thread (3,0,0): misaligned load16"},
      {"misaligned_store", misbehave_by<6>, {}, -6, "thread (3,0,0): misaligned store16"},
      {"divergent_sync", misbehave_by<7>, {}, -6, "16 threads (first 1) wait in sync_warp"},
      {"divergent_shuffle", misbehave_by<8>, {}, -6, "divergent warp: a shuffle of 4 bytes at line"},
      {"stack_overflow", misbehave_by<9>, {}, -6, "thread (3,0,0): access to"},
      {"global_slack", misbehave_by<10>, {}, -6, "misbehave: wrote 40 bytes from the start of device allocation 1 of 40 bytes"},
      {"add_to_global", misbehave_by<11>, {}, -6, "not shared memory"},
      {"misaligned_ldmatrix", misbehave_by<12>, {}, -6, "misaligned ldmatrix_x4"},
      {"cp_async_past_end", misbehave_by<13>, {}, -6, "past the end of device allocation 1 of 40 bytes"},
      {"static_shared_too_large", misbehave_by<14>, {}, -6, "bytes of static shared memory; at most 49152"},
      {"shared_before_start", misbehave_by<15>, {}, -6, "outside of its shared arrays"},
      {"division_by_zero", misbehave_by<16>, {}, -6, "thread (3,0,0): division by zero"},
      {"race_unseen", race_by<3>, {}, 0, nullptr},
      {"race_none_in_product", mma_and_ldmatrix, {races}, 0, nullptr},
      {"race_none_in_sums", sums, {races}, 0, nullptr},
      {"race_none_in_rotate", rotate_with<0>, {races}, 0, nullptr},
      {"race_none_in_orders", order_is_random, {races}, 0, nullptr},
      {"race_none", race_by<0>, {races}, 0, nullptr},
      {"race_in_warp", race_by<1>, {races}, -6, "race on byte"},
      {"race_across_warps", race_by<2>, {races}, -6, "race on byte"},
      {"race_after_reads", race_by<3>, {races}, -6, "race on byte"},
      {"race_of_writers", race_by<4>, {races}, -6, "of cells: written without a barrier after it was written by thread ("},
      {"race_none_of_sums", race_by<5>, {races}, 0, nullptr},
      {"race_of_sum_and_read", race_by<6>, {races}, -6, "of cells: "},
      {"race_of_cp_async", race_by<7>, {races}, -6, "of dynamic shared memory: written without a barrier after it was written by thread ("},
      {"race_without_barrier", rotate_with<6>, {races}, -6, "race on byte"},
      {"use_after_free", use_after_free, {}, -6, "kernel add_to: argument 0 is"},
      {"pointer_of_the_host", pointer_of_the_host, {}, -6, "no allocation"},
  };
}

}  // namespace selftest
