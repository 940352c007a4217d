// Stream capture and graphs. A captured graph has a lane per stream that took part; a launch spreads its lanes over the launching stream and hidden ones.
#include "machine.h"

#include <unordered_map>

namespace emulator {
namespace {

struct Graph {
  std::vector<std::vector<Node>> lanes;
  unsigned points;
};

struct Executable {
  std::shared_ptr<Graph> graph;
  std::shared_ptr<Completion> last;  // launches of one executable follow each other
};

struct Graphs {
  std::unordered_map<void*, std::shared_ptr<Graph>> graphs;
  std::unordered_map<void*, std::shared_ptr<Executable>> executables;
  std::vector<std::weak_ptr<Capture>> captures;
};

Graphs& graphs() {
  static Graphs* one = new Graphs;
  return *one;
}

/// How many nodes of each lane the end of lane 0 depends on.
std::vector<size_t> joined(const Capture& capture) {
  const auto& lanes = capture.lanes;
  std::vector<size_t> reached(lanes.size(), 0);
  std::vector<std::pair<size_t, size_t>> place(capture.points);  // of each point: lane, count of nodes before
  for (size_t lane = 0; lane < lanes.size(); ++lane)
    for (size_t i = 0; i < lanes[lane].size(); ++i)
      if (lanes[lane][i].kind == Node::RecordPoint) place[lanes[lane][i].point] = {lane, i};
  reached[0] = lanes[0].size();
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      for (size_t i = 0; i < reached[lane]; ++i) {
        if (lanes[lane][i].kind != Node::WaitPoint) continue;
        const auto [from, count] = place[lanes[lane][i].point];
        if (reached[from] < count) reached[from] = count, changed = true;
      }
  }
  return reached;
}

bool all_joined(const Capture& capture) {
  const std::vector<size_t> reached = joined(capture);
  for (size_t lane = 0; lane < reached.size(); ++lane)
    for (size_t i = reached[lane]; i < capture.lanes[lane].size(); ++i)
      if (capture.lanes[lane][i].kind == Node::Act) return false;
  return true;
}

/// Leaves the capture in all of its streams and in events.
void end(Capture& capture) {
  capture.ended = true;
  for (auto& s : all_streams())
    if (s->capture.get() == &capture) s->capture = nullptr;
}

Work as_work(const Node& node, const std::vector<std::shared_ptr<Completion>>& points) {
  switch (node.kind) {
    case Node::Act: return Work{Work::Act, node.action, nullptr};
    case Node::RecordPoint: return Work{Work::Record, nullptr, points[node.point]};
    case Node::WaitPoint: return Work{Work::Wait, nullptr, points[node.point]};
    case Node::RecordEvent: {
      auto completion = std::make_shared<Completion>();
      note_record(*node.event, completion);
      return Work{Work::Record, nullptr, completion};
    }
    case Node::WaitEvent: break;
  }
  auto last = node.event->last;
  if (!last) last = std::make_shared<Completion>(Completion{true, 0});
  return Work{Work::Wait, nullptr, last};
}

void launch(Executable& executable, Stream& stream) {
  const Graph& graph = *executable.graph;
  if (executable.last) push(stream, Work{Work::Wait, nullptr, executable.last});
  std::vector<std::shared_ptr<Completion>> points(graph.points);
  for (auto& p : points) p = std::make_shared<Completion>();
  auto begun = std::make_shared<Completion>(), ended = std::make_shared<Completion>();
  if (graph.lanes.size() > 1) push(stream, Work{Work::Record, nullptr, begun});
  std::vector<std::shared_ptr<Completion>> lane_ends;
  for (size_t lane = 1; lane < graph.lanes.size(); ++lane) {
    auto hidden = add_stream(false);
    hidden->visible = false;
    push(*hidden, Work{Work::Wait, nullptr, begun});
    for (const Node& node : graph.lanes[lane]) push(*hidden, as_work(node, points));
    lane_ends.push_back(std::make_shared<Completion>());
    push(*hidden, Work{Work::Record, nullptr, lane_ends.back()});
  }
  for (const Node& node : graph.lanes[0]) push(stream, as_work(node, points));
  for (auto& e : lane_ends) push(stream, Work{Work::Wait, nullptr, e});
  push(stream, Work{Work::Record, nullptr, ended});
  executable.last = ended;
}

Status refused(Capture& capture, Status status) {
  capture.invalid = true;
  return status;
}

}  // namespace

Status forbid_in_capture() {
  const auto me = std::this_thread::get_id();
  Status status = CUDA_SUCCESS;
  auto& all = graphs().captures;
  for (size_t i = 0; i < all.size();) {
    const auto capture = all[i].lock();
    if (!capture || capture->ended) {
      all.erase(all.begin() + static_cast<long>(i));
      continue;
    }
    ++i;
    const bool forbids = capture->mode == CAPTURE_GLOBAL || (capture->mode == CAPTURE_THREAD_LOCAL && capture->thread == me);
    if (forbids) status = refused(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  return status;
}

Status forbid_on(Stream& stream) {
  if (!stream.capture) return CUDA_SUCCESS;
  return refused(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

Status capture_record(Stream& stream, Event& event, const std::shared_ptr<Event>& external) {
  Capture& capture = *stream.capture;
  if (capture.invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  auto& lane = capture.lanes[stream.lane];
  if (external) {
    lane.push_back(Node{Node::RecordEvent, nullptr, 0, external});
    return CUDA_SUCCESS;
  }
  event.capture = stream.capture;
  event.point = capture.points++;
  lane.push_back(Node{Node::RecordPoint, nullptr, event.point, nullptr});
  return CUDA_SUCCESS;
}

Status capture_wait(Stream& stream, const std::shared_ptr<Event>& event, bool external) {
  if (stream.capture && stream.capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (external) {
    stream.capture->lanes[stream.lane].push_back(Node{Node::WaitEvent, nullptr, 0, event});
    return CUDA_SUCCESS;
  }
  if (!event->capture) {
    if (!event->last) return CUDA_SUCCESS;
    return refused(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  }
  if (event->capture->ended) return CUDA_ERROR_CAPTURED_EVENT;
  if (event->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream.capture && stream.capture != event->capture) return refused(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  if (!stream.capture) {  // joins the capture as a lane of its own
    stream.capture = event->capture;
    stream.lane = unsigned(stream.capture->lanes.size());
    stream.capture->lanes.emplace_back();
  }
  stream.capture->lanes[stream.lane].push_back(Node{Node::WaitPoint, nullptr, event->point, nullptr});
  return CUDA_SUCCESS;
}

}  // namespace emulator

using namespace emulator;

EXPORT int cuStreamBeginCapture_v2(void* handle, int mode) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto stream = find_stream(handle);
  if (!stream) return handle ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (mode < 0 || mode > 2) return CUDA_ERROR_INVALID_VALUE;
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  auto capture = std::make_shared<Capture>();
  capture->origin = stream.get();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->lanes.resize(1);
  stream->capture = capture;
  stream->lane = 0;
  graphs().captures.push_back(capture);
  return CUDA_SUCCESS;
}

EXPORT int cuStreamEndCapture(void* handle, void** graph_handle) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!graph_handle) return CUDA_ERROR_INVALID_VALUE;
  *graph_handle = nullptr;
  const auto capture = stream->capture;
  if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->origin != stream.get()) return refused(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  if (capture->mode != CAPTURE_RELAXED && capture->thread != std::this_thread::get_id()) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  end(*capture);
  if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!all_joined(*capture)) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  auto graph = std::make_shared<Graph>(Graph{capture->lanes, capture->points});
  graphs().graphs[graph.get()] = graph;
  *graph_handle = graph.get();
  return CUDA_SUCCESS;
}

EXPORT int cuStreamIsCapturing(void* handle, int* status) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!status) return CUDA_ERROR_INVALID_VALUE;
  *status = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
  return CUDA_SUCCESS;
}

EXPORT int cuGraphInstantiateWithFlags(void** executable_handle, void* graph_handle, unsigned long long flags) {
  Gate gate;
  if (const Status s = current_context()) return s;
  const auto found = graphs().graphs.find(graph_handle);
  if (!executable_handle || found == graphs().graphs.end() || flags > 15) return CUDA_ERROR_INVALID_VALUE;
  auto executable = std::make_shared<Executable>(Executable{found->second, nullptr});
  graphs().executables[executable.get()] = executable;
  *executable_handle = executable.get();
  return CUDA_SUCCESS;
}

static Status launchable(void* executable_handle, void* stream_handle, std::shared_ptr<Executable>* executable, std::shared_ptr<Stream>* stream) {
  if (const Status s = current_context()) return s;
  const auto found = graphs().executables.find(executable_handle);
  if (found == graphs().executables.end()) return CUDA_ERROR_INVALID_VALUE;
  *executable = found->second;
  *stream = find_stream(stream_handle);
  return *stream ? forbid_on(**stream) : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT int cuGraphLaunch(void* executable_handle, void* stream_handle) {
  Gate gate;
  std::shared_ptr<Executable> executable;
  std::shared_ptr<Stream> stream;
  if (const Status s = launchable(executable_handle, stream_handle, &executable, &stream)) return s;
  launch(*executable, *stream);
  return CUDA_SUCCESS;
}

EXPORT int cuGraphUpload(void* executable_handle, void* stream_handle) {
  Gate gate;
  std::shared_ptr<Executable> executable;
  std::shared_ptr<Stream> stream;
  return launchable(executable_handle, stream_handle, &executable, &stream);
}

EXPORT int cuGraphExecDestroy(void* handle) {
  Gate gate;
  return graphs().executables.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT int cuGraphDestroy(void* handle) {
  Gate gate;
  return graphs().graphs.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
