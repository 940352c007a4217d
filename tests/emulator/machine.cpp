// Settings from the environment, chance, the clock, planted faults, and the end of the process.
#include "machine.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace emulator {

static std::string text_of(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value && *value ? value : otherwise;
}

static uint64_t number_of(const char* name, uint64_t otherwise) {
  const char* value = getenv(name);
  return value && *value ? strtoull(value, nullptr, 10) : otherwise;
}

#if !defined(OVERBOOK_EMULATOR_SOURCE_DEFAULT)
#define OVERBOOK_EMULATOR_SOURCE_DEFAULT ""
#endif

static Settings read_settings() {
  Settings s;
  s.seed = number_of("OVERBOOK_EMULATOR_SEED", 1);
  s.memory = size_t(number_of("OVERBOOK_EMULATOR_MEMORY", 512ull << 20));
  s.leaks = number_of("OVERBOOK_EMULATOR_LEAKS", 0) != 0;
  s.races = number_of("OVERBOOK_EMULATOR_RACES", 0) != 0;
  s.null = number_of("OVERBOOK_EMULATOR_NULL", 0) != 0;
  s.sm = int(number_of("OVERBOOK_EMULATOR_SM", 90));
  s.driver = int(number_of("OVERBOOK_EMULATOR_DRIVER", 13000));
  s.sms = unsigned(number_of("OVERBOOK_EMULATOR_SMS", 8));
  s.cache = text_of("OVERBOOK_EMULATOR_CACHE", "");
  s.source = text_of("OVERBOOK_EMULATOR_SOURCE", OVERBOOK_EMULATOR_SOURCE_DEFAULT);
  s.compiler = text_of("OVERBOOK_EMULATOR_CXX", "c++");
  return s;
}

const Settings& settings() {
  static const Settings all = read_settings();
  return all;
}

static std::mutex& mutex() {
  static std::mutex* one = new std::mutex;  // outlives all that runs at exit
  return *one;
}

Gate::Gate() { mutex().lock(); }
Gate::~Gate() { mutex().unlock(); }

uint64_t random_bits() {  // SplitMix64
  static uint64_t state = settings().seed * 0xD1342543DE82EF95ull + 0x2545F4914F6CDD1Dull;
  uint64_t z = (state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

unsigned random_under(unsigned n) { return unsigned((random_bits() >> 32) * n >> 32); }

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

void abandon(const char* format, ...) {
  char text[1024];
  va_list parts;
  va_start(parts, format);
  vsnprintf(text, sizeof text, format, parts);
  va_end(parts);
  dprintf(2, "emulator: %s\n", text);
  abort();
}

static std::vector<std::function<std::string()>>& complaints() {
  static auto* all = new std::vector<std::function<std::string()>>;
  return *all;
}

static void at_exit() {
  bool any = false;
  for (const auto& complaint : complaints()) {
    const std::string text = complaint();
    if (text.empty()) continue;
    dprintf(2, "emulator: %s\n", text.c_str());
    any = true;
  }
  if (!any) return;
  fflush(nullptr);
  _exit(97);
}

void complain_at_exit(std::function<std::string()> complaint) {
  static std::mutex* one_at_a_time = new std::mutex;
  std::lock_guard<std::mutex> lock(*one_at_a_time);
  if (complaints().empty()) atexit(at_exit);
  complaints().push_back(std::move(complaint));
}

struct PlantedFault {
  std::string kind;
  uint64_t at = 0, seen = 0;
  bool onwards = false;
};

static PlantedFault* planted() {
  static PlantedFault* one = [] {
    PlantedFault* f = new PlantedFault;
    const std::string text = text_of("OVERBOOK_EMULATOR_FAULT", "");
    if (text.empty()) return f;
    const size_t colon = text.find(':');
    f->kind = text.substr(0, colon);
    char* end = nullptr;
    f->at = colon == std::string::npos ? 0 : strtoull(text.c_str() + colon + 1, &end, 10);
    f->onwards = end && *end == '+';
    const char* kinds[] = {"drop-wait", "early-event", "short-copy", "lost-launch"};
    bool known = false;
    for (const char* kind : kinds) known |= f->kind == kind;
    if (!known || f->at == 0) abandon("OVERBOOK_EMULATOR_FAULT=%s: not a fault", text.c_str());
    complain_at_exit([f] {
      return f->seen >= f->at ? std::string() : "the planted fault " + f->kind + " never happened: only " + std::to_string(f->seen) + " such calls";
    });
    return f;
  }();
  return one;
}

bool fault(const char* kind, bool onwards) {
  PlantedFault& f = *planted();
  if (f.kind != kind) return false;
  ++f.seen;
  return onwards || f.onwards ? f.seen >= f.at : f.seen == f.at;
}

bool fault_lasts(const char* kind) { return planted()->kind == kind && planted()->seen >= planted()->at; }

}  // namespace emulator
