// The emulated machine: settings, memory, streams and what waits on them. Every entry point of the library holds `Gate` while it works.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "status.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulator {

typedef uintptr_t Address;

// ---- Settings and chance (machine.cpp) ----

struct Settings {
  uint64_t seed;
  size_t memory;
  bool leaks, null, races;
  int sm, driver;
  unsigned sms;
  std::string cache, source, compiler;
};
const Settings& settings();

struct Gate {
  Gate();
  ~Gate();
};

uint64_t random_bits();
unsigned random_under(unsigned n);
int64_t now_ns();

/// Faults that a test plants by OVERBOOK_EMULATOR_FAULT=kind:N. True if this call, one of its kind, is the Nth; with `onwards` also for all after it.
bool fault(const char* kind, bool onwards = false);
/// Whether a fault that lasts has begun.
bool fault_lasts(const char* kind);

/// A finding about the program under test that no status code can tell: says it and aborts.
[[noreturn]] void abandon(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// Something is wrong at the end of the process: said then, and the exit code is 97.
void complain_at_exit(std::function<std::string()> complaint);

// ---- Contexts (driver_device.cpp) ----

struct Context {
  bool green;
  unsigned sms;
};

/// CUDA_SUCCESS if the library is initialised and the calling thread has a context.
Status current_context();

// ---- Memory (memory.cpp) ----

enum class Home { Device, Pinned };

Status allocate(Home home, size_t bytes, Address* at);
Status release(Home home, Address at);
/// Whether `bytes` from `at` lie in one live allocation.
bool lies_in(Home home, Address at, size_t bytes);
/// The allocation that an address lies in, or its end; of no bytes if there is none.
struct Extent {
  Address start;
  size_t bytes;
};
Extent extent_of(Home home, Address at);
/// Pinned memory that queued work will read.
void add_host_reader(Extent range);
void remove_host_reader(Extent range);
bool has_host_reader(Extent range);
void free_memory(size_t* free, size_t* total);
void describe_address(const void* address, char* text, size_t size);
/// Finds writes between an allocation's end and its guard page, in the name of what ran last.
void check_slack(const char* after);

// ---- Streams (driver_streams.cpp) ----

/// One record of an event, or another point in a stream that can be waited for.
struct Completion {
  bool done = false;
  int64_t time_ns = 0;
};

/// Work that the device does at some time after it was enqueued. Captured work may run many times.
struct Action {
  virtual ~Action() {}
  virtual void enqueued() {}  // each time that it is put on a stream, before it runs as often
  virtual void run() = 0;
  virtual bool meets_host() const { return false; }  // reads or writes pinned memory by itself
};

struct Work {
  enum Kind { Act, Record, Wait } kind;
  std::shared_ptr<Action> action;
  std::shared_ptr<Completion> completion;
};

struct Capture;

struct Stream {
  bool blocking;        // the legacy stream waits for it
  bool visible = true;  // has a handle; else it lives until it is empty
  uint64_t rank = 0;    // by chance: who goes first while ranks count
  std::deque<Work> queue;
  std::shared_ptr<Capture> capture;
  unsigned lane = 0;  // of the capture
};

struct Event {
  bool timing;
  std::shared_ptr<Completion> last;  // null: never recorded
  std::shared_ptr<Capture> capture;  // last recorded in this capture
  unsigned point = 0;                // of the capture
};

std::shared_ptr<Stream> add_stream(bool blocking);
std::shared_ptr<Stream> find_stream(void* handle);
std::shared_ptr<Event> find_event(void* handle);
const std::vector<std::shared_ptr<Stream>>& all_streams();

/// Puts work behind a stream's other work, or into its capture.
Status enqueue(Stream& stream, std::shared_ptr<Action> action);
void push(Stream& stream, Work work);
void note_record(Event& event, std::shared_ptr<Completion> completion);

/// Runs the heads of streams in random order until `done`. A device that cannot get there stops the process.
void run_until(const std::function<bool()>& done);
void run_some(unsigned steps);
void run_all();

// ---- Capture (driver_graphs.cpp) ----

struct Node {
  enum Kind { Act, RecordPoint, WaitPoint, RecordEvent, WaitEvent } kind;
  std::shared_ptr<Action> action;
  unsigned point;
  std::shared_ptr<Event> event;
};

struct Capture {
  Stream* origin;
  int mode;
  std::thread::id thread;
  bool ended = false, invalid = false;
  unsigned points = 0;
  std::vector<std::vector<Node>> lanes;
};

enum { CAPTURE_GLOBAL = 0, CAPTURE_THREAD_LOCAL = 1, CAPTURE_RELAXED = 2 };

/// For calls that wait or allocate: refused, and fatal to the capture, while one that forbids them is going on.
Status forbid_in_capture();
/// For calls that a capturing stream can never take.
Status forbid_on(Stream& stream);
Status capture_record(Stream& stream, Event& event, const std::shared_ptr<Event>& external);
Status capture_wait(Stream& stream, const std::shared_ptr<Event>& event, bool external);

}  // namespace emulator
