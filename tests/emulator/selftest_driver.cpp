// Cases of streams, events, memory, capture and contexts.
#include <cmath>
#include <cstring>
#include <thread>

#include "selftest.h"

namespace selftest {
namespace {

constexpr int N = 1000;

/// Pinned output is poison until its event, and pinned input is read when the copy runs.
void copies_are_late() {
  start();
  const Opaque s = new_stream(), e = new_event();
  int *in = pinned<int>(N), *out = pinned<int>(N);
  const Pointer d = device_memory(N * 4);
  EQUAL(out[0], -1);
  for (int i = 0; i < N; ++i) in[i] = i;
  OK(cuMemcpyHtoDAsync_v2(d, in, N * 4, s));
  OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
  OK(cuEventRecord(e, s));
  in[7] = 70;
  EQUAL(out[0], -1);
  OK(cuEventSynchronize(e));
  EQUAL(out[1], 1);
  EQUAL(out[7], 70);
  int pageable[N] = {};
  OK(cuMemcpyHtoDAsync_v2(d, pageable, N * 4, s));
  pageable[3] = 3;
  OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
  OK(cuStreamSynchronize(s));
  EQUAL(out[3], 0);
}

/// From the moment of the call a copy to the host may happen: what an earlier one left there is gone. Work that reads it first still does.
void results_are_gone_until_their_event() {
  start();
  const Opaque s = new_stream();
  int* out = pinned<int>(N);
  const Pointer d = device_memory(N * 4), e = device_memory(N * 4);
  for (int round = 0; round < 3; ++round) {
    OK(cuMemsetD32Async(d, unsigned(round), N, s));
    OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
    EQUAL(out[N - 1], -1);
    OK(cuStreamSynchronize(s));
    EQUAL(out[N - 1], round);
  }
  OK(cuMemcpyHtoDAsync_v2(e, out, N * 4, s));
  OK(cuMemsetD32Async(d, 9, N, s));
  OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
  OK(cuStreamSynchronize(s));
  EQUAL(out[0], 9);
  OK(cuMemcpyDtoH_v2(out, e, N * 4));
  EQUAL(out[0], 2);
}

/// Asking again and again gets there, and not at once every time.
void queries_make_progress() {
  start();
  const Opaque s = new_stream(), e = new_event();
  const Pointer d = device_memory(64);
  unsigned asked = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i) OK(cuMemsetD32Async(d, unsigned(i), 16, s));
    OK(cuEventRecord(e, s));
    for (int status; (status = cuEventQuery(e)) != 0; ++asked) EQUAL(status, NOT_READY);
  }
  CHECK(asked > 20);
}

/// Whether the second stream's write was seen after the first's, over many rounds without and with an event between.
void order_of_streams() {
  start();
  const Opaque a = new_stream(), b = new_stream(), e = new_event();
  const Pointer d = device_memory(4);
  int seen[2][2] = {};
  for (int with = 0; with < 2; ++with)
    for (int round = 0; round < 60; ++round) {
      OK(cuMemsetD32Async(d, 0, 1, a));
      if (with) {
        OK(cuEventRecord(e, a));
        OK(cuStreamWaitEvent(b, e, 0));
      }
      OK(cuMemsetD32Async(d, 1, 1, b));
      OK(cuCtxSynchronize());
      int value = -1;
      OK(cuMemcpyDtoH_v2(&value, d, 4));
      CHECK(value == 0 || value == 1);
      ++seen[with][value];
    }
  CHECK(seen[0][0] > 5 && seen[0][1] > 5);
  EQUAL(seen[1][1], 60);
}

/// An event that is recorded again does not let go of those who wait for its first record.
void events_keep_their_records() {
  start();
  const Opaque a = new_stream(), b = new_stream(), c = new_stream(), e = new_event();
  const Pointer d = device_memory(4);
  for (int round = 0; round < 60; ++round) {
    OK(cuMemsetD32Async(d, 7, 1, a));
    OK(cuEventRecord(e, a));
    OK(cuStreamWaitEvent(c, e, 0));
    OK(cuEventRecord(e, b));
    int* out = pinned<int>(1);
    OK(cuMemcpyDtoHAsync_v2(out, d, 4, c));
    OK(cuMemsetD32Async(d, 9, 1, c));
    OK(cuStreamSynchronize(c));
    EQUAL(*out, 7);
  }
}

void time_is_positive() {
  start();
  const Opaque s = new_stream(), e = new_event(), f = new_event();
  float ms = 0;
  OK(cuEventRecord(e, s));
  OK(cuEventRecord(f, s));
  EQUAL(cuEventElapsedTime_v2(&ms, e, f), NOT_READY);
  OK(cuStreamSynchronize(s));
  OK(cuEventElapsedTime_v2(&ms, e, f));
  CHECK(ms > 0 && ms < 100);
  CHECK(std::abs(ms / 0.0005f - std::round(ms / 0.0005f)) < 0.01f);
}

void misuse_is_refused() {
  Pointer d = 0;
  EQUAL(cuMemAlloc_v2(&d, 16), 3);
  OK(cuInit(0));
  EQUAL(cuMemAlloc_v2(&d, 16), INVALID_CONTEXT);
  start();
  const Opaque s = new_stream();
  d = device_memory(100);
  EQUAL(int(d % 256), 0);
  EQUAL(cuMemAlloc_v2(&d, 0), INVALID_VALUE);
  EQUAL(cuMemsetD8Async(d, 0, 101, s), INVALID_VALUE);
  EQUAL(cuMemcpyHtoD_v2(d + 50, &d, 51), INVALID_VALUE);
  EQUAL(cuMemsetD8Async(d, 0, 10, nullptr), NOT_SUPPORTED);
  EQUAL(cuStreamSynchronize(&d), 400);
  EQUAL(cuMemFree_v2(d + 1), INVALID_VALUE);
  OK(cuMemFree_v2(d));
  EQUAL(cuMemFree_v2(d), INVALID_VALUE);
  const char* name = nullptr;
  OK(cuGetErrorName(900, &name));
  CHECK(strcmp(name, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED") == 0);
  int other = 0;
  std::thread([&] { other = cuMemAlloc_v2(&d, 16); }).join();
  EQUAL(other, INVALID_CONTEXT);
}

void memory_is_limited() {
  start();
  size_t free = 0, total = 0;
  OK(cuMemGetInfo_v2(&free, &total));
  EQUAL(total, size_t(64) << 20);
  Pointer p = 0;
  EQUAL(cuMemAlloc_v2(&p, free + 1), OUT_OF_MEMORY);
  OK(cuMemAlloc_v2(&p, free));
  Pointer q = 0;
  EQUAL(cuMemAlloc_v2(&q, 1), OUT_OF_MEMORY);
  OK(cuMemFree_v2(p));
  OK(cuMemAlloc_v2(&q, 1));
}

void leak() {
  start();
  (void)device_memory(123);
}

// ---- Capture ----

struct Chain {
  Opaque s = new_stream();
  int *in = pinned<int>(N), *out = pinned<int>(N);
  Pointer d = device_memory(N * 4);
  Opaque add = kernel("add_to");

  void enqueue(int by) {
    OK(cuMemcpyHtoDAsync_v2(d, in, N * 4, s));
    launch(add, 4, 64, 0, s, d, N, by);
    launch(add, 4, 64, 0, s, d, N, 1);
    OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
  }
};

void replay_equals_eager() {
  start();
  Chain c;
  OK(cuStreamBeginCapture_v2(c.s, 1));
  c.enqueue(10);
  Opaque graph = nullptr, executable = nullptr;
  OK(cuStreamEndCapture(c.s, &graph));
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  OK(cuGraphDestroy(graph));
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < N; ++i) c.in[i] = i * round, c.out[i] = -1;
    OK(cuGraphLaunch(executable, c.s));
    EQUAL(c.out[1], -1);
    OK(cuStreamSynchronize(c.s));
    for (int i = 0; i < N; ++i) EQUAL(c.out[i], i * round + 11);
    std::vector<int> replayed(c.out, c.out + N);
    c.enqueue(10);
    OK(cuStreamSynchronize(c.s));
    CHECK(std::equal(replayed.begin(), replayed.end(), c.out));
  }
  OK(cuGraphExecDestroy(executable));
}

/// A fork to a second stream and back, on events of the capture.
void capture_forks_and_joins() {
  start();
  const Opaque a = new_stream(), b = new_stream(), fork = new_event(), join = new_event();
  const Pointer d = device_memory(8);
  const Opaque add = kernel("add_to");
  OK(cuStreamBeginCapture_v2(a, 1));
  OK(cuMemsetD32Async(d, 1, 2, a));
  OK(cuEventRecord(fork, a));
  OK(cuStreamWaitEvent(b, fork, 0));
  launch(add, 1, 32, 0, b, d + 4, 1, 5);
  OK(cuEventRecord(join, b));
  launch(add, 1, 32, 0, a, d, 1, 3);
  OK(cuStreamWaitEvent(a, join, 0));
  launch(add, 1, 32, 0, a, d, 2, 100);
  Opaque graph = nullptr, executable = nullptr;
  EQUAL(cuEventQuery(fork), CAPTURED_EVENT);
  OK(cuStreamEndCapture(a, &graph));
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  for (int round = 0; round < 20; ++round) {
    OK(cuGraphLaunch(executable, a));
    OK(cuGraphLaunch(executable, b));
    OK(cuCtxSynchronize());
    int out[2];
    OK(cuMemcpyDtoH_v2(out, d, 8));
    EQUAL(out[0], 104);
    EQUAL(out[1], 106);
  }
}

void capture_has_rules() {
  start();
  const Opaque a = new_stream(), b = new_stream(), outside = new_event(), fork = new_event();
  const Pointer d = device_memory(8);
  OK(cuEventRecord(outside, b));
  Pointer p = 0;
  Opaque graph = nullptr;
  int status = -1;
  OK(cuStreamBeginCapture_v2(a, 1));
  EQUAL(cuMemAlloc_v2(&p, 16), CAPTURE_UNSUPPORTED);
  OK(cuStreamIsCapturing(a, &status));
  EQUAL(status, 2);
  EQUAL(cuMemsetD32Async(d, 1, 1, a), CAPTURE_INVALIDATED);
  EQUAL(cuStreamEndCapture(a, &graph), CAPTURE_INVALIDATED);
  CHECK(!graph);
  OK(cuStreamBeginCapture_v2(a, 1));
  EQUAL(cuStreamSynchronize(a), CAPTURE_UNSUPPORTED);
  EQUAL(cuStreamEndCapture(a, &graph), CAPTURE_INVALIDATED);
  OK(cuStreamBeginCapture_v2(a, 1));
  EQUAL(cuStreamWaitEvent(a, outside, 0), CAPTURE_ISOLATION);
  EQUAL(cuStreamEndCapture(a, &graph), CAPTURE_INVALIDATED);
  OK(cuStreamBeginCapture_v2(a, 1));
  OK(cuEventRecord(fork, a));
  OK(cuStreamWaitEvent(b, fork, 0));
  OK(cuMemsetD32Async(d, 1, 1, b));
  EQUAL(cuStreamEndCapture(a, &graph), CAPTURE_UNJOINED);
  OK(cuStreamIsCapturing(b, &status));
  EQUAL(status, 0);
}

/// An event with the external flag is a node: each replay records it anew.
void captured_events_time_replays() {
  start();
  const Opaque s = new_stream(), begin = new_event(), end = new_event();
  const Pointer d = device_memory(4096);
  OK(cuStreamBeginCapture_v2(s, 1));
  OK(cuEventRecordWithFlags(begin, s, 1));
  OK(cuMemsetD8Async(d, 0, 4096, s));
  OK(cuEventRecordWithFlags(end, s, 1));
  Opaque graph = nullptr, executable = nullptr;
  OK(cuStreamEndCapture(s, &graph));
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  for (int round = 0; round < 3; ++round) {
    OK(cuGraphLaunch(executable, s));
    OK(cuEventSynchronize(end));
    float ms = 0;
    OK(cuEventElapsedTime_v2(&ms, begin, end));
    CHECK(ms > 0);
  }
}

void green_contexts() {
  start();
  unsigned char all[144], parts[2][144], rest[144];
  unsigned groups = 1;
  OK(cuDeviceGetDevResource(0, all, 1));
  OK(cuDevSmResourceSplitByCount(parts, &groups, all, rest, 0, 5));
  EQUAL(groups, 1u);
  unsigned counts[2];
  memcpy(&counts[0], parts[0] + 96, 4);
  memcpy(&counts[1], rest + 96, 4);
  EQUAL(counts[0], 6u);
  EQUAL(counts[1], 2u);
  for (unsigned char* part : {parts[0], rest}) {
    Opaque description = nullptr, green = nullptr, stream = nullptr, context = nullptr;
    OK(cuDevResourceGenerateDesc(&description, part, 1));
    EQUAL(cuGreenCtxCreate(&green, description, 0, 0), INVALID_VALUE);
    OK(cuGreenCtxCreate(&green, description, 0, 1));
    OK(cuGreenCtxStreamCreate(&stream, green, 1, 0));
    OK(cuCtxFromGreenCtx(&context, green));
    OK(cuCtxSetCurrent(context));
    const Pointer d = device_memory(4);
    OK(cuMemsetD32Async(d, 5, 1, stream));
    OK(cuStreamSynchronize(stream));
    int out = 0;
    OK(cuMemcpyDtoH_v2(&out, d, 4));
    EQUAL(out, 5);
  }
}

// ---- Planted faults: each must change what a right program sees ----

/// The reader's stream waits for a long one: without the wait it is all but certain to read too early.
void waits_are_kept() {
  start();
  const Opaque a = new_stream(), b = new_stream(), e = new_event();
  const Pointer d = device_memory(4);
  int* out = pinned<int>(1);
  for (int round = 1; round <= 3; ++round) {
    for (int i = 0; i < 300; ++i) OK(cuMemsetD32Async(d, 0, 1, a));
    OK(cuMemsetD32Async(d, unsigned(round), 1, a));
    OK(cuEventRecord(e, a));
    OK(cuStreamWaitEvent(b, e, 0));
    OK(cuMemcpyDtoHAsync_v2(out, d, 4, b));
    OK(cuStreamSynchronize(b));
    EQUAL(*out, round);
  }
}

void copies_arrive() {
  start();
  const Opaque s = new_stream();
  int* out = pinned<int>(N);
  const Pointer d = device_memory(N * 4);
  OK(cuMemsetD32Async(d, 3, N, s));
  OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
  OK(cuMemcpyDtoHAsync_v2(out, d, N * 4, s));
  for (int i = 0; i < N; ++i) out[i] = 0;
  OK(cuStreamSynchronize(s));
  EQUAL(out[N - 1], 3);
}

void second_copy_arrives() {
  start();
  const Opaque s = new_stream();
  int *first = pinned<int>(N), *second = pinned<int>(N);
  const Pointer d = device_memory(N * 4);
  OK(cuMemsetD32Async(d, 3, N, s));
  OK(cuMemcpyDtoHAsync_v2(first, d, N * 4, s));
  OK(cuMemcpyDtoHAsync_v2(second, d, N * 4, s));
  OK(cuStreamSynchronize(s));
  EQUAL(first[N - 1], 3);
  EQUAL(second[0], 3);
  EQUAL(second[N - 1], 3);
}

/// A copy from the host that nobody waits for comes, often enough, only after sixty pieces of work that were put on another stream after it.
void copies_are_overtaken() {
  start();
  const Opaque a = new_stream(), b = new_stream();
  int *in = pinned<int>(1), *out = pinned<int>(1);
  const Pointer d = device_memory(4), other = device_memory(4);
  int late = 0;
  for (int round = 1; round <= 100; ++round) {
    *in = round;
    OK(cuMemcpyHtoDAsync_v2(d, in, 4, a));
    for (int i = 0; i < 60; ++i) OK(cuMemsetD32Async(other, 0, 1, b));
    OK(cuMemcpyDtoDAsync_v2(other, d, 4, b));
    OK(cuStreamSynchronize(b));
    OK(cuStreamSynchronize(a));
    OK(cuMemcpyDtoHAsync_v2(out, other, 4, b));
    OK(cuStreamSynchronize(b));
    late += *out != round;
  }
  EQUAL(late > 10 && late < 90, true);
}

void launches_happen() {
  start();
  Chain c;
  for (int i = 0; i < N; ++i) c.in[i] = i;
  c.enqueue(10);
  OK(cuStreamSynchronize(c.s));
  EQUAL(c.out[5], 16);
}

}  // namespace

std::vector<Case> driver_cases() {
  const char *drop = "OVERBOOK_EMULATOR_FAULT=drop-wait:3", *early = "OVERBOOK_EMULATOR_FAULT=early-event:1";
  return {
      {"copies_are_late", copies_are_late, {}, 0, nullptr},
      {"results_are_gone_until_their_event", results_are_gone_until_their_event, {}, 0, nullptr},
      {"copies_are_overtaken", copies_are_overtaken, {}, 0, nullptr},
      {"queries_make_progress", queries_make_progress, {}, 0, nullptr},
      {"order_of_streams", order_of_streams, {}, 0, nullptr},
      {"events_keep_their_records", events_keep_their_records, {}, 0, nullptr},
      {"time_is_positive", time_is_positive, {}, 0, nullptr},
      {"misuse_is_refused", misuse_is_refused, {}, 0, nullptr},
      {"memory_is_limited", memory_is_limited, {"OVERBOOK_EMULATOR_MEMORY=67108864"}, 0, nullptr},
      {"leak", leak, {}, 0, nullptr},
      {"leak_reported", leak, {"OVERBOOK_EMULATOR_LEAKS=1"}, 97, "leak: device allocation 1 of 123 bytes"},
      {"replay_equals_eager", replay_equals_eager, {}, 0, nullptr},
      {"capture_forks_and_joins", capture_forks_and_joins, {}, 0, nullptr},
      {"capture_has_rules", capture_has_rules, {}, 0, nullptr},
      {"captured_events_time_replays", captured_events_time_replays, {}, 0, nullptr},
      {"green_contexts", green_contexts, {}, 0, nullptr},
      {"waits_are_kept", waits_are_kept, {}, 0, nullptr},
      {"fault_early_event", copies_are_late, {early}, 1, "out[1] is -1, not 1"},
      {"fault_short_copy", second_copy_arrives, {"OVERBOOK_EMULATOR_FAULT=short-copy:2"}, 1, "second[N - 1] is -1, not 3"},
      {"fault_lost_launch", launches_happen, {"OVERBOOK_EMULATOR_FAULT=lost-launch:2"}, 1, "c.out[5] is 15, not 16"},
      {"fault_never_happened", copies_arrive, {"OVERBOOK_EMULATOR_FAULT=lost-launch:2"}, 97, "never happened: only 0 such calls"},
      {"edit_never_compiled", copies_arrive, {"OVERBOOK_EMULATOR_EDIT=x[i] += by=>x[i] -= by"}, 97, "matched no source"},
      {"fault_misspelt", copies_arrive, {"OVERBOOK_EMULATOR_FAULT=lose-launch:2"}, -6, "not a fault"},
      {"fault_drop_wait", waits_are_kept, {drop}, 1, "*out is"},
      {"fault_drop_waits", waits_are_kept, {"OVERBOOK_EMULATOR_FAULT=drop-wait:3+"}, 1, "*out is"},
  };
}

}  // namespace selftest
