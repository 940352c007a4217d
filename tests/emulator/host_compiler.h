// Kernel sources to a library of the host.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace emulator {

struct Source {
  std::string name, text;
  std::vector<std::pair<std::string, std::string>> headers;  // name, text
};

struct Compiled {
  std::string path;     // empty if it failed
  std::string log;      // what the compiler said
  bool broken = false;  // the failure is not the source's
};

/// Reads OVERBOOK_EMULATOR_EDIT, so that an edit is missed also by a program that compiles nothing.
void expect_edits();

/// Applies OVERBOOK_EMULATOR_EDIT, compiles, and keeps the result in OVERBOOK_EMULATOR_CACHE by the hash of all that went in. Any thread may call it.
Compiled compile_for_host(Source source, const std::vector<std::string>& macros);

}  // namespace emulator
