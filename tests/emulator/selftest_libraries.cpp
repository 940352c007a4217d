// Cases of NVRTC, cublasLt, NVML and the null device.
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "selftest.h"

namespace selftest {
namespace {

struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

enum : int { COMPUTE_32F = 68, R_32F = 0, R_16BF = 14 };

struct Product {
  int m, n, k, transpose_a, transpose_b, out;
  int lda, ldb, ldd;
  Opaque handle = nullptr, description = nullptr, a = nullptr, b = nullptr, d = nullptr;

  Product(int m_, int n_, int k_, int ta, int tb, int type) : m(m_), n(n_), k(k_), transpose_a(ta), transpose_b(tb), out(type) {
    lda = (ta ? k : m) + 8, ldb = (tb ? n : k) + 8, ldd = m + 8;
    OK(cublasLtCreate(&handle));
    OK(cublasLtMatmulDescCreate(&description, COMPUTE_32F, R_32F));
    OK(cublasLtMatmulDescSetAttribute(description, 3, &ta, 4));
    OK(cublasLtMatmulDescSetAttribute(description, 4, &tb, 4));
    OK(cublasLtMatrixLayoutCreate(&a, R_16BF, uint64_t(ta ? k : m), uint64_t(ta ? m : k), lda));
    OK(cublasLtMatrixLayoutCreate(&b, R_16BF, uint64_t(tb ? n : k), uint64_t(tb ? k : n), ldb));
    OK(cublasLtMatrixLayoutCreate(&d, type, uint64_t(m), uint64_t(n), ldd));
  }

  std::vector<Heuristic> algorithms(uint64_t workspace, int wanted_status = 0) const {
    Opaque preference = nullptr;
    OK(cublasLtMatmulPreferenceCreate(&preference));
    OK(cublasLtMatmulPreferenceSetAttribute(preference, 1, &workspace, 8));
    std::vector<Heuristic> all(8);
    int count = -1;
    EQUAL(cublasLtMatmulAlgoGetHeuristic(handle, description, a, b, d, d, preference, 8, all.data(), &count), wanted_status);
    all.resize(size_t(count));
    return all;
  }

  int run(Opaque stream, Pointer at_a, Pointer at_b, Pointer at_d, float alpha, float beta, const Heuristic& h, Pointer workspace, size_t bytes) const {
    return cublasLtMatmul(handle, description, &alpha, at_a, a, at_b, b, &beta, at_d, d, at_d, d, h.algorithm, workspace, bytes, stream);
  }
};

std::vector<uint16_t> random_halves(size_t n) {
  std::vector<uint16_t> all(n);
  for (auto& x : all) x = narrow(float(rand() % 2001 - 1000) / 256);
  return all;
}

/// Values against a plain loop in the order of k: exact.
void check_product(int m, int n, int k, int ta, int tb, int type, bool captured) {
  const Product p(m, n, k, ta, tb, type);
  const Opaque s = new_stream();
  const auto a = random_halves(size_t(p.lda) * size_t(ta ? m : k)), b = random_halves(size_t(p.ldb) * size_t(tb ? k : n));
  const size_t element = type == R_32F ? 4 : 2, bytes = size_t(p.ldd) * size_t(n) * element;
  const Pointer at_a = device_memory(a.size() * 2), at_b = device_memory(b.size() * 2), at_d = device_memory(bytes);
  OK(cuMemcpyHtoD_v2(at_a, a.data(), a.size() * 2));
  OK(cuMemcpyHtoD_v2(at_b, b.data(), b.size() * 2));
  const auto all = p.algorithms(32 << 20);
  EQUAL(all.size(), 5u);
  for (const Heuristic& h : all) {
    const Pointer workspace = h.workspace ? device_memory(h.workspace) : 0;
    OK(cuMemsetD8Async(at_d, 0, bytes, s));
    if (captured) OK(cuStreamBeginCapture_v2(s, 0));
    OK(p.run(s, at_a, at_b, at_d, 0.5f, 0, h, workspace, h.workspace));
    OK(p.run(s, at_a, at_b, at_d, 2.0f, 1, h, workspace, h.workspace));
    if (captured) {
      Opaque graph = nullptr, executable = nullptr;
      OK(cuStreamEndCapture(s, &graph));
      OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
      OK(cuGraphLaunch(executable, s));
      OK(cuGraphLaunch(executable, s));
    }
    OK(cuStreamSynchronize(s));
    std::vector<unsigned char> raw(bytes);
    OK(cuMemcpyDtoH_v2(raw.data(), at_d, bytes));
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        float sum = 0;
        for (int x = 0; x < k; ++x) {
          const uint16_t left = ta ? a[size_t(i * p.lda + x)] : a[size_t(x * p.lda + i)];
          const uint16_t right = tb ? b[size_t(x * p.ldb + j)] : b[size_t(j * p.ldb + x)];
          sum += wide(left) * wide(right);
        }
        const size_t at = size_t(j * p.ldd + i);
        if (type == R_32F) {
          float got;
          memcpy(&got, raw.data() + at * 4, 4);
          EQUAL(got, 2.0f * sum + 0.5f * sum);
        } else {
          uint16_t got;
          memcpy(&got, raw.data() + at * 2, 2);
          EQUAL(wide(got), wide(narrow(2.0f * sum + wide(narrow(0.5f * sum)))));
        }
      }
    if (workspace) OK(cuMemFree_v2(workspace));
  }
}

void products() {
  start();
  check_product(48, 5, 64, 1, 0, R_16BF, false);
  check_product(17, 9, 33, 0, 0, R_32F, false);
  check_product(16, 3, 24, 1, 1, R_32F, true);
  check_product(40, 1, 8, 0, 1, R_16BF, true);
}

void products_are_checked() {
  start();
  const Product p(64, 8, 32, 1, 0, R_16BF), q(64, 16, 32, 1, 0, R_16BF);
  const Opaque s = new_stream();
  const Pointer a = device_memory(80 * 80 * 2), b = device_memory(80 * 80 * 2), d = device_memory(80 * 80 * 2), w = device_memory(4 << 20);
  EQUAL(p.algorithms(0).size(), 1u);
  const auto all = p.algorithms(4 << 20);
  EQUAL(all[0].workspace, size_t(4) << 20);
  OK(p.run(s, a, b, d, 1, 0, all[0], w, 4 << 20));
  EQUAL(p.run(s, a, b, d, 1, 0, all[0], w, (4 << 20) - 1), 7);
  EQUAL(q.run(s, a, b, d, 1, 0, all[0], w, 4 << 20), 15);
  EQUAL(p.run(s, a + 2, b, d, 1, 0, all[0], w, 4 << 20), 15);
  EQUAL(p.run(s, a + 1, b, d, 1, 0, all[0], w, 4 << 20), 7);
  EQUAL(p.run(nullptr, a, b, d, 1, 0, all[0], w, 4 << 20), 15);
  OK(cuCtxSynchronize());
}

/// Two streams share a workspace: whoever ends second sees it.
void workspace_is_exclusive(bool shared) {
  start();
  const Product p(64, 8, 32, 1, 0, R_16BF);
  const Pointer a = device_memory(80 * 80 * 2), b = device_memory(80 * 80 * 2), w[2] = {device_memory(4 << 20), device_memory(4 << 20)};
  const Opaque s[2] = {new_stream(), new_stream()};
  const Pointer d[2] = {device_memory(80 * 80 * 2), device_memory(80 * 80 * 2)};
  const auto all = p.algorithms(4 << 20);
  for (int round = 0; round < 100; ++round)
    for (int i = 0; i < 2; ++i) OK(p.run(s[i], a, b, d[i], 1, 0, all[0], w[shared ? 0 : i], 4 << 20));
  OK(cuCtxSynchronize());
}
void workspace_alone() { workspace_is_exclusive(false); }
void workspace_shared() { workspace_is_exclusive(true); }

void product_out_of_bounds() {
  start();
  const Product p(64, 8, 32, 1, 0, R_16BF);
  const Pointer a = device_memory(80 * 80 * 2), b = device_memory(64), d = device_memory(80 * 80 * 2);
  OK(p.run(new_stream(), a, b, d, 1, 0, p.algorithms(0)[0], 0, 0));
  OK(cuCtxSynchronize());
}

// ---- NVRTC ----

void errors_have_places() {
  start();
  int result = 0;
  std::string log;
  compile("#include \"prelude.cuh\"\nextern \"C\" __global__ void f(i32* x) {\n  x[0] = undefined_name;\n}\n", {"--gpu-architecture=sm_90"}, &result, &log);
  EQUAL(result, 6);
  CHECK(log.find("selftest.cu:3") != std::string::npos && log.find("undefined_name") != std::string::npos);
  compile("", {"--gpu-architecture=sm_90", "--no-such-option"}, &result, &log);
  EQUAL(result, 5);
  CHECK(log.find("--no-such-option") != std::string::npos);
  compile("", {"--gpu-architecture=sm_35"}, &result, &log);
  EQUAL(result, 5);
}

void images_are_checked() {
  start();
  int result = 0;
  std::string log;
  const char* text = "#include \"prelude.cuh\"\nextern \"C\" __global__ void f(i32* x) { x[0] = NUMBER; }\n";
  Opaque module = nullptr, f = nullptr;
  const std::string old = compile(text, {"--gpu-architecture=sm_80", "-DNUMBER=1"}, &result, &log);
  EQUAL(cuModuleLoadData(&module, old.data()), NO_BINARY);
  EQUAL(cuModuleLoadData(&module, "not an image"), 200);
  const Opaque s = new_stream();
  const Pointer d = device_memory(4);
  for (const char* define : {"-DNUMBER=5", "-DNUMBER=6"}) {
    const std::string cubin = compile(text, {"--gpu-architecture=sm_90a", define}, &result, &log);
    OK(cuModuleLoadData(&module, cubin.data()));
    EQUAL(cuModuleGetFunction(&f, module, "g"), NOT_FOUND);
    OK(cuModuleGetFunction(&f, module, "f"));
    launch(f, 1, 1, 0, s, d);
    OK(cuModuleUnload(module));
    int out = 0;
    OK(cuMemcpyDtoH_v2(&out, d, 4));
    EQUAL(out, define[9] - '0');
  }
}

void power() {
  Opaque device = nullptr;
  unsigned mw = 0;
  unsigned long long first = 0, second = 0;
  EQUAL(nvmlDeviceGetPowerUsage(device, &mw), 1);
  OK(nvmlInit_v2());
  OK(nvmlDeviceGetHandleByIndex_v2(0, &device));
  OK(nvmlDeviceGetPowerUsage(device, &mw));
  CHECK(mw > 0);
  OK(nvmlDeviceGetTotalEnergyConsumption(device, &first));
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (std::chrono::steady_clock::now() < until) {
  }
  OK(nvmlDeviceGetTotalEnergyConsumption(device, &second));
  CHECK(second > first);
}

/// The null device computes nothing and is always done.
void null_device() {
  start();
  const Opaque s = new_stream(), e = new_event(), f = kernel("add_to");
  const Pointer d = device_memory(4);
  OK(cuMemsetD32Async(d, 4, 1, s));
  launch(f, 1, 32, 0, s, d, 1, 1);
  OK(cuEventRecord(e, s));
  OK(cuEventQuery(e));
  int out = 0;
  OK(cuMemcpyDtoH_v2(&out, d, 4));
  EQUAL(out, 4);
  double us = 1e9;  // of a launch; the best of many, as the machine may be busy
  for (int round = 0; round < 50; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 200; ++i) launch(f, 1, 32, 0, s, d, 1, 1);
    us = std::fmin(us, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / 200);
  }
  CHECK(us < 5);
}

}  // namespace

std::vector<Case> library_cases() {
  return {
      {"products", products, {}, 0, nullptr},
      {"products_are_checked", products_are_checked, {}, 0, nullptr},
      {"workspace_alone", workspace_alone, {}, 0, nullptr},
      {"workspace_shared", workspace_shared, {}, -6, "something else wrote to its workspace"},
      {"product_out_of_bounds", product_out_of_bounds, {}, -6, "is not in one device allocation"},
      {"errors_have_places", errors_have_places, {}, 0, nullptr},
      {"images_are_checked", images_are_checked, {}, 0, nullptr},
      {"power", power, {}, 0, nullptr},
      {"null_device", null_device, {"OVERBOOK_EMULATOR_NULL=1"}, 0, nullptr},
  };
}

}  // namespace selftest
