// libcublasLt: bf16 products on the emulated streams. Column-major, f32 sums in the order of k.
#include <cstring>
#include <unordered_map>

#include "gemm.h"
#include "machine.h"

namespace emulator {
namespace {

enum Blas { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, ARCH_MISMATCH = 8, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };

constexpr int COMPUTE_32F = 68, R_32F = 0, R_16BF = 14;

struct Handle {};

struct Description {
  int compute, scale;
  int transpose_a = 0, transpose_b = 0;
};

struct Layout {
  int type, order = 0, batch = 1;
  uint64_t rows, columns;
  int64_t ld, batch_stride = 0;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

/// What the opaque 64 bytes of an algorithm hold here.
struct Algorithm {
  uint64_t magic, id, workspace, shape, alignment, unused[3];
};
static_assert(sizeof(Algorithm) == 64, "cublasLtMatmulAlgo_t");
constexpr uint64_t MAGIC = 0x6F76657262'6F6F6Bull;

struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96, "cublasLtMatmulHeuristicResult_t");

constexpr uint64_t WORKSPACES[] = {4 << 20, 0, 32 << 20, 64 << 10, 8448 << 10};  // of algorithms 1, 2, ...

template <class T>
struct Live {
  std::unordered_map<void*, std::unique_ptr<T>> all;
  T* add(T value) {
    auto one = std::make_unique<T>(value);
    T* at = one.get();
    all[at] = std::move(one);
    return at;
  }
  T* find(const void* at) {
    const auto found = all.find(const_cast<void*>(at));
    return found == all.end() ? nullptr : found->second.get();
  }
};

struct Objects {
  Live<Handle> handles;
  Live<Description> descriptions;
  Live<Layout> layouts;
  Live<Preference> preferences;
};

Objects& objects() {
  static Objects* one = new Objects;
  return *one;
}

size_t element(int type) { return type == R_16BF ? 2 : 4; }

/// A product whose parts fit together, as libcublasLt checks them. C is read only where beta is not zero.
Blas fit(const Description* d, const Layout* a, const Layout* b, const Layout* c, const Layout* to, Gemm* g) {
  if (!d || !a || !b || !c || !to) return INVALID_VALUE;
  const Layout* all[] = {a, b, c, to};
  for (const Layout* l : all)
    if (l->order != 0 || l->rows == 0 || l->columns == 0 || l->batch != a->batch) return NOT_SUPPORTED;
  for (const Layout* l : all)
    if (l->ld < int64_t(l->rows)) return INVALID_VALUE;
  if (d->compute != COMPUTE_32F || d->scale != R_32F || a->type != R_16BF || b->type != R_16BF) return NOT_SUPPORTED;
  if (to->type != c->type || (to->type != R_16BF && to->type != R_32F)) return NOT_SUPPORTED;
  g->m = to->rows;
  g->n = to->columns;
  g->k = d->transpose_a ? a->rows : a->columns;
  g->transpose_a = d->transpose_a != 0;
  g->transpose_b = d->transpose_b != 0;
  if ((d->transpose_a ? a->columns : a->rows) != g->m || (d->transpose_b ? b->rows : b->columns) != g->n) return INVALID_VALUE;
  if ((d->transpose_b ? b->columns : b->rows) != g->k || c->rows != g->m || c->columns != g->n) return INVALID_VALUE;
  g->a = Matrix{0, size_t(a->ld), a->batch_stride, span(*g, a->columns, a->rows, a->ld)};
  g->b = Matrix{0, size_t(b->ld), b->batch_stride, span(*g, b->columns, b->rows, b->ld)};
  g->c = Matrix{0, size_t(c->ld), c->batch_stride, span(*g, c->columns, c->rows, c->ld)};
  g->d = Matrix{0, size_t(to->ld), to->batch_stride, span(*g, to->columns, to->rows, to->ld)};
  g->batch = unsigned(a->batch);
  g->wide = to->type == R_32F;
  return SUCCESS;
}

/// An algorithm serves the shape that it was found for.
uint64_t shape_of(const Gemm& g) {
  uint64_t h = 0xCBF29CE484222325ull;
  for (const uint64_t v : {uint64_t(g.m), uint64_t(g.n), uint64_t(g.k), uint64_t(g.transpose_a), uint64_t(g.transpose_b), uint64_t(g.wide),
                           uint64_t(g.batch), uint64_t(g.a.ld), uint64_t(g.b.ld), uint64_t(g.c.ld), uint64_t(g.d.ld), uint64_t(settings().sm)})
    h = (h ^ v) * 0x100000001B3ull, h ^= h >> 32;
  return h;
}

uint64_t alignment_of(uint64_t value) { return value ? value & (~value + 1) : 256; }

/// Bytes to which pointers must be aligned: 16 where leading dimensions and the asker allow it.
uint64_t alignment_for(const Gemm& g, const Preference& p) {
  const uint64_t out = g.wide ? 4 : 2;
  uint64_t least = 16;
  for (const uint64_t ld : {g.a.ld * 2, g.b.ld * 2, g.c.ld * out, g.d.ld * out}) least = std::min(least, alignment_of(ld));
  for (const uint64_t asked : p.alignment) least = std::min<uint64_t>(least, asked);
  return least;
}

template <class T>
Blas read_attribute(const void* from, size_t bytes, T* to) {
  if (!from || bytes != sizeof(T)) return INVALID_VALUE;
  memcpy(to, from, sizeof(T));
  return SUCCESS;
}

Blas read_choice(const void* from, size_t bytes, int most, int* to) {
  int value = 0;
  if (const Blas s = read_attribute(from, bytes, &value)) return s;
  if (value < 0 || value > most) return INVALID_VALUE;
  *to = value;
  return SUCCESS;
}

Blas set_description(Description& d, int which, const void* from, size_t bytes) {
  int value = 0;
  switch (which) {
    case 3: return read_choice(from, bytes, 1, &d.transpose_a);
    case 4: return read_choice(from, bytes, 1, &d.transpose_b);
    case 2:  // POINTER_MODE: only the host's
      if (const Blas s = read_attribute(from, bytes, &value)) return s;
      return value == 0 ? SUCCESS : NOT_SUPPORTED;
    case 7:  // EPILOGUE: only the default
      if (const Blas s = read_attribute(from, bytes, &value)) return s;
      return value == 1 ? SUCCESS : NOT_SUPPORTED;
    case 15:  // SM_COUNT_TARGET: changes no result
      return read_attribute(from, bytes, &value);
    default: return NOT_SUPPORTED;
  }
}

Blas set_layout(Layout& l, int which, const void* from, size_t bytes) {
  switch (which) {
    case 0: return read_attribute(from, bytes, &l.type);
    case 1: return read_choice(from, bytes, 1, &l.order);
    case 2: return read_attribute(from, bytes, &l.rows);
    case 3: return read_attribute(from, bytes, &l.columns);
    case 4: return read_attribute(from, bytes, &l.ld);
    case 5: return read_attribute(from, bytes, &l.batch);
    case 6: return read_attribute(from, bytes, &l.batch_stride);
    default: return NOT_SUPPORTED;
  }
}

struct Operands {
  const void *a, *b, *c;
  void* d;
};

Blas check_algorithm(const Gemm& g, const Algorithm& algorithm, const Operands& at, const void* workspace, size_t bytes) {
  if (algorithm.magic != MAGIC) return INVALID_VALUE;
  if (algorithm.shape != shape_of(g)) return NOT_SUPPORTED;
  if (bytes < algorithm.workspace || (algorithm.workspace && !workspace)) return INVALID_VALUE;
  for (const void* p : {at.a, at.b, at.c, static_cast<const void*>(at.d)})
    if (reinterpret_cast<Address>(p) % algorithm.alignment) return NOT_SUPPORTED;
  return reinterpret_cast<Address>(workspace) % 16 ? NOT_SUPPORTED : SUCCESS;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT size_t cublasLtGetVersion() { return 130100; }

EXPORT int cublasLtCreate(Handle** handle) {
  Gate gate;
  if (!handle) return INVALID_VALUE;
  if (current_context() != CUDA_SUCCESS) return NOT_INITIALIZED;
  *handle = objects().handles.add(Handle{});
  return SUCCESS;
}

EXPORT int cublasLtDestroy(Handle* handle) {
  Gate gate;
  return objects().handles.all.erase(handle) ? SUCCESS : NOT_INITIALIZED;
}

EXPORT int cublasLtMatmulDescCreate(Description** description, int compute, int scale) {
  Gate gate;
  if (!description) return INVALID_VALUE;
  *description = objects().descriptions.add(Description{compute, scale});
  return SUCCESS;
}

EXPORT int cublasLtMatmulDescDestroy(Description* description) {
  Gate gate;
  return objects().descriptions.all.erase(description) ? SUCCESS : INVALID_VALUE;
}

EXPORT int cublasLtMatmulDescSetAttribute(Description* description, int which, const void* from, size_t bytes) {
  Gate gate;
  Description* d = objects().descriptions.find(description);
  return d ? set_description(*d, which, from, bytes) : INVALID_VALUE;
}

EXPORT int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  Gate gate;
  if (!layout) return INVALID_VALUE;
  Layout l;
  l.type = type;
  l.rows = rows;
  l.columns = columns;
  l.ld = ld;
  *layout = objects().layouts.add(l);
  return SUCCESS;
}

EXPORT int cublasLtMatrixLayoutDestroy(Layout* layout) {
  Gate gate;
  return objects().layouts.all.erase(layout) ? SUCCESS : INVALID_VALUE;
}

EXPORT int cublasLtMatrixLayoutSetAttribute(Layout* layout, int which, const void* from, size_t bytes) {
  Gate gate;
  Layout* l = objects().layouts.find(layout);
  return l ? set_layout(*l, which, from, bytes) : INVALID_VALUE;
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference** preference) {
  Gate gate;
  if (!preference) return INVALID_VALUE;
  *preference = objects().preferences.add(Preference{});
  return SUCCESS;
}

EXPORT int cublasLtMatmulPreferenceDestroy(Preference* preference) {
  Gate gate;
  return objects().preferences.all.erase(preference) ? SUCCESS : INVALID_VALUE;
}

EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int which, const void* from, size_t bytes) {
  Gate gate;
  Preference* p = objects().preferences.find(preference);
  if (!p) return INVALID_VALUE;
  if (which == 1) return read_attribute(from, bytes, &p->workspace);
  if (which >= 5 && which <= 8) return read_attribute(from, bytes, &p->alignment[which - 5]);
  return NOT_SUPPORTED;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(Handle* handle, Description* description, Layout* a, Layout* b, Layout* c, Layout* d, Preference* preference,
                                          int asked, Heuristic* results, int* returned) {
  Gate gate;
  Objects& o = objects();
  if (!o.handles.find(handle)) return NOT_INITIALIZED;
  const Preference* p = o.preferences.find(preference);
  if (!p || asked < 1 || !results || !returned) return INVALID_VALUE;
  *returned = 0;
  Gemm g;
  if (const Blas s = fit(o.descriptions.find(description), o.layouts.find(a), o.layouts.find(b), o.layouts.find(c), o.layouts.find(d), &g)) return s;
  uint64_t id = 0;
  for (const uint64_t workspace : WORKSPACES) {
    ++id;
    if (workspace > p->workspace || *returned == asked) continue;
    Heuristic& h = results[(*returned)++];
    h = Heuristic{};
    h.algorithm = Algorithm{MAGIC, id, workspace, shape_of(g), alignment_for(g, *p), {}};
    h.workspace = size_t(workspace);
    h.state = SUCCESS;
    h.waves = 1.0f;
  }
  return *returned ? SUCCESS : NOT_SUPPORTED;
}

EXPORT int cublasLtMatmul(Handle* handle, Description* description, const float* alpha, const void* a, Layout* a_layout, const void* b, Layout* b_layout,
                          const float* beta, const void* c, Layout* c_layout, void* d, Layout* d_layout, const Algorithm* algorithm, void* workspace,
                          size_t workspace_bytes, void* stream_handle) {
  Gate gate;
  Objects& o = objects();
  if (!o.handles.find(handle) || current_context() != CUDA_SUCCESS) return NOT_INITIALIZED;
  if (!alpha || !beta || !a || !b || !d || (*beta != 0.0f && !c)) return INVALID_VALUE;
  auto product = std::make_shared<Product>();
  Gemm& g = product->gemm;
  const Layout* to = o.layouts.find(d_layout);
  if (const Blas s = fit(o.descriptions.find(description), o.layouts.find(a_layout), o.layouts.find(b_layout), o.layouts.find(c_layout), to, &g)) return s;
  if (c == d && g.c.ld != g.d.ld) return INVALID_VALUE;
  for (const void* p : {a, b})
    if (reinterpret_cast<Address>(p) % 2) return INVALID_VALUE;
  if (reinterpret_cast<Address>(d) % element(to->type) || reinterpret_cast<Address>(c) % element(to->type)) return INVALID_VALUE;
  if (algorithm)
    if (const Blas s = check_algorithm(g, *algorithm, Operands{a, b, *beta != 0.0f ? c : d, d}, workspace, workspace_bytes)) return s;
  const auto stream = find_stream(stream_handle);
  if (!stream) return stream_handle ? INVALID_VALUE : NOT_SUPPORTED;
  g.alpha = *alpha;
  g.beta = *beta;
  g.a.at = reinterpret_cast<Address>(a);
  g.b.at = reinterpret_cast<Address>(b);
  g.c.at = reinterpret_cast<Address>(c);
  g.d.at = reinterpret_cast<Address>(d);
  product->workspace = reinterpret_cast<Address>(workspace);
  product->workspace_bytes = workspace ? workspace_bytes : 0;
  if (enqueue(*stream, std::make_shared<ProductBegin>(product)) != CUDA_SUCCESS) return EXECUTION_FAILED;
  if (enqueue(*stream, std::make_shared<ProductEnd>(product)) != CUDA_SUCCESS) return EXECUTION_FAILED;
  return SUCCESS;
}
