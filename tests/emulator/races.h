// Finds accesses of shared memory that no barrier orders. The compiler reports every load and store if the kernel is compiled with -fsanitize=thread (and
// linked without it: this file has the functions that the compiler calls). Otherwise nothing here costs anything.
#pragma once
#include "fibers.h"

namespace emulator {

/// `ReadTogether`: by ldmatrix, which every lane has taken part in before it goes on to write.
enum class Access : unsigned char { Read, ReadTogether, Write, Atomic };

#if defined(__SANITIZE_THREAD__)
// Not itself watched: it would call itself.
#define OVERBOOK_UNSEEN __attribute__((no_sanitize("thread")))

/// What was last done to one byte. Two accesses are ordered if a barrier of the block is between them, or, in one warp, a sync_warp.
struct Seen {
  uint32_t written, written_warp, read, read_warp;  // counts of barriers and of sync_warps
  uint32_t read_lanes;
  uint16_t writer;
  uint8_t reader;  // warp
  bool atomic, many_readers;
};

inline Seen* seen_bytes = nullptr;

OVERBOOK_UNSEEN inline void stop_race(const unsigned char* at, Access access, const char* other, unsigned thread) {
  const char* name = "dynamic shared memory";
  size_t offset = size_t(at - engine.dynamic);
  if (at < engine.dynamic || offset >= engine.launch->shared_bytes)
    for (const SharedArray* a = engine.arrays; a; a = a->next)
      if (at >= a->base && at < a->base + a->bytes) name = a->name, offset = size_t(at - a->base);
  const char* doing = access == Access::Write ? "written" : access == Access::Atomic ? "added to" : "read";
  if (thread < THREADS_MAX) {
    const Index t = engine.thread[thread].index;
    stop("race on byte %zu of %s: %s without a barrier after it was %s by thread (%u,%u,%u)", offset, name, doing, other, t.x, t.y, t.z);
  }
  stop("race on byte %zu of %s: %s without a barrier after it was %s by several warps", offset, name, doing, other);
}

OVERBOOK_UNSEEN inline void see_byte(Seen& s, const unsigned char* at, Access access, unsigned rank) {
  const unsigned warp = rank / WARP, lane = rank % WARP;
  const uint32_t now = engine.barriers, warp_now = engine.warp_syncs[warp];
  if (s.written == now && s.writer != rank && !(s.atomic && access == Access::Atomic) && (s.writer / WARP != warp || s.written_warp == warp_now))
    stop_race(at, access, s.atomic ? "added to" : "written", s.writer);
  if (access == Access::Read || access == Access::ReadTogether) {
    if (s.read != now) s.many_readers = false, s.read_lanes = 0, s.reader = uint8_t(warp), s.read_warp = warp_now;
    if (s.reader != warp) s.many_readers = true;
    else if (s.read_warp != warp_now) s.read_lanes = 0, s.read_warp = warp_now;
    if (s.reader == warp && access == Access::Read) s.read_lanes |= 1u << lane;
    s.read = now;
    return;
  }
  if (s.read == now) {
    if (s.many_readers) stop_race(at, access, "read", THREADS_MAX);
    if (s.reader != warp) stop_race(at, access, "read", s.reader * WARP + unsigned(s.read_lanes ? __builtin_ctz(s.read_lanes) : 0));
    const uint32_t others = s.read_lanes & ~(1u << lane);
    if (s.read_warp == warp_now && others) stop_race(at, access, "read", warp * WARP + unsigned(__builtin_ctz(others)));
  }
  s.written = now;
  s.written_warp = warp_now;
  s.writer = uint16_t(rank);
  s.atomic = access == Access::Atomic;
}

OVERBOOK_UNSEEN inline void see(const void* p, size_t bytes, Access access) {
  const unsigned char* at = static_cast<const unsigned char*>(p);
  if (at < engine.shared || at + bytes > engine.shared + SHARED_REGION || !engine.current) return;
  if (!seen_bytes) {
    void* map = mmap(nullptr, SHARED_REGION * sizeof(Seen), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) stop("no memory for the race detector");
    seen_bytes = static_cast<Seen*>(map);
  }
  for (size_t i = 0; i < bytes; ++i) see_byte(seen_bytes[size_t(at - engine.shared) + i], at + i, access, engine.current->rank);
}

#else
#define OVERBOOK_UNSEEN
inline void see(const void*, size_t, Access) {}
#endif

}  // namespace emulator

#if defined(__SANITIZE_THREAD__)
#define OVERBOOK_SEEN(name, ...) extern "C" __attribute__((weak, used, visibility("hidden"), no_sanitize("thread"))) void name(__VA_ARGS__)
#define OVERBOOK_SEEN_SIZE(bytes)                                                                                       \
  OVERBOOK_SEEN(__tsan_read##bytes, void* p) { emulator::see(p, bytes, emulator::Access::Read); }                      \
  OVERBOOK_SEEN(__tsan_write##bytes, void* p) { emulator::see(p, bytes, emulator::Access::Write); }                    \
  OVERBOOK_SEEN(__tsan_unaligned_read##bytes, void* p) { emulator::see(p, bytes, emulator::Access::Read); }            \
  OVERBOOK_SEEN(__tsan_unaligned_write##bytes, void* p) { emulator::see(p, bytes, emulator::Access::Write); }
OVERBOOK_SEEN_SIZE(1)
OVERBOOK_SEEN_SIZE(2)
OVERBOOK_SEEN_SIZE(4)
OVERBOOK_SEEN_SIZE(8)
OVERBOOK_SEEN_SIZE(16)
OVERBOOK_SEEN(__tsan_read_range, void* p, unsigned long bytes) { emulator::see(p, bytes, emulator::Access::Read); }
OVERBOOK_SEEN(__tsan_write_range, void* p, unsigned long bytes) { emulator::see(p, bytes, emulator::Access::Write); }
OVERBOOK_SEEN(__tsan_init, void) {}
OVERBOOK_SEEN(__tsan_func_entry, void*) {}
OVERBOOK_SEEN(__tsan_func_exit, void*) {}
#endif
