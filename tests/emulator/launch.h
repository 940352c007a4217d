// Starting a kernel: directly, or from a buffer of arguments that was filled when the launch was enqueued.
#pragma once
#include <type_traits>
#include <utility>

#include "fibers.h"

namespace emulator {

/// One parameter of a kernel, as the driver needs it to copy an argument.
struct Parameter {
  unsigned offset, size;
  bool pointer;
};

/// What the driver learns of a kernel when its module is loaded.
struct Kernel {
  const char* name;
  int threads_max;  // of __launch_bounds__; 0 = not stated
  unsigned parameters;
  const Parameter* parameter;
  void (*call)(const void* buffer);
};

template <unsigned COUNT>
struct Places {
  Parameter all[COUNT + 1];
};

template <class... P>
constexpr Places<sizeof...(P)> places_of() {
  Places<sizeof...(P)> p = {{Parameter{0, sizeof(P), std::is_pointer<P>::value}...}};
  for (unsigned i = 1; i < sizeof...(P); ++i) {
    const unsigned end = p.all[i - 1].offset + p.all[i - 1].size;
    p.all[i].offset = (end + p.all[i].size - 1) / p.all[i].size * p.all[i].size;
  }
  return p;
}

template <class... P>
inline constexpr Places<sizeof...(P)> PLACES = places_of<P...>();

/// A kernel's parameters in one buffer, each at its natural alignment, and the call with them.
template <class... P>
struct Signature {
  static constexpr unsigned COUNT = sizeof...(P);
  static constexpr const Parameter* parameters() { return PLACES<P...>.all; }

  template <class T>
  static T read(const void* buffer, unsigned at) {
    T value;
    memcpy(&value, static_cast<const char*>(buffer) + at, sizeof value);
    return value;
  }
  template <size_t... I>
  static void spread(void (*kernel)(P...), const void* buffer, std::index_sequence<I...>) {
    (void)buffer;
    kernel(read<P>(buffer, PLACES<P...>.all[I].offset)...);
  }
};

template <class... P>
constexpr Signature<P...> signature(void (*)(P...)) {
  return {};
}

template <class... P>
void call_from(void (*kernel)(P...), const void* buffer) {
  Signature<P...>::spread(kernel, buffer, std::index_sequence_for<P...>());
}

constexpr int first_of(int first = 0, ...) { return first; }

template <class T>
struct Same {
  typedef T type;
};

/// Runs a kernel now: launch("name", grid, block, shared_bytes, kernel, arguments...). `Size` has x, y, z (dim3). OVERBOOK_EMULATOR_SEED and the
/// count of launches choose the order of blocks and threads.
template <class Size, class... P>
void launch(const char* name, Size grid, Size block, unsigned shared_bytes, void (*kernel)(P...), typename Same<P>::type... values) {
  static unsigned long long launches = 0;
  auto body = [&] { kernel(values...); };
  Launch l = {};
  l.kernel = name;
  l.grid = Index{grid.x, grid.y, grid.z};
  l.block = Index{block.x, block.y, block.z};
  l.shared_bytes = shared_bytes;
  l.seed = seed_from_environment() * 0x100000001B3ull + ++launches;
  l.call = [](const void* at) { (*static_cast<const decltype(body)*>(at))(); };
  l.arguments = &body;
  run(l);
}

}  // namespace emulator
