// The arithmetic of products, and what they do to their workspace.
#include "gemm.h"

#include <algorithm>
#include <cstring>

namespace emulator {
namespace {

constexpr size_t LANES = 16;  // rows of D that are summed side by side
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

float wide(uint16_t bits) {
  const uint32_t word = uint32_t(bits) << 16;
  float x;
  memcpy(&x, &word, 4);
  return x;
}

uint16_t narrow(float x) {  // to the nearest, ties to even
  uint32_t word;
  memcpy(&word, &x, 4);
  if ((word & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;
  return uint16_t((word + 0x7FFFu + (word >> 16 & 1u)) >> 16);
}

const uint16_t* halves(const Matrix& m, unsigned batch) { return reinterpret_cast<const uint16_t*>(m.at) + int64_t(batch) * m.batch_stride; }

/// Every word that is written to or read from a workspace: its ends and a word in 64 KiB.
template <class Visit>
void visit_workspace(Address at, size_t bytes, Visit visit) {
  const size_t words = bytes / 8, edge = std::min<size_t>(words, 64);
  auto* word = reinterpret_cast<uint64_t*>(at);
  for (size_t i = 0; i < edge; ++i) visit(word[i]);
  for (size_t i = 0; i < words; i += 8192) visit(word[i]);
  for (size_t i = words - edge; i < words; ++i) visit(word[i]);
}

void require(const Matrix& m, const Gemm& g, size_t element, const char* name) {
  const size_t bytes = (m.elements + size_t(g.batch - 1) * size_t(m.batch_stride)) * element;
  if (m.batch_stride < 0 || !lies_in(Home::Device, m.at, bytes))
    abandon("cublasLtMatmul (m %zu, n %zu, k %zu): %s, %zu bytes from %p, is not in one device allocation", g.m, g.n, g.k, name, bytes,
            reinterpret_cast<void*>(m.at));
}

void store(const Gemm& g, unsigned batch, size_t row, size_t column, float sum) {
  const size_t c = size_t(int64_t(batch) * g.c.batch_stride) + column * g.c.ld + row;
  const size_t d = size_t(int64_t(batch) * g.d.batch_stride) + column * g.d.ld + row;
  float value = g.alpha * sum;
  if (g.beta != 0.0f) value += g.beta * (g.wide ? reinterpret_cast<const float*>(g.c.at)[c] : wide(reinterpret_cast<const uint16_t*>(g.c.at)[c]));
  if (g.wide) reinterpret_cast<float*>(g.d.at)[d] = value;
  else reinterpret_cast<uint16_t*>(g.d.at)[d] = narrow(value);
}

void multiply(const Gemm& g, unsigned batch) {
  const uint16_t *a = halves(g.a, batch), *b = halves(g.b, batch);
  std::vector<Lanes> rows(g.k);
  std::vector<float> column(g.k * g.n);
  for (size_t j = 0; j < g.n; ++j)
    for (size_t k = 0; k < g.k; ++k) column[j * g.k + k] = wide(g.transpose_b ? b[k * g.b.ld + j] : b[j * g.b.ld + k]);
  for (size_t first = 0; first < g.m; first += LANES) {
    const size_t count = std::min(LANES, g.m - first);
    for (size_t k = 0; k < g.k; ++k)
      for (size_t i = 0; i < LANES; ++i)
        rows[k][i] = i >= count ? 0.0f : wide(g.transpose_a ? a[(first + i) * g.a.ld + k] : a[k * g.a.ld + first + i]);
    for (size_t j = 0; j < g.n; ++j) {
      Lanes sum = {};
      const float* x = column.data() + j * g.k;
      for (size_t k = 0; k < g.k; ++k) sum += rows[k] * x[k];
      for (size_t i = 0; i < count; ++i) store(g, batch, first + i, j, sum[i]);
    }
  }
}

}  // namespace

void Product::begin() {
  if (settings().null) return;
  const Gemm& g = gemm;
  const size_t out = g.wide ? 4 : 2;
  require(g.a, g, 2, "A");
  require(g.b, g, 2, "B");
  require(g.d, g, out, "D");
  if (g.beta != 0.0f) require(g.c, g, out, "C");
  if (workspace_bytes && !lies_in(Home::Device, workspace, workspace_bytes))
    abandon("cublasLtMatmul: the workspace of %zu bytes is not in one device allocation", workspace_bytes);
  stamp = random_bits() | 0xFFF8000000000000ull;  // a NaN, whoever reads it
  visit_workspace(workspace, workspace_bytes, [&](uint64_t& word) { word = stamp; });
  if (g.beta != 0.0f) return;
  for (unsigned batch = 0; batch < g.batch; ++batch)
    for (size_t j = 0; j < g.n; ++j) memset(reinterpret_cast<char*>(g.d.at) + (size_t(batch) * size_t(g.d.batch_stride) + j * g.d.ld) * out, 0xFF, g.m * out);
}

void Product::end() {
  if (settings().null) return;
  visit_workspace(workspace, workspace_bytes, [&](uint64_t& word) {
    if (word != stamp) abandon("cublasLtMatmul (m %zu, n %zu, k %zu): something else wrote to its workspace while it ran", gemm.m, gemm.n, gemm.k);
  });
  for (unsigned batch = 0; batch < gemm.batch; ++batch) multiply(gemm, batch);
  check_slack("cublasLtMatmul");
}

}  // namespace emulator
