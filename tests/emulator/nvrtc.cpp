// libnvrtc: kernel sources are compiled for the host by the system's C++ compiler. The "cubin" names the library that came of it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <unordered_map>

#include "host_compiler.h"
#include "machine.h"
#include "modules.h"

namespace emulator {
namespace {

enum Result { SUCCESS = 0, OUT_OF_MEMORY = 1, CREATION = 2, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6, INTERNAL = 11 };

const int ARCHITECTURES[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};  // of NVRTC 13.0

struct Program {
  Source source;
  std::string log, cubin, ptx;
  bool compiled = false;
};

struct Programs {
  std::mutex mutex;
  std::unordered_map<void*, std::shared_ptr<Program>> all;
};

Programs& programs() {
  static Programs* one = new Programs;
  return *one;
}

std::shared_ptr<Program> find(void* handle) {
  Programs& p = programs();
  std::lock_guard<std::mutex> lock(p.mutex);
  const auto found = p.all.find(handle);
  return found == p.all.end() ? nullptr : found->second;
}

bool starts(const std::string& text, const char* with, std::string* rest) {
  if (text.rfind(with, 0) != 0) return false;
  *rest = text.substr(strlen(with));
  return true;
}

struct Options {
  std::vector<std::string> macros;
  Token token{false, 75, false, ""};
  bool real = false;  // sm_XX, so that there is a cubin
};

bool read_architecture(const std::string& text, Options* o) {
  std::string digits;
  if (starts(text, "sm_", &digits)) o->real = true;
  else if (!starts(text, "compute_", &digits)) return false;
  char* end = nullptr;
  o->token.sm = int(strtol(digits.c_str(), &end, 10));
  o->token.exact = *end == 'a';
  if (end == digits.c_str() || (*end && *end != 'a' && *end != 'f') || (*end && end[1])) return false;
  for (int known : ARCHITECTURES)
    if (known == o->token.sm) return true;
  return false;
}

bool read_option(const std::string& option, Options* o) {
  std::string rest;
  if (starts(option, "--gpu-architecture=", &rest) || starts(option, "-arch=", &rest)) return read_architecture(rest, o);
  if (starts(option, "--std=", &rest) || starts(option, "-std=", &rest)) return rest == "c++17";
  if (starts(option, "--define-macro=", &rest) || starts(option, "-D", &rest)) {
    o->macros.push_back("-D" + rest);
    return !rest.empty();
  }
  // Nothing of what these ask for exists on the host.
  const char* idle[] = {"--fmad=true",     "--fmad=false",    "--generate-line-info",        "-lineinfo",
                        "--use_fast_math", "-use_fast_math", "--extra-device-vectorization"};
  for (const char* known : idle)
    if (option == known) return true;
  return starts(option, "--ptxas-options=", &rest) || starts(option, "--maxrregcount=", &rest);
}

Result compile(Program& p, int count, const char* const* options) {
  Options o;
  for (int i = 0; i < count; ++i)
    if (!options[i] || !read_option(options[i], &o)) {
      p.log = "nvrtc: error: invalid value or unrecognized option: " + std::string(options[i] ? options[i] : "null") + "\n";
      return INVALID_OPTION;
    }
  Compiled compiled = compile_for_host(p.source, o.macros);
  p.log = compiled.log;
  if (compiled.path.empty()) return compiled.broken ? INTERNAL : COMPILATION;
  o.token.path = compiled.path;
  p.cubin = o.real ? write_token(o.token) : "";
  o.token.ptx = true;
  p.ptx = write_token(o.token);
  p.compiled = true;
  return SUCCESS;
}

}  // namespace

std::string write_token(const Token& token) {
  return std::string(token.ptx ? "overbook emulated ptx " : "overbook emulated cubin ") + std::to_string(token.sm) + (token.exact ? "a" : "") + "\n" +
         token.path + "\n";
}

bool read_token(const char* image, Token* token) {
  const char *cubin = "overbook emulated cubin ", *ptx = "overbook emulated ptx ";
  token->ptx = strncmp(image, ptx, strlen(ptx)) == 0;
  if (!token->ptx && strncmp(image, cubin, strlen(cubin)) != 0) return false;
  char* end = nullptr;
  token->sm = int(strtol(image + strlen(token->ptx ? ptx : cubin), &end, 10));
  token->exact = *end == 'a';
  if (token->exact) ++end;
  if (*end != '\n') return false;
  const char* close = strchr(end + 1, '\n');  // a real image has a length of its own; this text ends with a line
  if (!close) return false;
  token->path = std::string(static_cast<const char*>(end) + 1, close);
  return true;
}

}  // namespace emulator

using namespace emulator;

EXPORT int nvrtcVersion(int* major, int* minor) {
  if (!major || !minor) return INVALID_INPUT;
  *major = 13;
  *minor = 0;
  return SUCCESS;
}

EXPORT const char* nvrtcGetErrorString(int result) {
  switch (result) {
    case SUCCESS: return "NVRTC_SUCCESS";
    case OUT_OF_MEMORY: return "NVRTC_ERROR_OUT_OF_MEMORY";
    case CREATION: return "NVRTC_ERROR_PROGRAM_CREATION_FAILURE";
    case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case COMPILATION: return "NVRTC_ERROR_COMPILATION";
    case INTERNAL: return "NVRTC_ERROR_INTERNAL_ERROR";
    default: return "NVRTC_ERROR unknown";
  }
}

EXPORT int nvrtcGetNumSupportedArchs(int* count) {
  if (!count) return INVALID_INPUT;
  *count = int(sizeof ARCHITECTURES / sizeof *ARCHITECTURES);
  return SUCCESS;
}

EXPORT int nvrtcGetSupportedArchs(int* all) {
  if (!all) return INVALID_INPUT;
  memcpy(all, ARCHITECTURES, sizeof ARCHITECTURES);
  return SUCCESS;
}

EXPORT int nvrtcCreateProgram(void** handle, const char* text, const char* name, int count, const char* const* headers, const char* const* names) {
  if (!handle || !text || count < 0 || (count > 0 && (!headers || !names))) return INVALID_INPUT;
  auto program = std::make_shared<Program>();
  program->source.name = name && *name ? name : "default_program";
  program->source.text = text;
  for (int i = 0; i < count; ++i) {
    if (!headers[i] || !names[i]) return INVALID_INPUT;
    program->source.headers.emplace_back(names[i], headers[i]);
  }
  Programs& p = programs();
  std::lock_guard<std::mutex> lock(p.mutex);
  p.all[program.get()] = program;
  *handle = program.get();
  return SUCCESS;
}

EXPORT int nvrtcDestroyProgram(void** handle) {
  if (!handle) return INVALID_PROGRAM;
  Programs& p = programs();
  std::lock_guard<std::mutex> lock(p.mutex);
  if (!p.all.erase(*handle)) return INVALID_PROGRAM;
  *handle = nullptr;
  return SUCCESS;
}

EXPORT int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
  const auto program = find(handle);
  if (!program) return INVALID_PROGRAM;
  if (count < 0 || (count > 0 && !options)) return INVALID_INPUT;
  return compile(*program, count, options);
}

static int size_of(void* handle, size_t* size, std::string Program::* what, bool needs_result) {
  const auto program = find(handle);
  if (!program || (needs_result && !program->compiled)) return INVALID_PROGRAM;
  if (!size) return INVALID_INPUT;
  const std::string& text = (*program).*what;
  *size = needs_result && text.empty() ? 0 : text.size() + 1;
  return SUCCESS;
}

static int copy_of(void* handle, char* to, std::string Program::* what, bool needs_result) {
  const auto program = find(handle);
  if (!program || (needs_result && ((*program).*what).empty())) return INVALID_PROGRAM;
  if (!to) return INVALID_INPUT;
  memcpy(to, ((*program).*what).c_str(), ((*program).*what).size() + 1);
  return SUCCESS;
}

EXPORT int nvrtcGetProgramLogSize(void* handle, size_t* size) { return size_of(handle, size, &Program::log, false); }
EXPORT int nvrtcGetProgramLog(void* handle, char* log) { return copy_of(handle, log, &Program::log, false); }
EXPORT int nvrtcGetCUBINSize(void* handle, size_t* size) { return size_of(handle, size, &Program::cubin, true); }
EXPORT int nvrtcGetCUBIN(void* handle, char* cubin) { return copy_of(handle, cubin, &Program::cubin, true); }
EXPORT int nvrtcGetPTXSize(void* handle, size_t* size) { return size_of(handle, size, &Program::ptx, true); }
EXPORT int nvrtcGetPTX(void* handle, char* ptx) { return copy_of(handle, ptx, &Program::ptx, true); }
