// Runs the system's C++ compiler on a kernel source, with a table of its kernels appended.
#include "host_compiler.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "machine.h"

extern char** environ;

namespace emulator {
namespace {

namespace fs = std::filesystem;

struct Edit {
  std::string find, replace;
  std::atomic<unsigned> matches{0};
};

/// OVERBOOK_EMULATOR_EDIT: find=>replace, several separated by ";;". One that never matches is an error at the end.
std::vector<std::unique_ptr<Edit>>& edits() {
  static auto* all = [] {
    auto* list = new std::vector<std::unique_ptr<Edit>>;
    const char* value = getenv("OVERBOOK_EMULATOR_EDIT");
    std::string text = value ? value : "";
    while (!text.empty()) {
      const size_t end = text.find(";;");
      const std::string one = text.substr(0, end);
      text = end == std::string::npos ? "" : text.substr(end + 2);
      const size_t arrow = one.find("=>");
      if (arrow == std::string::npos || arrow == 0) abandon("OVERBOOK_EMULATOR_EDIT: %s: not find=>replace", one.c_str());
      auto edit = std::make_unique<Edit>();
      edit->find = one.substr(0, arrow);
      edit->replace = one.substr(arrow + 2);
      list->push_back(std::move(edit));
    }
    for (auto& edit : *list)
      complain_at_exit([e = edit.get()] { return e->matches ? std::string() : "the edit of `" + e->find + "` matched no source"; });
    return list;
  }();
  return *all;
}

void apply_edits(std::string* text) {
  for (auto& edit : edits())
    for (size_t at = text->find(edit->find); at != std::string::npos; at = text->find(edit->find, at + edit->replace.size())) {
      text->replace(at, edit->find.size(), edit->replace);
      ++edit->matches;
    }
}

struct Found {
  std::string name, bounds;
};

/// extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(
std::vector<Found> find_kernels(const std::string& text) {
  const std::string start = "extern \"C\" __global__ void ", bounds = "__launch_bounds__(";
  std::vector<Found> all;
  for (size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
    size_t i = at + start.size();
    Found found;
    if (text.compare(i, bounds.size(), bounds) == 0) {
      const size_t close = text.find(')', i);
      if (close == std::string::npos || text.compare(close, 2, ") ") != 0) continue;
      found.bounds = text.substr(i + bounds.size(), close - i - bounds.size());
      i = close + 2;
    }
    const size_t begin = i;
    while (i < text.size() && (isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_')) ++i;
    if (i == begin || i >= text.size() || text[i] != '(') continue;
    found.name = text.substr(begin, i - begin);
    all.push_back(found);
  }
  return all;
}

/// The source as the host's compiler gets it: with the table that driver_modules.cpp reads.
std::string with_table(const Source& source) {
  std::ostringstream out;
  out << "#include \"device.h\"\n#include \"launch.h\"\n#line 1 \"" << source.name << "\"\n" << source.text;
  out << "\n#line 1 \"table of kernels\"\n#define OVERBOOK_VISIBLE extern \"C\" __attribute__((visibility(\"default\")))\n";
  out << "OVERBOOK_VISIBLE void overbook_emulator_run(const emulator::Launch* launch) { emulator::run(*launch); }\n";
  out << "extern \"C\" { extern __attribute__((visibility(\"default\"))) const emulator::Kernel overbook_emulator_kernels[]; }\n";
  out << "const emulator::Kernel overbook_emulator_kernels[] = {\n";
  for (const Found& k : find_kernels(source.text)) {
    const std::string signature = "decltype(emulator::signature(&" + k.name + "))";
    out << "  {\"" << k.name << "\", emulator::first_of(" << k.bounds << "), " << signature << "::COUNT, " << signature << "::parameters(), "
        << "[](const void* buffer) { emulator::call_from(&" << k.name << ", buffer); }},\n";
  }
  out << "  {nullptr, 0, 0, nullptr, nullptr}};\n";
  return out.str();
}

struct Hash {
  uint64_t a = 0xCBF29CE484222325ull, b = 0x9AE16A3B2F90404Full;
  void add(const std::string& text) {
    for (const char c : std::to_string(text.size()) + ":" + text) {
      a = (a ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
      b = (b + static_cast<unsigned char>(c)) * 0x9E3779B97F4A7C15ull;
      b ^= b >> 29;
    }
  }
  std::string hex() const {
    char text[40];
    snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
    return text;
  }
};

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

bool write_file(const fs::path& path, const std::string& text) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  return bool(out);
}

fs::path cache_folder() {
  if (!settings().cache.empty()) return settings().cache;
  return fs::temp_directory_path() / ("overbook-emulator-" + std::to_string(getuid()));
}

/// Runs the compiler in `folder`; what it says goes to `folder`/log. The exit code, or -1 if it did not start.
int run_compiler(const fs::path& folder, const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 1, (folder / "log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const char* const FLAGS[] = {"-std=c++17", "-O2", "-fno-strict-aliasing", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden",
                             "-fno-gnu-unique", "-fno-exceptions", "-fstack-clash-protection", "-ftrivial-auto-var-init=pattern", "-w",
                             "-DOVERBOOK_EMULATED"};

Compiled broken(const std::string& why) { return Compiled{"", "emulator: " + why + "\n", true}; }

}  // namespace

void expect_edits() { edits(); }

Compiled compile_for_host(Source source, const std::vector<std::string>& macros) {
  const Settings& set = settings();
  if (set.source.empty()) return broken("OVERBOOK_EMULATOR_SOURCE must name the folder of device.h");
  apply_edits(&source.text);
  for (auto& [name, text] : source.headers) apply_edits(&text);
  const std::string text = with_table(source);

  Hash hash;
  hash.add(set.compiler);
  for (const char* flag : FLAGS) hash.add(flag);
  for (const std::string& m : macros) hash.add(m);
  hash.add(set.races ? "races" : "");
  hash.add(text);
  for (const auto& [name, header] : source.headers) hash.add(name), hash.add(header);
  for (const char* own : {"device.h", "fibers.h", "launch.h", "races.h"}) hash.add(read_file(fs::path(set.source) / own));

  const fs::path library = cache_folder() / (hash.hex() + ".so");
  std::error_code error;
  if (fs::exists(library, error)) return Compiled{library, "", false};

  static std::atomic<unsigned> count{0};
  const fs::path folder = cache_folder() / (hash.hex() + "." + std::to_string(getpid()) + "." + std::to_string(++count));
  for (const auto& [name, header] : source.headers)
    if (!write_file(folder / name, "#line 1 \"" + name + "\"\n" + header)) return broken("cannot write to " + folder.string());
  if (!write_file(folder / "source.cpp", text)) return broken("cannot write to " + folder.string());

  std::vector<std::string> words = {set.compiler};
  words.insert(words.end(), std::begin(FLAGS), std::end(FLAGS));
  words.insert(words.end(), macros.begin(), macros.end());
  if (set.races) words.push_back("-fsanitize=thread");
  const std::string object = (folder / "out.o").string(), output = (folder / "out.so").string();
  for (const std::string& w : {"-I" + folder.string(), "-I" + set.source, std::string("-c"), std::string("-o"), object, (folder / "source.cpp").string()})
    words.push_back(w);
  int code = run_compiler(folder, words);
  // Linked in a second step without the sanitizer: races.h stands in for its library.
  if (code == 0) code = run_compiler(folder, {set.compiler, "-shared", "-Wl,--no-undefined", "-o", output, object});
  Compiled result;
  result.log = read_file(folder / "log");
  if (code == 0) fs::rename(output, library, error);
  fs::remove_all(folder, error);
  if (code < 0) return broken("cannot run " + set.compiler);
  if (code == 0) result.path = library;
  return result;
}

}  // namespace emulator
