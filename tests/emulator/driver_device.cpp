// The device, its contexts and green contexts, and the names of errors.
#include "host_compiler.h"
#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace emulator {
namespace {

bool initialised = false;
unsigned primary_uses = 0;
thread_local std::vector<Context*> current;

Context& primary() {
  static Context one{false, settings().sms};
  return one;
}

struct Green {
  Context context;
};

std::set<Green*>& greens() {
  static auto* all = new std::set<Green*>;
  return *all;
}

bool live(const Context* context) {
  if (context == &primary()) return primary_uses > 0;
  for (const Green* g : greens())
    if (&g->context == context) return true;
  return false;
}

Status device(int ordinal) {
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

/// Values of CUdevice_attribute. What is not listed is 0.
int attribute(int which) {
  const int sm = settings().sm;
  switch (which) {
    case 1: return 1024;                    // MAX_THREADS_PER_BLOCK
    case 2: case 3: return 1024;            // MAX_BLOCK_DIM_X, Y
    case 4: return 64;                      // MAX_BLOCK_DIM_Z
    case 5: return 0x7FFFFFFF;              // MAX_GRID_DIM_X
    case 6: case 7: return 65535;           // MAX_GRID_DIM_Y, Z
    case 8: return 48 << 10;                // MAX_SHARED_MEMORY_PER_BLOCK
    case 9: return 64 << 10;                // TOTAL_CONSTANT_MEMORY
    case 10: return 32;                     // WARP_SIZE
    case 12: case 82: return 65536;         // MAX_REGISTERS_PER_BLOCK, _MULTIPROCESSOR
    case 13: return 1000000;                // CLOCK_RATE [kHz]
    case 16: return int(settings().sms);    // MULTIPROCESSOR_COUNT
    case 19: case 31: case 41: return 1;    // CAN_MAP_HOST_MEMORY, CONCURRENT_KERNELS, UNIFIED_ADDRESSING
    case 36: return 1000000;                // MEMORY_CLOCK_RATE [kHz]
    case 37: return 512;                    // GLOBAL_MEMORY_BUS_WIDTH [bit]
    case 38: return 4 << 20;                // L2_CACHE_SIZE
    case 39: return 2048;                   // MAX_THREADS_PER_MULTIPROCESSOR
    case 40: return 2;                      // ASYNC_ENGINE_COUNT
    case 75: return sm / 10;                // COMPUTE_CAPABILITY_MAJOR
    case 76: return sm % 10;                // COMPUTE_CAPABILITY_MINOR
    case 78: return 1;                      // STREAM_PRIORITIES_SUPPORTED
    case 81: return 228 << 10;              // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 97: return 227 << 10;              // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 106: return 32;                    // MAX_BLOCKS_PER_MULTIPROCESSOR
    case 111: return 1 << 10;               // RESERVED_SHARED_MEMORY_PER_BLOCK
    default: return 0;
  }
}

// ---- Resources of green contexts ----

enum : int { RESOURCE_INVALID = 0, RESOURCE_SM = 1 };
constexpr unsigned SM_GRAIN = 2;

struct Resource {  // CUdevResource of CUDA 13.0
  int type;
  unsigned char padding[92];
  unsigned sm_count, sm_min, sm_alignment;
  unsigned char rest[36];
};
static_assert(sizeof(Resource) == 144, "as the header lays it out");

struct Description {
  unsigned sms;
};

std::set<Description*>& descriptions() {
  static auto* all = new std::set<Description*>;
  return *all;
}

Resource sms_resource(unsigned count) {
  Resource r = {};
  r.type = count ? RESOURCE_SM : RESOURCE_INVALID;
  r.sm_count = count;
  r.sm_min = r.sm_alignment = SM_GRAIN;
  return r;
}

}  // namespace

Status current_context() {
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (current.empty() || !current.back()) return CUDA_ERROR_INVALID_CONTEXT;
  return live(current.back()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

}  // namespace emulator

using namespace emulator;

EXPORT int cuInit(unsigned flags) {
  Gate gate;
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  if (settings().sm == 0) return CUDA_ERROR_NO_DEVICE;  // a driver without a GPU
  fault("");                                            // a misspelt fault is said at once
  expect_edits();
  initialised = true;
  return CUDA_SUCCESS;
}

EXPORT int cuDriverGetVersion(int* version) {
  if (!version) return CUDA_ERROR_INVALID_VALUE;
  *version = settings().driver;
  return CUDA_SUCCESS;
}

EXPORT int cuDeviceGetCount(int* count) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (!count) return CUDA_ERROR_INVALID_VALUE;
  *count = 1;
  return CUDA_SUCCESS;
}

EXPORT int cuDeviceGet(int* handle, int ordinal) {
  Gate gate;
  if (const Status s = device(ordinal)) return s;
  if (!handle) return CUDA_ERROR_INVALID_VALUE;
  *handle = 0;
  return CUDA_SUCCESS;
}

EXPORT int cuDeviceGetName(char* name, int length, int handle) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!name || length <= 0) return CUDA_ERROR_INVALID_VALUE;
  snprintf(name, size_t(length), "Emulated GPU");
  return CUDA_SUCCESS;
}

EXPORT int cuDeviceGetAttribute(int* value, int which, int handle) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!value || which <= 0) return CUDA_ERROR_INVALID_VALUE;
  *value = attribute(which);
  return CUDA_SUCCESS;
}

EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int handle) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  *bytes = settings().memory;
  return CUDA_SUCCESS;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char* uuid, int handle) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!uuid) return CUDA_ERROR_INVALID_VALUE;
  memcpy(uuid, "emulated gpu 000", 16);
  return CUDA_SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRetain(Context** context, int handle) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!context) return CUDA_ERROR_INVALID_VALUE;
  ++primary_uses;
  *context = &primary();
  return CUDA_SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int handle) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (primary_uses == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (primary_uses == 1) run_all();
  --primary_uses;
  return CUDA_SUCCESS;
}

EXPORT int cuCtxSetCurrent(Context* context) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (context && !live(context)) return CUDA_ERROR_INVALID_CONTEXT;
  if (current.empty()) current.push_back(context);
  else current.back() = context;
  return CUDA_SUCCESS;
}

EXPORT int cuCtxGetCurrent(Context** context) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (!context) return CUDA_ERROR_INVALID_VALUE;
  *context = current.empty() ? nullptr : current.back();
  return CUDA_SUCCESS;
}

EXPORT int cuCtxPushCurrent_v2(Context* context) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (!context || !live(context)) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(context);
  return CUDA_SUCCESS;
}

EXPORT int cuCtxPopCurrent_v2(Context** context) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (current.empty() || !current.back()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

EXPORT int cuCtxSynchronize() {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (fault("early-event", true)) return CUDA_SUCCESS;
  run_all();
  return CUDA_SUCCESS;
}

EXPORT int cuGetErrorName(int error, const char** text) {
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  switch (error) {
#define X(name, number, words) \
  case number: *text = #name; return CUDA_SUCCESS;
    OVERBOOK_STATUSES(X)
#undef X
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

EXPORT int cuGetErrorString(int error, const char** text) {
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  switch (error) {
#define X(name, number, words) \
  case number: *text = words; return CUDA_SUCCESS;
    OVERBOOK_STATUSES(X)
#undef X
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

// ---- Green contexts: all on the one device, each with its count of SMs ----

EXPORT int cuDeviceGetDevResource(int handle, Resource* resource, int type) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!resource) return CUDA_ERROR_INVALID_VALUE;
  if (type != RESOURCE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  *resource = sms_resource(settings().sms);
  return CUDA_SUCCESS;
}

EXPORT int cuDevSmResourceSplitByCount(Resource* result, unsigned* groups, const Resource* input, Resource* remaining, unsigned flags, unsigned min_count) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (!groups || !input || flags > 3) return CUDA_ERROR_INVALID_VALUE;
  if (input->type != RESOURCE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  const unsigned size = (std::max(min_count, SM_GRAIN) + SM_GRAIN - 1) / SM_GRAIN * SM_GRAIN;
  if (size > input->sm_count) return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
  const unsigned most = input->sm_count / size;
  if (!result) {
    *groups = most;
    return CUDA_SUCCESS;
  }
  const unsigned total = input->sm_count;
  *groups = std::min(*groups, most);
  for (unsigned i = 0; i < *groups; ++i) result[i] = sms_resource(size);
  if (remaining) *remaining = sms_resource(total - *groups * size);
  return CUDA_SUCCESS;
}

EXPORT int cuDevResourceGenerateDesc(Description** description, const Resource* resources, unsigned count) {
  Gate gate;
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (!description || !resources || count == 0) return CUDA_ERROR_INVALID_VALUE;
  unsigned sms = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (resources[i].type != RESOURCE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    sms += resources[i].sm_count;
  }
  *description = new Description{sms};
  descriptions().insert(*description);
  return CUDA_SUCCESS;
}

EXPORT int cuGreenCtxCreate(Green** green, Description* description, int handle, unsigned flags) {
  Gate gate;
  if (const Status s = device(handle)) return s;
  if (!green || flags != 1 || !descriptions().count(description)) return CUDA_ERROR_INVALID_VALUE;  // 1: CU_GREEN_CTX_DEFAULT_STREAM, required
  *green = new Green{{true, description->sms}};
  greens().insert(*green);
  return CUDA_SUCCESS;
}

EXPORT int cuGreenCtxDestroy(Green* green) {
  Gate gate;
  if (!greens().count(green)) return CUDA_ERROR_INVALID_CONTEXT;
  run_all();
  greens().erase(green);
  delete green;
  return CUDA_SUCCESS;
}

EXPORT int cuGreenCtxStreamCreate(void** stream, Green* green, unsigned flags, int) {
  Gate gate;
  if (!greens().count(green)) return CUDA_ERROR_INVALID_CONTEXT;
  if (!stream || flags != 1) return CUDA_ERROR_INVALID_VALUE;  // 1: CU_STREAM_NON_BLOCKING, required
  *stream = add_stream(false).get();
  return CUDA_SUCCESS;
}

EXPORT int cuCtxFromGreenCtx(Context** context, Green* green) {
  Gate gate;
  if (!greens().count(green)) return CUDA_ERROR_INVALID_CONTEXT;
  if (!context) return CUDA_ERROR_INVALID_VALUE;
  *context = &green->context;
  return CUDA_SUCCESS;
}
