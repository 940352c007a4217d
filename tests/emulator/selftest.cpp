// Proves the emulator: `selftest FOLDER` runs every case in a process of its own, `selftest FOLDER case` one of them. FOLDER holds the libraries.
#include "selftest.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace selftest {

#define X(name, ...) At<__VA_ARGS__> name;
SELFTEST_FUNCTIONS(X)
#undef X

void fail(const char* file, int line, const std::string& what) {
  fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  _exit(1);
}

static void load(const std::string& folder) {
  struct Name {
    const char* prefix;
    const char* file;
  };
  const Name names[] = {{"cublasLt", "libcublasLt.so"}, {"nvrtc", "libnvrtc.so"}, {"nvml", "libnvidia-ml.so.1"}, {"cu", "libcuda.so"}};
  const auto find = [&](const char* symbol) -> void* {
    for (const Name& n : names) {
      if (strncmp(symbol, n.prefix, strlen(n.prefix)) != 0) continue;
      void* library = dlopen((folder + "/" + n.file).c_str(), RTLD_NOW);
      if (!library) fail(__FILE__, __LINE__, dlerror());
      if (void* at = dlsym(library, symbol)) return at;
      fail(__FILE__, __LINE__, std::string(symbol) + " is not exported");
    }
    return nullptr;
  };
#define X(name, ...) name = reinterpret_cast<At<__VA_ARGS__>>(find(#name));
  SELFTEST_FUNCTIONS(X)
#undef X
}

void start() {
  OK(cuInit(0));
  Opaque context = nullptr;
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  OK(cuCtxSetCurrent(context));
}

Opaque new_stream() {
  Opaque s = nullptr;
  OK(cuStreamCreate(&s, 1));
  return s;
}

Opaque new_event() {
  Opaque e = nullptr;
  OK(cuEventCreate(&e, 0));
  return e;
}

Pointer device_memory(size_t bytes) {
  Pointer p = 0;
  OK(cuMemAlloc_v2(&p, bytes));
  return p;
}

float wide(uint16_t bits) {
  const uint32_t word = uint32_t(bits) << 16;
  float x;
  memcpy(&x, &word, 4);
  return x;
}

uint16_t narrow(float x) {
  uint32_t word;
  memcpy(&word, &x, 4);
  return uint16_t((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}

std::string compile(const char* text, std::vector<const char*> options, int* result, std::string* log) {
  Opaque program = nullptr;
  const char* header = "#include \"device.h\"\n";
  const char* name = "prelude.cuh";
  OK(nvrtcCreateProgram(&program, text, "selftest.cu", 1, &header, &name));
  *result = nvrtcCompileProgram(program, int(options.size()), options.data());
  size_t size = 0;
  OK(nvrtcGetProgramLogSize(program, &size));
  log->resize(size);
  OK(nvrtcGetProgramLog(program, &(*log)[0]));
  std::string cubin;
  if (*result == 0) {
    OK(nvrtcGetCUBINSize(program, &size));
    cubin.resize(size);
    OK(nvrtcGetCUBIN(program, &cubin[0]));
  }
  OK(nvrtcDestroyProgram(&program));
  return cubin;
}

Opaque kernel(const char* name) {
  static Opaque module = [] {
    int result = 0;
    std::string log;
    const std::string cubin = compile(KERNELS, {"--gpu-architecture=sm_90", "--std=c++17", "-DSTEP=16"}, &result, &log);
    if (result) fail(__FILE__, __LINE__, log);
    Opaque loaded = nullptr;
    OK(cuModuleLoadData(&loaded, cubin.data()));
    return loaded;
  }();
  Opaque function = nullptr;
  OK(cuModuleGetFunction(&function, module, name));
  return function;
}

static std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const auto& part : {driver_cases(), kernel_cases(), library_cases()}) all.insert(all.end(), part.begin(), part.end());
  return all;
}

static std::string read_all(int from) {
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
  return text;
}

/// Runs one case in a child; an empty string, or what is wrong.
static std::string run_child(const char* self, const char* folder, const Case& c, const std::string& seed) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    putenv(const_cast<char*>(seed.c_str()));
    for (const char* e : c.environment) putenv(const_cast<char*>(e));
    execl(self, self, folder, c.name, static_cast<char*>(nullptr));
    _exit(126);
  }
  close(ends[1]);
  const std::string said = read_all(ends[0]);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  if (code != c.code) return "ended with " + std::to_string(code) + ", not " + std::to_string(c.code) + "\n" + said;
  if (c.says && said.find(c.says) == std::string::npos) return std::string("did not say `") + c.says + "` but\n" + said;
  return "";
}

}  // namespace selftest

int main(int count, char** words) {
  using namespace selftest;
  if (count < 2) return fprintf(stderr, "selftest FOLDER [case]\n"), 2;
  if (count > 2) {
    load(words[1]);
    for (const Case& c : all_cases())
      if (strcmp(c.name, words[2]) == 0) return c.run(), 0;
    return fprintf(stderr, "no case %s\n", words[2]), 2;
  }
  unsigned failed = 0, run = 0;
  for (const Case& c : all_cases())
    for (const char* seed : {"OVERBOOK_EMULATOR_SEED=1", "OVERBOOK_EMULATOR_SEED=2", "OVERBOOK_EMULATOR_SEED=3"}) {
      ++run;
      const std::string wrong = run_child(words[0], words[1], c, seed);
      if (wrong.empty()) continue;
      ++failed;
      fprintf(stderr, "%s (%s): %s\n", c.name, seed, wrong.c_str());
    }
  printf("%u of %u runs of the emulator's cases failed\n", failed, run);
  return failed ? 1 : 0;
}
