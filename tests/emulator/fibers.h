// One launch of a kernel on the host. Each CUDA thread is a fiber. Blocks run one after another in random order, the threads of a block in random
// order between the points where they must meet. What a GPU leaves undefined stops the process with kernel, block and thread.
#pragma once
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) && !defined(OVERBOOK_EMULATOR_UCONTEXT)
#define OVERBOOK_EMULATOR_SWITCH
#else
#include <ucontext.h>
#endif

namespace emulator {

struct Index {
  unsigned x, y, z;
};

/// What a launch needs. `describe` may say whose memory an address is in; it may be null.
struct Launch {
  const char* kernel;
  Index grid, block;
  unsigned shared_bytes;
  uint64_t seed;
  void (*call)(const void* arguments);
  const void* arguments;
  void (*describe)(const void* address, char* text, size_t size);
};

constexpr unsigned WARP = 32, THREADS_MAX = 1024, PAGE = 4096, SECONDS_MAX = 60;
constexpr size_t STACK_BYTES = 64 << 10, STACK_GUARD = 64 << 10, SHARED_REGION = 16 << 20;
constexpr unsigned STATIC_SHARED_MAX = 48 << 10, SHARED_MAX = 227 << 10;
constexpr unsigned char POISON = 0xFF;

struct Thread;

/// Something that the 32 lanes of a warp do together: the last to arrive does it for all.
struct Meeting {
  const char* name;
  void (*complete)(Thread* lanes);
};

enum class State : unsigned char { Ready, AtWarp, AtBarrier, Done };

/// A copy from global to shared memory that was asked for and not yet waited for.
struct Copy {
  void* to;
  const void* from;
  bool valid;
  unsigned group;
};

#if defined(OVERBOOK_EMULATOR_SWITCH)
typedef void* Registers;
#else
typedef ucontext_t Registers;
#endif

struct Thread {
  Registers context;
  Index index;
  unsigned rank;
  State state;
  int line;                // where it waits
  const Meeting* meeting;  // what for
  void* operands;
  Copy* copies;  // in the order of issue
  unsigned copy_first, copy_end, copy_room;
  unsigned groups;  // committed so far
};

struct SharedArray;

struct Engine {
  const Launch* launch;
  Index block;
  Thread* current;  // null while no fiber runs
  Registers scheduler;
  pthread_t host;
  unsigned threads, warps;
  unsigned ready[WARP];  // a bit per lane
  unsigned ready_warps;  // a bit per warp
  unsigned at_barrier, done;
  uint64_t random;
  unsigned epoch;  // counts launches
  uint32_t barriers, warp_syncs[WARP];  // so far
  unsigned char *stacks, *shared, *shared_free, *dynamic;
  unsigned guarded;  // stacks below which no page can be touched
  unsigned static_bytes;  // of the arrays that this launch has entered
  SharedArray* arrays;
  Thread thread[THREADS_MAX];
};

inline Engine engine;

inline uint64_t random_next() {  // SplitMix64
  uint64_t z = (engine.random += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

inline unsigned random_below(unsigned n) { return unsigned((random_next() >> 32) * n >> 32); }

/// Ends the process. The first line names kernel, block and thread.
[[noreturn]] inline void stop_at(const Thread* thread, const char* text) {
  const Engine& e = engine;
  const Index none = {0, 0, 0};
  const Index t = thread ? thread->index : none;
  dprintf(2, "emulator: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): %s\n", e.launch ? e.launch->kernel : "none", e.block.x, e.block.y,
          e.block.z, t.x, t.y, t.z, text);
  signal(SIGABRT, SIG_DFL);
  abort();
}

template <class... Parts>
[[noreturn]] inline void stop(const char* format, Parts... parts) {
  char text[512];
  snprintf(text, sizeof text, format, parts...);
  stop_at(engine.current, text);
}

// ---- Switching ----

#if defined(OVERBOOK_EMULATOR_SWITCH)
// Saves what a called function must keep, and nothing else.
extern "C" __attribute__((visibility("hidden"))) void overbook_emulator_switch(void** from, void* to);
asm(".text\n.type overbook_emulator_switch,@function\noverbook_emulator_switch:\n"
    " pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    " movq %rsp,(%rdi)\n movq %rsi,%rsp\n"
    " popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n"
    ".size overbook_emulator_switch,.-overbook_emulator_switch\n");
inline void switch_fiber(Registers& from, Registers& to) { overbook_emulator_switch(&from, to); }
#else
inline void switch_fiber(Registers& from, Registers& to) { swapcontext(&from, &to); }
#endif

inline void leave() {  // back to the scheduler
  Thread* self = engine.current;
  switch_fiber(self->context, engine.scheduler);
}

inline void finish_thread(Thread& self) {
  for (unsigned i = self.copy_first; i < self.copy_end; ++i)
    stop("ends with a cp_async16 that was never waited for (group %u of %u committed)", self.copies[i].group, self.groups);
  self.state = State::Done;
  ++engine.done;
}

inline void enter_thread() {
  engine.launch->call(engine.launch->arguments);
  finish_thread(*engine.current);
  leave();
  abort();  // a finished fiber is never resumed
}

inline unsigned char* stack_of(unsigned rank) { return engine.stacks + size_t(rank) * (STACK_BYTES + STACK_GUARD) + STACK_GUARD; }

inline void make_fiber(Thread& t) {
  unsigned char* stack = stack_of(t.rank);
#if defined(OVERBOOK_EMULATOR_SWITCH)
  void** top = reinterpret_cast<void**>(stack + STACK_BYTES);
  *--top = nullptr;  // entered as if called: 8 below a multiple of 16
  *--top = reinterpret_cast<void*>(&enter_thread);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  t.context = top;
#else
  getcontext(&t.context);
  t.context.uc_stack.ss_sp = stack;
  t.context.uc_stack.ss_size = STACK_BYTES;
  t.context.uc_link = nullptr;
  makecontext(&t.context, reinterpret_cast<void (*)()>(&enter_thread), 0);
#endif
}

// ---- Shared memory ----

/// Pages whose end, as near as alignment allows, is at a page that cannot be touched.
inline unsigned char* guarded_pages(unsigned bytes) {
  const size_t pages = (size_t(bytes) + PAGE - 1) / PAGE * PAGE;
  unsigned char* at = engine.shared_free;
  if (at + pages + PAGE > engine.shared + SHARED_REGION) stop("the emulator's room for shared arrays is full");
  engine.shared_free += pages + PAGE;
  if (pages && mprotect(at, pages, PROT_READ | PROT_WRITE) != 0) stop("mprotect failed");
  return at + pages;
}

inline unsigned rounded_16(unsigned bytes) { return (bytes + 15) / 16 * 16; }

/// One `SHARED` of a kernel's source. It has pages of its own, so that an index past its end is found.
struct SharedArray {
  unsigned bytes;
  const char* name;
  unsigned char* base = nullptr;
  unsigned epoch = 0;
  SharedArray* next = nullptr;

  constexpr SharedArray(unsigned size, const char* called) : bytes(size), name(called) {}

  void poison() { memset(base, POISON, rounded_16(bytes)); }

  void* enter() {
    if (epoch != engine.epoch) first_entry();
    return base;
  }

  void first_entry() {
    if (!base) {
      base = guarded_pages(bytes) - rounded_16(bytes);
      next = engine.arrays;
      engine.arrays = this;
    }
    epoch = engine.epoch;
    engine.static_bytes += rounded_16(bytes);
    if (engine.static_bytes > STATIC_SHARED_MAX) stop("%u bytes of static shared memory; at most %u", engine.static_bytes, STATIC_SHARED_MAX);
    if (engine.static_bytes + engine.launch->shared_bytes > SHARED_MAX)
      stop("%u + %u bytes of shared memory; at most %u", engine.static_bytes, engine.launch->shared_bytes, SHARED_MAX);
    poison();
  }

  void check_slack() const {
    for (unsigned i = bytes; i < rounded_16(bytes); ++i)
      if (base[i] != POISON) stop("wrote past the end of %s, a shared array of %u bytes", name, bytes);
  }
};

inline bool is_shared(const void* p) {
  const unsigned char* at = static_cast<const unsigned char*>(p);
  return at >= engine.shared && at < engine.shared + SHARED_REGION;
}

inline void* dynamic_shared() { return engine.dynamic; }

inline void poison_shared() {
  for (SharedArray* a = engine.arrays; a; a = a->next)
    if (a->epoch == engine.epoch) a->poison();
  if (engine.launch->shared_bytes) memset(engine.dynamic, POISON, rounded_16(engine.launch->shared_bytes));
}

inline void check_shared_slack() {
  for (SharedArray* a = engine.arrays; a; a = a->next)
    if (a->epoch == engine.epoch) a->check_slack();
  const unsigned bytes = engine.launch->shared_bytes;
  for (unsigned i = bytes; i < rounded_16(bytes); ++i)
    if (engine.dynamic[i] != POISON) stop("wrote past the %u bytes of dynamic shared memory", bytes);
}

// ---- Faults ----

inline void on_fault(int number, siginfo_t* info, void*) {
  Engine& e = engine;
  signal(number, SIG_DFL);
  if (!e.launch || !pthread_equal(e.host, pthread_self())) return;  // not a kernel's: happens again, with the default action
  const unsigned char* at = static_cast<const unsigned char*>(info->si_addr);
  char whose[256] = "memory that is not the kernel's";
  const unsigned char* stacks_end = e.stacks + size_t(THREADS_MAX) * (STACK_BYTES + STACK_GUARD);
  if (is_shared(at)) snprintf(whose, sizeof whose, "outside of its shared arrays");
  else if (at >= e.stacks && at < stacks_end) snprintf(whose, sizeof whose, "outside of its stack of %zu bytes", STACK_BYTES);
  else if (e.launch->describe) e.launch->describe(at, whose, sizeof whose);
  char text[512];
  snprintf(text, sizeof text, "access to %p: %s", static_cast<const void*>(at), whose);
  if (number == SIGSEGV && !at) snprintf(text, sizeof text, "access to null, or to an address that no memory can have (poison in an index?)");
  if (number == SIGFPE) snprintf(text, sizeof text, "division by zero");
  if (number == SIGXCPU) snprintf(text, sizeof text, "still running after %u seconds", SECONDS_MAX);
  stop_at(e.current, text);
}

/// Catches faults while a launch runs, on a stack of its own: a fiber's may be the one that overflowed. A launch without an end is one too.
struct FaultCatcher {
  static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGXCPU};
  struct sigaction old[4];
  stack_t old_stack;
  timer_t timer;

  FaultCatcher() {
    static unsigned char room[64 << 10];
    stack_t mine = {};
    mine.ss_sp = room;
    mine.ss_size = sizeof room;
    sigaltstack(&mine, &old_stack);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &action, &old[i]);
    struct sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGXCPU;
    event._sigev_un._tid = gettid();
    struct itimerspec limit = {};
    limit.it_value.tv_sec = SECONDS_MAX;
    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    timer_settime(timer, 0, &limit, nullptr);
  }
  ~FaultCatcher() {
    timer_delete(timer);
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &old[i], nullptr);
    sigaltstack(&old_stack, nullptr);
  }
};

// ---- Meetings ----

inline void set_ready(Thread& t) {
  t.state = State::Ready;
  engine.ready[t.rank / WARP] |= 1u << t.rank % WARP;
  engine.ready_warps |= 1u << t.rank / WARP;
}

/// Waits for the whole warp. Whoever comes last completes the meeting before any lane goes on.
inline void meet(const Meeting& meeting, void* operands, int line) {
  Thread* self = engine.current;
  self->state = State::AtWarp;
  self->meeting = &meeting;
  self->operands = operands;
  self->line = line;
  Thread* lanes = engine.thread + self->rank / WARP * WARP;
  if (self->rank / WARP * WARP + WARP > engine.threads) stop("%s at line %d in a warp of fewer than 32 threads", meeting.name, line);
  bool complete = true;
  for (unsigned i = 0; i < WARP && complete; ++i) complete = lanes[i].state == State::AtWarp;
  if (complete) {
    for (unsigned i = 0; i < WARP; ++i)
      if (lanes[i].meeting != &meeting || lanes[i].line != line)
        stop("divergent warp: %s at line %d, but lane %u is in %s at line %d", meeting.name, line, i, lanes[i].meeting->name, lanes[i].line);
    meeting.complete(lanes);
    for (unsigned i = 0; i < WARP; ++i) set_ready(lanes[i]);
  }
  leave();
}

inline void barrier(int line) {
  Thread* self = engine.current;
  self->state = State::AtBarrier;
  self->line = line;
  if (++engine.at_barrier == engine.threads) {
    for (unsigned i = 0; i < engine.threads; ++i)
      if (engine.thread[i].line != line)
        stop("divergent barrier: __syncthreads at line %d, but thread %u is at line %d", line, i, engine.thread[i].line);
    engine.at_barrier = 0;
    ++engine.barriers;
    for (unsigned i = 0; i < engine.threads; ++i) set_ready(engine.thread[i]);
  }
  leave();
}

/// Nobody can go on: says how many wait where.
[[noreturn]] inline void stop_divergent() {
  Engine& e = engine;
  char text[480] = "divergent: ";
  const Thread* waiting = nullptr;
  bool told[THREADS_MAX] = {};
  for (unsigned i = 0; i < e.threads; ++i) {
    const Thread& t = e.thread[i];
    if (!waiting && t.state != State::Done) waiting = &t;
    if (told[i] || strlen(text) > 380) continue;
    unsigned count = 0;
    for (unsigned j = i; j < e.threads; ++j) {
      const Thread& o = e.thread[j];
      const bool same = o.state == t.state && (t.state == State::Done || (o.line == t.line && (t.state == State::AtBarrier || o.meeting == t.meeting)));
      if (same) told[j] = true, ++count;
    }
    const char* where = t.state == State::Done ? "have ended" : t.state == State::AtBarrier ? "wait in __syncthreads" : t.meeting->name;
    char place[32] = "";
    if (t.state != State::Done) snprintf(place, sizeof place, " at line %d", t.line);
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u threads (first %u) %s%s%s", i ? "; " : "", count, i,
             t.state == State::AtWarp ? "wait in " : "", where, place);
  }
  stop_at(waiting, text);
}

// ---- Running ----

/// Half of the blocks let any thread go next, the other half run a warp as far as it comes: both find other races.
inline Thread& next_thread(bool sticky, unsigned last_warp) {
  Engine& e = engine;
  unsigned warp = last_warp;
  if (!sticky || !e.ready[warp]) {
    const unsigned turn = random_below(WARP);
    const unsigned turned = e.ready_warps >> turn | (turn ? e.ready_warps << (WARP - turn) : 0);
    warp = (turn + unsigned(__builtin_ctz(turned))) % WARP;
  }
  const unsigned turn = random_below(WARP);
  const unsigned turned = e.ready[warp] >> turn | (turn ? e.ready[warp] << (WARP - turn) : 0);
  const unsigned lane = (turn + unsigned(__builtin_ctz(turned))) % WARP;
  e.ready[warp] &= ~(1u << lane);
  if (!e.ready[warp]) e.ready_warps &= ~(1u << warp);
  return e.thread[warp * WARP + lane];
}

inline void run_block() {
  Engine& e = engine;
  poison_shared();
  ++e.barriers;
  e.at_barrier = e.done = 0;
  for (unsigned i = 0; i < e.threads; ++i) {
    Thread& t = e.thread[i];
    t.copy_first = t.copy_end = t.groups = 0;
    make_fiber(t);
    set_ready(t);
  }
  const bool sticky = random_below(2) == 0;
  unsigned warp = 0;
  while (e.ready_warps) {
    Thread& t = next_thread(sticky, warp);
    warp = t.rank / WARP;
    e.current = &t;
    switch_fiber(e.scheduler, t.context);
  }
  e.current = nullptr;
  if (e.done != e.threads) stop_divergent();
  check_shared_slack();
}

inline void reserve_memory() {
  Engine& e = engine;
  if (e.stacks) return;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const size_t stacks = size_t(THREADS_MAX) * (STACK_BYTES + STACK_GUARD);
  void* at = mmap(nullptr, stacks, PROT_READ | PROT_WRITE, flags, -1, 0);
  void* shared = mmap(nullptr, SHARED_REGION, PROT_NONE, flags, -1, 0);
  if (at == MAP_FAILED || shared == MAP_FAILED) stop("no memory for the fibers");
  e.stacks = static_cast<unsigned char*>(at);
  e.shared = static_cast<unsigned char*>(shared);
  e.shared_free = e.shared + PAGE;
}

/// Guards the stacks of so many threads. A guard takes two of the mappings that a process may have, and every library of a kernel has its
/// own stacks: those that no launch needs have none.
inline void guard_stacks(unsigned threads) {
  for (; engine.guarded < threads; ++engine.guarded)
    if (mprotect(stack_of(engine.guarded) - STACK_GUARD, STACK_GUARD, PROT_NONE) != 0) stop("mprotect failed");
}

/// The dynamic shared memory keeps its room and moves its start, so that it always ends at the guard page.
inline void place_dynamic_shared(unsigned bytes) {
  static unsigned char* end = nullptr;
  if (!end) end = guarded_pages(SHARED_MAX);
  engine.dynamic = end - rounded_16(bytes);
  // What is below was of a larger launch: an index below zero reads poison.
  memset(end - SHARED_MAX, POISON, SHARED_MAX - rounded_16(bytes));
}

/// Runs all blocks of a launch on this host thread. One launch at a time.
inline void run(const Launch& launch) {
  static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&one_at_a_time);
  Engine& e = engine;
  e.launch = &launch;
  e.host = pthread_self();
  e.random = launch.seed;
  const Index g = launch.grid, b = launch.block;
  e.block = Index{0, 0, 0};
  const uint64_t threads = uint64_t(b.x) * b.y * b.z, blocks = uint64_t(g.x) * g.y * g.z;
  if (threads == 0 || threads > THREADS_MAX || blocks == 0 || blocks > 0xFFFFFFFFull || launch.shared_bytes > SHARED_MAX)
    stop("cannot run %llu blocks of %llu threads with %u bytes of shared memory", (unsigned long long)blocks, (unsigned long long)threads,
         launch.shared_bytes);
  reserve_memory();
  ++e.epoch;
  e.static_bytes = 0;
  e.threads = unsigned(threads);
  guard_stacks(e.threads);
  e.warps = (e.threads + WARP - 1) / WARP;
  place_dynamic_shared(launch.shared_bytes);
  for (unsigned i = 0; i < e.threads; ++i) {
    e.thread[i].rank = i;
    e.thread[i].index = Index{i % b.x, i / b.x % b.y, i / (b.x * b.y)};
  }
  FaultCatcher catcher;
  unsigned* order = static_cast<unsigned*>(malloc(size_t(blocks) * sizeof(unsigned)));
  for (unsigned i = 0; i < blocks; ++i) {
    const unsigned j = random_below(i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  for (unsigned i = 0; i < blocks; ++i) {
    const unsigned n = order[i];
    e.block = Index{n % g.x, n / g.x % g.y, n / (g.x * g.y)};
    run_block();
  }
  free(order);
  e.launch = nullptr;
  pthread_mutex_unlock(&one_at_a_time);
}

inline uint64_t seed_from_environment() {
  const char* text = getenv("OVERBOOK_EMULATOR_SEED");
  return text ? strtoull(text, nullptr, 10) : 1;
}

}  // namespace emulator
