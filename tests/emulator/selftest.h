// What the cases of the self-test share: the library as a program finds it, and checks.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace selftest {

typedef uint64_t Pointer;  // CUdeviceptr
typedef void* Opaque;      // any handle

#define SELFTEST_FUNCTIONS(X)                                                                                                                   \
  X(cuInit, int(unsigned)) X(cuDriverGetVersion, int(int*)) X(cuDeviceGetAttribute, int(int*, int, int)) X(cuDevicePrimaryCtxRetain, int(Opaque*, int)) \
  X(cuCtxSetCurrent, int(Opaque)) X(cuCtxSynchronize, int()) X(cuMemGetInfo_v2, int(size_t*, size_t*)) X(cuMemAlloc_v2, int(Pointer*, size_t)) \
  X(cuMemFree_v2, int(Pointer)) X(cuMemHostAlloc, int(void**, size_t, unsigned)) X(cuMemFreeHost, int(void*))                                   \
  X(cuMemcpyHtoD_v2, int(Pointer, const void*, size_t)) X(cuMemcpyDtoH_v2, int(void*, Pointer, size_t))                                         \
  X(cuMemcpyHtoDAsync_v2, int(Pointer, const void*, size_t, Opaque)) X(cuMemcpyDtoHAsync_v2, int(void*, Pointer, size_t, Opaque))               \
  X(cuMemcpyDtoDAsync_v2, int(Pointer, Pointer, size_t, Opaque)) X(cuMemsetD8Async, int(Pointer, unsigned char, size_t, Opaque))                \
  X(cuMemsetD32Async, int(Pointer, unsigned, size_t, Opaque)) X(cuStreamCreate, int(Opaque*, unsigned)) X(cuStreamDestroy_v2, int(Opaque))      \
  X(cuStreamSynchronize, int(Opaque)) X(cuStreamQuery, int(Opaque)) X(cuStreamWaitEvent, int(Opaque, Opaque, unsigned))                         \
  X(cuEventCreate, int(Opaque*, unsigned)) X(cuEventRecord, int(Opaque, Opaque)) X(cuEventRecordWithFlags, int(Opaque, Opaque, unsigned))       \
  X(cuEventQuery, int(Opaque)) X(cuEventSynchronize, int(Opaque)) X(cuEventElapsedTime_v2, int(float*, Opaque, Opaque))                         \
  X(cuModuleLoadData, int(Opaque*, const void*)) X(cuModuleGetFunction, int(Opaque*, Opaque, const char*)) X(cuModuleUnload, int(Opaque))       \
  X(cuFuncSetAttribute, int(Opaque, int, int))                                                                                                  \
  X(cuLaunchKernel, int(Opaque, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Opaque, void**, void**))                  \
  X(cuStreamBeginCapture_v2, int(Opaque, int)) X(cuStreamEndCapture, int(Opaque, Opaque*)) X(cuStreamIsCapturing, int(Opaque, int*))            \
  X(cuGraphInstantiateWithFlags, int(Opaque*, Opaque, unsigned long long)) X(cuGraphLaunch, int(Opaque, Opaque))                                \
  X(cuGraphExecDestroy, int(Opaque)) X(cuGraphDestroy, int(Opaque)) X(cuGetErrorName, int(int, const char**))                                   \
  X(cuDeviceGetDevResource, int(int, void*, int)) X(cuDevSmResourceSplitByCount, int(void*, unsigned*, const void*, void*, unsigned, unsigned)) \
  X(cuDevResourceGenerateDesc, int(Opaque*, void*, unsigned)) X(cuGreenCtxCreate, int(Opaque*, Opaque, int, unsigned))                          \
  X(cuGreenCtxStreamCreate, int(Opaque*, Opaque, unsigned, int)) X(cuCtxFromGreenCtx, int(Opaque*, Opaque))                                     \
  X(nvrtcCreateProgram, int(Opaque*, const char*, const char*, int, const char* const*, const char* const*))                                    \
  X(nvrtcCompileProgram, int(Opaque, int, const char* const*)) X(nvrtcGetProgramLogSize, int(Opaque, size_t*))                                  \
  X(nvrtcGetProgramLog, int(Opaque, char*)) X(nvrtcGetCUBINSize, int(Opaque, size_t*)) X(nvrtcGetCUBIN, int(Opaque, char*))                     \
  X(nvrtcDestroyProgram, int(Opaque*)) X(cublasLtCreate, int(Opaque*)) X(cublasLtMatmulDescCreate, int(Opaque*, int, int))                      \
  X(cublasLtMatmulDescSetAttribute, int(Opaque, int, const void*, size_t)) X(cublasLtMatrixLayoutCreate, int(Opaque*, int, uint64_t, uint64_t, int64_t)) \
  X(cublasLtMatmulPreferenceCreate, int(Opaque*)) X(cublasLtMatmulPreferenceSetAttribute, int(Opaque, int, const void*, size_t))                \
  X(cublasLtMatmulAlgoGetHeuristic, int(Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, int, void*, int*))                              \
  X(cublasLtMatmul, int(Opaque, Opaque, const float*, Pointer, Opaque, Pointer, Opaque, const float*,                                           \
                        Pointer, Opaque, Pointer, Opaque, const void*, Pointer, size_t, Opaque)) \
  X(nvmlInit_v2, int()) X(nvmlDeviceGetHandleByIndex_v2, int(unsigned, Opaque*)) X(nvmlDeviceGetTotalEnergyConsumption, int(Opaque, unsigned long long*)) \
  X(nvmlDeviceGetPowerUsage, int(Opaque, unsigned*))

template <class F>
using At = F*;
#define X(name, ...) extern At<__VA_ARGS__> name;
SELFTEST_FUNCTIONS(X)
#undef X

[[noreturn]] void fail(const char* file, int line, const std::string& what);

#define CHECK(condition) \
  if (!(condition)) ::selftest::fail(__FILE__, __LINE__, #condition)
#define EQUAL(got, wanted)                                                                                                    \
  do {                                                                                                                        \
    const auto a_ = (got);                                                                                                    \
    const auto b_ = (wanted);                                                                                                 \
    if (!(a_ == b_)) ::selftest::fail(__FILE__, __LINE__, std::string(#got) + " is " + std::to_string(a_) + ", not " + std::to_string(b_)); \
  } while (0)
#define OK(call) EQUAL(call, 0)

enum : int { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NO_BINARY = 209, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801 };
enum : int { CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905, CAPTURED_EVENT = 907 };

/// cuInit and the primary context.
void start();
Opaque new_stream();
Opaque new_event();
Pointer device_memory(size_t bytes);
template <class T>
T* pinned(size_t count) {
  void* at = nullptr;
  if (cuMemHostAlloc(&at, count * sizeof(T), 0)) return nullptr;
  return static_cast<T*>(at);
}

/// The kernels of selftest_kernels.cpp, compiled by the library.
Opaque kernel(const char* name);
extern const char* const KERNELS;
std::string compile(const char* text, std::vector<const char*> options, int* result, std::string* log);

template <class... A>
void launch(Opaque function, unsigned blocks, unsigned threads, unsigned shared, Opaque stream, A... arguments) {
  void* all[] = {&arguments..., nullptr};
  OK(cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared, stream, all, nullptr));
}

float wide(uint16_t bits);
uint16_t narrow(float x);

struct Case {
  const char* name;
  void (*run)();
  std::vector<const char*> environment;  // NAME=value
  int code;                              // expected; -6 = abort
  const char* says;                      // on standard error; null = nothing is looked for
};

std::vector<Case> driver_cases();
std::vector<Case> kernel_cases();
std::vector<Case> library_cases();

}  // namespace selftest
