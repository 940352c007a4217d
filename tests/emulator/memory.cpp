// Device and pinned memory. Each allocation ends as near a page that cannot be touched as its alignment allows. Fresh memory is poison, freed memory is
// never used again.
#include "machine.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>

namespace emulator {
namespace {

constexpr size_t PAGE = 4096, ALIGNMENT = 256, GRAIN = 512;
constexpr size_t TAKEN_BY_CONTEXT = 16u << 20;
constexpr unsigned char POISON = 0xFF;

struct Allocation {
  Home home;
  unsigned number;  // of its home, from 1
  size_t bytes, mapped;
  Address pages;  // the first that may be touched
  bool live;
};

struct Memory {
  std::map<Address, Allocation> all;  // by start, freed ones too
  size_t device_bytes = 0;
  unsigned device_count = 0, pinned_count = 0;
  std::vector<Extent> host_readers;
};

Memory& memory() {
  static Memory* one = [] {
    Memory* m = new Memory;
    if (settings().leaks)
      complain_at_exit([m] {
        std::string text;
        for (const auto& [at, a] : m->all)
          if (a.live)
            text += std::string(text.empty() ? "" : "\n") + "leak: " + (a.home == Home::Device ? "device" : "pinned") + " allocation " +
                    std::to_string(a.number) + " of " + std::to_string(a.bytes) + " bytes";
        return text;
      });
    return m;
  }();
  return *one;
}

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

/// The allocation that starts at or below an address.
std::map<Address, Allocation>::iterator below(Address at) {
  auto& all = memory().all;
  auto next = all.upper_bound(at);
  return next == all.begin() ? all.end() : std::prev(next);
}

void check_bytes(const unsigned char* from, const unsigned char* to, Address start, const Allocation& a, const char* after) {
  for (const unsigned char* p = from; p < to; ++p)
    if (*p != POISON)
      abandon("%s: wrote %lld bytes from the start of %s allocation %u of %zu bytes, outside of it", after,
              static_cast<long long>(p - reinterpret_cast<const unsigned char*>(start)), a.home == Home::Device ? "device" : "pinned", a.number, a.bytes);
}

void check_end(Address start, const Allocation& a, const char* after) {
  const auto* at = reinterpret_cast<const unsigned char*>(start);
  check_bytes(at + a.bytes, at + rounded(a.bytes, ALIGNMENT), start, a, after);
}

}  // namespace

Status allocate(Home home, size_t bytes, Address* at) {
  if (!at || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  Memory& m = memory();
  if (bytes > (size_t(1) << 46)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (home == Home::Device && m.device_bytes + rounded(bytes, GRAIN) + TAKEN_BY_CONTEXT > settings().memory) return CUDA_ERROR_OUT_OF_MEMORY;
  const size_t inner = rounded(bytes, PAGE), mapped = inner + 2 * PAGE;
  void* map = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const Address pages = reinterpret_cast<Address>(map) + PAGE;
  if (mprotect(reinterpret_cast<void*>(pages), inner, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  const Address start = pages + inner - rounded(bytes, ALIGNMENT);
  if (!settings().null) memset(reinterpret_cast<void*>(pages), POISON, inner);
  unsigned& count = home == Home::Device ? m.device_count : m.pinned_count;
  m.all[start] = Allocation{home, ++count, bytes, mapped, pages, true};
  if (home == Home::Device) m.device_bytes += rounded(bytes, GRAIN);
  *at = start;
  return CUDA_SUCCESS;
}

Status release(Home home, Address at) {
  Memory& m = memory();
  auto found = m.all.find(at);
  if (found == m.all.end() || !found->second.live || found->second.home != home) return CUDA_ERROR_INVALID_VALUE;
  Allocation& a = found->second;
  if (!settings().null) {
    check_end(at, a, "found when freed");
    check_bytes(reinterpret_cast<unsigned char*>(a.pages), reinterpret_cast<unsigned char*>(at), at, a, "found when freed");
  }
  const size_t inner = a.mapped - 2 * PAGE;
  madvise(reinterpret_cast<void*>(a.pages), inner, MADV_DONTNEED);
  mprotect(reinterpret_cast<void*>(a.pages), inner, PROT_NONE);
  a.live = false;
  if (home == Home::Device) m.device_bytes -= rounded(a.bytes, GRAIN);
  return CUDA_SUCCESS;
}

Extent extent_of(Home home, Address at) {
  const auto found = below(at);
  if (found == memory().all.end()) return {0, 0};
  const auto& [start, a] = *found;
  return a.live && a.home == home && at - start <= a.bytes ? Extent{start, a.bytes} : Extent{0, 0};
}

bool lies_in(Home home, Address at, size_t bytes) {
  const Extent e = extent_of(home, at);
  return e.bytes && bytes <= e.bytes - (at - e.start);
}

void add_host_reader(Extent range) { memory().host_readers.push_back(range); }

void remove_host_reader(Extent range) {
  auto& all = memory().host_readers;
  for (Extent& e : all)
    if (e.start == range.start && e.bytes == range.bytes) {
      e = all.back();
      all.pop_back();
      return;
    }
}

bool has_host_reader(Extent range) {
  for (const Extent& e : memory().host_readers)
    if (e.start < range.start + range.bytes && range.start < e.start + e.bytes) return true;
  return false;
}

void free_memory(size_t* free, size_t* total) {
  const size_t used = memory().device_bytes + TAKEN_BY_CONTEXT;
  *total = settings().memory;
  *free = used < *total ? *total - used : 0;
}

void describe_address(const void* address, char* text, size_t size) {
  const Address at = reinterpret_cast<Address>(address);
  const auto& all = memory().all;
  for (const auto& [start, a] : all) {
    if (at < a.pages - PAGE || at >= a.pages - PAGE + a.mapped) continue;
    const char* home = a.home == Home::Device ? "device" : "pinned";
    const long long from_end = static_cast<long long>(at) - static_cast<long long>(start + a.bytes);
    if (from_end >= 0) snprintf(text, size, "%lld bytes past the end of %s allocation %u of %zu bytes", from_end, home, a.number, a.bytes);
    else if (at < start) snprintf(text, size, "%zu bytes before the start of %s allocation %u of %zu bytes", size_t(start - at), home, a.number, a.bytes);
    else snprintf(text, size, "in %s allocation %u of %zu bytes%s", home, a.number, a.bytes, a.live ? "" : ", which was freed");
    return;
  }
}

void check_slack(const char* after) {
  if (settings().null) return;
  for (const auto& [start, a] : memory().all)
    if (a.live) check_end(start, a, after);
}

}  // namespace emulator
