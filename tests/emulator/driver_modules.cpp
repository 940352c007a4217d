// Modules that the NVRTC stand-in compiled, their kernels, and launches.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "launch.h"
#include "machine.h"
#include "modules.h"

namespace emulator {
namespace {

// What a kernel declares for itself counts against both of the limits; how much that is, is not known here: a kilobyte is more.
constexpr unsigned SHARED_OPT_IN = 226 << 10, SHARED_DEFAULT = 47 << 10;

struct Module;

struct Function {
  Module* module;
  const Kernel* kernel;
  unsigned dynamic_max = SHARED_DEFAULT;
  unsigned argument_bytes = 0;
};

struct Module {
  void* library;
  void (*run)(const Launch*);
  std::map<std::string, std::shared_ptr<Function>> functions;
};

struct Modules {
  std::unordered_map<void*, std::shared_ptr<Module>> modules;
  std::unordered_map<void*, std::shared_ptr<Function>> functions;  // of all of them
};

Modules& modules() {
  static Modules* one = new Modules;
  return *one;
}

std::shared_ptr<Function> find_function(void* handle) {
  const auto found = modules().functions.find(handle);
  return found == modules().functions.end() ? nullptr : found->second;
}

Status load(void** handle, const char* image) {
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (!handle || !image) return CUDA_ERROR_INVALID_VALUE;
  Token token;
  if (!read_token(image, &token)) return CUDA_ERROR_INVALID_IMAGE;
  if (!token.runs_on(settings().sm)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  auto module = std::make_shared<Module>();
  module->library = dlopen(token.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module->library) {
    fprintf(stderr, "emulator: %s\n", dlerror());
    return CUDA_ERROR_INVALID_IMAGE;
  }
  module->run = reinterpret_cast<void (*)(const Launch*)>(dlsym(module->library, "overbook_emulator_run"));
  const auto* kernel = static_cast<const Kernel*>(dlsym(module->library, "overbook_emulator_kernels"));
  if (!module->run || !kernel) return CUDA_ERROR_INVALID_IMAGE;
  for (; kernel->name; ++kernel) {
    auto function = std::make_shared<Function>();
    function->module = module.get();
    function->kernel = kernel;
    if (kernel->parameters) {
      const Parameter& last = kernel->parameter[kernel->parameters - 1];
      function->argument_bytes = last.offset + last.size;
    }
    module->functions[kernel->name] = function;
    modules().functions[function.get()] = function;
  }
  modules().modules[module.get()] = module;
  *handle = module.get();
  return CUDA_SUCCESS;
}

struct KernelLaunch : Action {
  void (*run_launch)(const Launch*);
  const Kernel* kernel;
  Launch launch;
  std::vector<unsigned char> arguments;

  Address pointer_of(unsigned i) const {
    Address at;
    memcpy(&at, arguments.data() + kernel->parameter[i].offset, sizeof at);
    return at;
  }

  /// A pointer that leads nowhere is wrong even if this launch would not follow it.
  void check_pointers() const {
    for (unsigned i = 0; i < kernel->parameters; ++i) {
      if (!kernel->parameter[i].pointer) continue;
      const Address at = pointer_of(i);
      if (!at || lies_in(Home::Device, at, 0) || lies_in(Home::Pinned, at, 0)) continue;
      char whose[256] = "no allocation";
      describe_address(reinterpret_cast<void*>(at), whose, sizeof whose);
      abandon("kernel %s: argument %u is %p: %s", kernel->name, i, reinterpret_cast<void*>(at), whose);
    }
  }

  template <class Visit>
  void visit_pinned(Visit visit) const {
    for (unsigned i = 0; i < kernel->parameters; ++i)
      if (kernel->parameter[i].pointer)
        if (const Extent e = extent_of(Home::Pinned, pointer_of(i)); e.bytes) visit(e);
  }

  void enqueued() override { visit_pinned(add_host_reader); }

  void run() override {
    if (settings().null) return;
    visit_pinned(remove_host_reader);
    check_pointers();
    Launch now = launch;
    now.seed = random_bits();
    now.arguments = arguments.data();
    run_launch(&now);
    check_slack(kernel->name);
  }
};

Status check_shape(const Function& f, Index grid, Index block, unsigned shared_bytes) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) return CUDA_ERROR_INVALID_VALUE;
  if (f.kernel->threads_max && threads > unsigned(f.kernel->threads_max)) return CUDA_ERROR_INVALID_VALUE;
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535) return CUDA_ERROR_INVALID_VALUE;
  return shared_bytes > f.dynamic_max ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

int function_attribute(const Function& f, int which) {
  switch (which) {
    case 0: return f.kernel->threads_max ? f.kernel->threads_max : 1024;  // MAX_THREADS_PER_BLOCK
    case 4: return 64;                                                    // NUM_REGS
    case 5: case 6: return settings().sm;                                 // PTX_VERSION, BINARY_VERSION
    case 8: return int(f.dynamic_max);                                    // MAX_DYNAMIC_SHARED_SIZE_BYTES
    case 9: return -1;                                                    // PREFERRED_SHARED_MEMORY_CARVEOUT
    default: return 0;
  }
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int cuModuleLoadData(void** module, const void* image) {
  Gate gate;
  return load(module, static_cast<const char*>(image));
}

EXPORT int cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void**) {
  Gate gate;
  return load(module, static_cast<const char*>(image));
}

EXPORT int cuModuleUnload(void* handle) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  const auto found = modules().modules.find(handle);
  if (found == modules().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  run_all();
  for (const auto& [name, function] : found->second->functions) modules().functions.erase(function.get());
  modules().modules.erase(handle);  // graphs may still hold it, and the code stays loaded
  return CUDA_SUCCESS;
}

EXPORT int cuModuleGetFunction(void** function, void* handle, const char* name) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto found = modules().modules.find(handle);
  if (found == modules().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (!function || !name) return CUDA_ERROR_INVALID_VALUE;
  const auto kernel = found->second->functions.find(name);
  if (kernel == found->second->functions.end()) return CUDA_ERROR_NOT_FOUND;
  *function = kernel->second.get();
  return CUDA_SUCCESS;
}

EXPORT int cuFuncSetAttribute(void* handle, int which, int value) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  if (which == 9) return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  if (which != 8 || value < 0 || unsigned(value) > SHARED_OPT_IN) return CUDA_ERROR_INVALID_VALUE;
  function->dynamic_max = unsigned(value);
  return CUDA_SUCCESS;
}

EXPORT int cuFuncGetAttribute(int* value, int which, void* handle) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  if (!value || which < 0) return CUDA_ERROR_INVALID_VALUE;
  *value = function_attribute(*function, which);
  return CUDA_SUCCESS;
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int threads, size_t shared_bytes) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  if (!blocks || threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  const bool fits = threads <= function_attribute(*function, 0) && shared_bytes <= function->dynamic_max;
  *blocks = fits ? int(std::min<size_t>({32, 2048u / unsigned(threads), (228u << 10) / (shared_bytes + 1024)})) : 0;
  return CUDA_SUCCESS;
}

EXPORT int cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                          unsigned shared_bytes, void* stream_handle, void** arguments, void** extra) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  const auto stream = find_stream(stream_handle);
  if (!stream) return stream_handle ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_NOT_SUPPORTED;
  const Kernel& kernel = *function->kernel;
  if (extra || (kernel.parameters && !arguments)) return CUDA_ERROR_INVALID_VALUE;
  auto action = std::make_shared<KernelLaunch>();
  action->launch = Launch{kernel.name, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, 0, kernel.call, nullptr, describe_address};
  if (const Status s = check_shape(*function, action->launch.grid, action->launch.block, shared_bytes)) return s;
  action->run_launch = function->module->run;
  action->kernel = &kernel;
  action->arguments.resize(function->argument_bytes + 8);
  for (unsigned i = 0; i < kernel.parameters; ++i) {
    if (!arguments[i]) return CUDA_ERROR_INVALID_VALUE;
    memcpy(action->arguments.data() + kernel.parameter[i].offset, arguments[i], kernel.parameter[i].size);
  }
  if (fault("lost-launch")) return CUDA_SUCCESS;
  return enqueue(*stream, action);
}
