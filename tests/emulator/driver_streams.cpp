// What is queued on streams, and who goes next. Nothing runs until the host waits or asks; then heads of streams run in random order, as far as the
// order within a stream and events allow. Half of the time copies from and to the host run only when nothing else can.
#include "machine.h"

#include <algorithm>
#include <unordered_map>

namespace emulator {
namespace {

struct Queues {
  std::vector<std::shared_ptr<Stream>> streams;
  std::unordered_map<void*, std::shared_ptr<Event>> events;
  unsigned turns_left = 0;  // until the next change of mood
  bool ranked = false, late_copies = false;
};

Queues& queues() {
  static Queues* one = new Queues;
  return *one;
}

/// Any stream may be next, or one stream runs as far ahead of the others as it can; and copies may have to wait for all others.
void change_mood() {
  Queues& q = queues();
  if (q.turns_left > 0) {
    --q.turns_left;
    return;
  }
  q.ranked = random_under(2) == 0;
  q.late_copies = random_under(2) == 0;
  // Long enough for a whole step to overtake its copy.
  q.turns_left = 1 + random_under(q.late_copies ? 120 : 24);
  for (auto& s : q.streams) s->rank = random_bits();
}

/// Waits that are over cost no turn.
void skip_waits(Stream& s) {
  while (!s.queue.empty() && s.queue.front().kind == Work::Wait && s.queue.front().completion->done) s.queue.pop_front();
}

bool step() {
  Queues& q = queues();
  change_mood();
  Stream *next = nullptr, *copies = nullptr;
  unsigned candidates = 0;
  bool emptied = false;
  for (auto& s : q.streams) {
    skip_waits(*s);
    if (s->queue.empty()) {
      emptied |= !s->visible;
      continue;
    }
    const Work& head = s->queue.front();
    if (head.kind == Work::Wait) continue;
    if (q.late_copies && head.kind == Work::Act && head.action->meets_host()) {
      copies = s.get();
      continue;
    }
    ++candidates;
    if (!next || (q.ranked ? s->rank > next->rank : random_under(candidates) == 0)) next = s.get();
  }
  if (!next) next = copies;
  if (next) {
    const Work work = next->queue.front();
    next->queue.pop_front();
    if (work.kind == Work::Record) {
      work.completion->time_ns = now_ns();
      work.completion->done = true;
    } else {
      work.action->run();
    }
  }
  if (emptied)
    q.streams.erase(std::remove_if(q.streams.begin(), q.streams.end(), [](const auto& s) { return !s->visible && s->queue.empty(); }), q.streams.end());
  return next != nullptr;
}

bool idle() {
  for (auto& s : queues().streams) {
    skip_waits(*s);
    if (!s->queue.empty()) return false;
  }
  return true;
}

bool drained(Stream& s) {
  skip_waits(s);
  return s.queue.empty();
}

}  // namespace

std::shared_ptr<Stream> add_stream(bool blocking) {
  auto s = std::make_shared<Stream>();
  s->blocking = blocking;
  s->rank = random_bits();
  queues().streams.push_back(s);
  return s;
}

std::shared_ptr<Stream> find_stream(void* handle) {
  for (auto& s : queues().streams)
    if (s.get() == handle && s->visible) return s;
  return nullptr;
}

std::shared_ptr<Event> find_event(void* handle) {
  auto found = queues().events.find(handle);
  return found == queues().events.end() ? nullptr : found->second;
}

const std::vector<std::shared_ptr<Stream>>& all_streams() { return queues().streams; }

void push(Stream& stream, Work work) {
  if (!settings().null) {
    if (work.kind == Work::Act) work.action->enqueued();
    stream.queue.push_back(std::move(work));
    return;
  }
  if (work.kind == Work::Act) work.action->run();
  if (work.kind == Work::Record) {
    work.completion->time_ns = now_ns();
    work.completion->done = true;
  }
}

Status enqueue(Stream& stream, std::shared_ptr<Action> action) {
  if (!stream.capture) {
    push(stream, Work{Work::Act, std::move(action), nullptr});
    return CUDA_SUCCESS;
  }
  if (stream.capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  stream.capture->lanes[stream.lane].push_back(Node{Node::Act, std::move(action), 0, nullptr});
  return CUDA_SUCCESS;
}

void note_record(Event& event, std::shared_ptr<Completion> completion) {
  event.last = std::move(completion);
  event.capture = nullptr;
}

void run_until(const std::function<bool()>& done) {
  while (!done())
    if (!step()) abandon("the device can never finish: streams wait for each other");
}

void run_some(unsigned steps) {
  for (unsigned i = 0; i < steps; ++i)
    if (!step()) return;
}

void run_all() { run_until(idle); }

// ---- Entry points ----

namespace {

/// A stream that can take work now, or why not.
Status usable(void* handle, std::shared_ptr<Stream>* stream) {
  if (const Status s = current_context()) return s;
  *stream = find_stream(handle);
  return *stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

Status create_stream(void** handle, unsigned flags) {
  if (const Status s = current_context()) return s;
  if (!handle || flags > 1) return CUDA_ERROR_INVALID_VALUE;
  *handle = add_stream(flags == 0).get();
  return CUDA_SUCCESS;
}

Status record(void* event_handle, void* stream_handle, unsigned flags) {
  std::shared_ptr<Stream> stream;
  if (const Status s = usable(stream_handle, &stream)) return s;
  const auto event = find_event(event_handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  if (flags > 1 || (flags == 1 && !stream->capture)) return CUDA_ERROR_INVALID_VALUE;
  if (stream->capture) return capture_record(*stream, *event, flags == 1 ? event : nullptr);
  auto completion = std::make_shared<Completion>();
  note_record(*event, completion);
  push(*stream, Work{Work::Record, nullptr, completion});
  return CUDA_SUCCESS;
}

Status finished_event(void* handle, std::shared_ptr<Event>* event) {
  if (const Status s = current_context()) return s;
  *event = find_event(handle);
  if (!*event) return CUDA_ERROR_INVALID_HANDLE;
  if ((*event)->capture) return CUDA_ERROR_CAPTURED_EVENT;
  return CUDA_SUCCESS;
}

Status elapsed(float* ms, void* start_handle, void* end_handle) {
  std::shared_ptr<Event> start, end;
  if (const Status s = finished_event(start_handle, &start)) return s;
  if (const Status s = finished_event(end_handle, &end)) return s;
  if (!ms) return CUDA_ERROR_INVALID_VALUE;
  if (!start->timing || !end->timing || !start->last || !end->last) return CUDA_ERROR_INVALID_HANDLE;
  if (fault_lasts("early-event")) {  // as if both had come
    *ms = 0.0005f;
    return CUDA_SUCCESS;
  }
  if (!start->last->done || !end->last->done) return CUDA_ERROR_NOT_READY;
  const int64_t ns = end->last->time_ns - start->last->time_ns;
  const int64_t halves = std::max<int64_t>(1, (std::abs(ns) + 250) / 500);  // the device's clock has half microseconds
  *ms = float(ns < 0 ? -halves : halves) * 0.0005f;
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int cuStreamCreate(void** stream, unsigned flags) {
  Gate gate;
  return create_stream(stream, flags);
}

EXPORT int cuStreamCreateWithPriority(void** stream, unsigned flags, int) {
  Gate gate;
  return create_stream(stream, flags);
}

EXPORT int cuStreamDestroy_v2(void* handle) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = usable(handle, &stream)) return s;
  if (stream->capture) stream->capture->invalid = true;
  stream->capture = nullptr;
  stream->visible = false;  // what is queued still runs
  return CUDA_SUCCESS;
}

EXPORT int cuStreamSynchronize(void* handle) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = usable(handle, &stream)) return s;
  if (const Status s = forbid_on(*stream)) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (fault("early-event", true)) return CUDA_SUCCESS;
  run_until([&] { return drained(*stream); });
  return CUDA_SUCCESS;
}

EXPORT int cuStreamQuery(void* handle) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = usable(handle, &stream)) return s;
  if (const Status s = forbid_on(*stream)) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (fault("early-event", true)) return CUDA_SUCCESS;
  run_some(random_under(4));
  return drained(*stream) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORT int cuStreamWaitEvent(void* handle, void* event_handle, unsigned flags) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = usable(handle, &stream)) return s;
  const auto event = find_event(event_handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  if (flags > 1 || (flags == 1 && !stream->capture)) return CUDA_ERROR_INVALID_VALUE;
  if (fault("drop-wait")) return CUDA_SUCCESS;
  if (stream->capture || event->capture) return capture_wait(*stream, event, flags == 1);
  if (event->last) push(*stream, Work{Work::Wait, nullptr, event->last});
  return CUDA_SUCCESS;
}

EXPORT int cuEventCreate(void** handle, unsigned flags) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (!handle || flags > 7) return CUDA_ERROR_INVALID_VALUE;
  auto event = std::make_shared<Event>();
  event->timing = (flags & 2) == 0;  // CU_EVENT_DISABLE_TIMING
  queues().events[event.get()] = event;
  *handle = event.get();
  return CUDA_SUCCESS;
}

EXPORT int cuEventDestroy_v2(void* handle) {
  Gate gate;
  if (const Status s = current_context()) return s;
  return queues().events.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT int cuEventRecord(void* event, void* stream) {
  Gate gate;
  return record(event, stream, 0);
}

EXPORT int cuEventRecordWithFlags(void* event, void* stream, unsigned flags) {
  Gate gate;
  return record(event, stream, flags);
}

EXPORT int cuEventQuery(void* handle) {
  Gate gate;
  std::shared_ptr<Event> event;
  if (const Status s = finished_event(handle, &event)) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (fault("early-event", true)) return CUDA_SUCCESS;
  run_some(random_under(4));
  return !event->last || event->last->done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORT int cuEventSynchronize(void* handle) {
  Gate gate;
  std::shared_ptr<Event> event;
  if (const Status s = finished_event(handle, &event)) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (fault("early-event", true)) return CUDA_SUCCESS;
  if (const auto last = event->last) run_until([&] { return last->done; });
  return CUDA_SUCCESS;
}

EXPORT int cuEventElapsedTime(float* ms, void* start, void* end) {
  Gate gate;
  return elapsed(ms, start, end);
}

EXPORT int cuEventElapsedTime_v2(float* ms, void* start, void* end) {
  Gate gate;
  return elapsed(ms, start, end);
}
