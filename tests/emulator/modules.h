// What the NVRTC stand-in hands out as a cubin: a text that names the library which it compiled.
#pragma once
#include <string>

namespace emulator {

struct Token {
  bool ptx;
  int sm;        // 90 of sm_90a
  bool exact;    // the a of sm_90a: runs on that one only
  std::string path;

  /// As drivers do: a cubin runs on its own major version from its minor on, PTX on everything newer.
  bool runs_on(int device) const {
    if (exact) return device == sm;
    return ptx ? device >= sm : device / 10 == sm / 10 && device >= sm;
  }
};

std::string write_token(const Token& token);
bool read_token(const char* image, Token* token);

}  // namespace emulator
