// Allocating, copying and setting memory.
#include "machine.h"

#include <cstring>

namespace emulator {
namespace {

void* pointer(Address at) { return reinterpret_cast<void*>(at); }

/// The nullary stream is refused for asynchronous work: nothing here needs its rules.
Status target(void* handle, std::shared_ptr<Stream>* stream) {
  if (const Status s = current_context()) return s;
  *stream = find_stream(handle);
  if (*stream) return CUDA_SUCCESS;
  return handle ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_NOT_SUPPORTED;
}

struct Copy : Action {
  Address to, from;
  size_t bytes;
  std::vector<unsigned char> staged;  // of pageable memory, as it was when the copy was enqueued

  Copy(Address to_, Address from_, size_t bytes_) : to(to_), from(from_), bytes(fault("short-copy") ? bytes_ / 2 : bytes_) {}

  void run() override {
    if (!bytes) return;
    memmove(pointer(to), staged.empty() ? pointer(from) : staged.data(), bytes);
  }
};

struct DeviceCopy : Copy {
  Home home_to, home_from;
  size_t whole;  // also of a copy that a planted fault has shortened
  DeviceCopy(Address to_, Home home_to_, Address from_, Home home_from_, size_t bytes_)
      : Copy(to_, from_, bytes_), home_to(home_to_), home_from(home_from_), whole(bytes_) {}

  bool meets_host() const override { return staged.empty() && (home_from == Home::Pinned || home_to == Home::Pinned); }

  /// From now on the copy may run at any time: whoever reads the host's side before its event must not find what an earlier copy left.
  void enqueued() override {
    if (home_from == Home::Pinned && staged.empty()) add_host_reader({from, bytes});
    if (home_to == Home::Pinned && lies_in(home_to, to, whole) && !has_host_reader({to, whole})) memset(pointer(to), 0xFF, whole);
  }

  void run() override {
    if (home_from == Home::Pinned && staged.empty()) remove_host_reader({from, bytes});
    const bool live = lies_in(home_to, to, bytes) && (!staged.empty() || lies_in(home_from, from, bytes));
    if (!live) abandon("a copy of %zu bytes from %p to %p ran after its memory was freed", bytes, pointer(from), pointer(to));
    Copy::run();
  }
};

struct Set : Action {
  Address to;
  size_t count;
  unsigned value;
  bool words;
  Set(Address to_, size_t count_, unsigned value_, bool words_) : to(to_), count(count_), value(value_), words(words_) {}
  void run() override {
    if (!lies_in(Home::Device, to, count * (words ? 4 : 1))) abandon("a memset of %p ran after its memory was freed", pointer(to));
    if (!words) memset(pointer(to), int(value), count);
    else
      for (size_t i = 0; i < count; ++i) static_cast<unsigned*>(pointer(to))[i] = value;
  }
};

Status set(Address to, unsigned value, size_t count, bool words, void* handle) {
  std::shared_ptr<Stream> stream;
  if (const Status s = target(handle, &stream)) return s;
  if (count == 0) return CUDA_SUCCESS;
  if (!lies_in(Home::Device, to, count * (words ? 4 : 1)) || (words && to % 4)) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(*stream, std::make_shared<Set>(to, count, value, words));
}

/// What the legacy stream waits for before a synchronous copy.
void run_blocking_streams() {
  run_until([] {
    for (auto& s : all_streams())
      if (s->blocking && !s->queue.empty()) return false;
    return true;
  });
  run_some(random_under(4));  // others may go on meanwhile
}

Status synchronous_copy(Address to, Address from, size_t bytes, Address device) {
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (bytes == 0) return CUDA_SUCCESS;
  if (!to || !from || !lies_in(Home::Device, device, bytes)) return CUDA_ERROR_INVALID_VALUE;
  run_blocking_streams();
  memcpy(pointer(to), pointer(from), bytes);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int cuMemGetInfo_v2(size_t* free, size_t* total) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (!free || !total) return CUDA_ERROR_INVALID_VALUE;
  free_memory(free, total);
  return CUDA_SUCCESS;
}

EXPORT int cuMemAlloc_v2(Address* at, size_t bytes) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  return allocate(Home::Device, bytes, at);
}

EXPORT int cuMemFree_v2(Address at) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (!lies_in(Home::Device, at, 1)) return CUDA_ERROR_INVALID_VALUE;
  run_all();  // the driver waits for the device before it frees
  return release(Home::Device, at);
}

EXPORT int cuMemHostAlloc(void** at, size_t bytes, unsigned flags) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  if (!at || flags > 7) return CUDA_ERROR_INVALID_VALUE;
  Address address = 0;
  const Status s = allocate(Home::Pinned, bytes, &address);
  *at = pointer(address);
  return s;
}

EXPORT int cuMemFreeHost(void* at) {
  Gate gate;
  if (const Status s = current_context()) return s;
  if (const Status s = forbid_in_capture()) return s;
  const Address address = reinterpret_cast<Address>(at);
  if (!lies_in(Home::Pinned, address, 1)) return CUDA_ERROR_INVALID_VALUE;
  run_all();
  return release(Home::Pinned, address);
}

EXPORT int cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
  Gate gate;
  return synchronous_copy(to, reinterpret_cast<Address>(from), bytes, to);
}

EXPORT int cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
  Gate gate;
  return synchronous_copy(reinterpret_cast<Address>(to), from, bytes, from);
}

EXPORT int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* handle) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = target(handle, &stream)) return s;
  if (bytes == 0) return CUDA_SUCCESS;
  const Address source = reinterpret_cast<Address>(from);
  if (!from || !lies_in(Home::Device, to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  auto copy = std::make_shared<DeviceCopy>(to, Home::Device, source, Home::Pinned, bytes);
  if (!lies_in(Home::Pinned, source, bytes)) {
    if (const Status s = forbid_on(*stream)) return s;  // the driver would read it at each replay: nobody wants that
    const auto* start = static_cast<const unsigned char*>(from);
    copy->staged.assign(start, start + copy->bytes);
  }
  return enqueue(*stream, copy);
}

EXPORT int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* handle) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = target(handle, &stream)) return s;
  if (bytes == 0) return CUDA_SUCCESS;
  const Address goal = reinterpret_cast<Address>(to);
  if (!to || !lies_in(Home::Device, from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (lies_in(Home::Pinned, goal, bytes)) return enqueue(*stream, std::make_shared<DeviceCopy>(goal, Home::Pinned, from, Home::Device, bytes));
  // To pageable memory the call returns when the copy is done.
  if (const Status s = forbid_on(*stream)) return s;
  auto done = std::make_shared<Completion>();
  if (const Status s = enqueue(*stream, std::make_shared<Copy>(goal, from, bytes))) return s;
  push(*stream, Work{Work::Record, nullptr, done});
  run_until([&] { return done->done; });
  return CUDA_SUCCESS;
}

EXPORT int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* handle) {
  Gate gate;
  std::shared_ptr<Stream> stream;
  if (const Status s = target(handle, &stream)) return s;
  if (bytes == 0) return CUDA_SUCCESS;
  if (!lies_in(Home::Device, to, bytes) || !lies_in(Home::Device, from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(*stream, std::make_shared<DeviceCopy>(to, Home::Device, from, Home::Device, bytes));
}

EXPORT int cuMemsetD8Async(Address to, unsigned char value, size_t count, void* stream) {
  Gate gate;
  return set(to, value, count, false, stream);
}

EXPORT int cuMemsetD32Async(Address to, unsigned value, size_t count, void* stream) {
  Gate gate;
  return set(to, value, count, true, stream);
}
