#include "tests/distributed/nccl_emulation.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tests/distributed/nccl_numbers.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/local.h>

using halfstep::Communicator;

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  bool ends = false;
  std::atomic<bool> is_stuck = false;  // in a kernel that waits for a rank that has gone
  std::atomic<bool> ends_now = false;  // nobody waits for what it still has to do
  std::thread thread{[this] {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return ends || !work.empty(); });
      if (work.empty()) return;
      const auto next = std::move(work.front());
      work.pop_front();
      lock.unlock();
      next();
      lock.lock();
    }
  }};
};
struct CUevent_st {
  std::atomic<int> recorded = 0, happened = 0;  // how often; each is waited for by itself
};
struct ncclComm {
  std::shared_ptr<Communicator> ranks;
  int rank = 0;
  std::atomic<ncclResult_t> state = ncclInProgress;
  std::chrono::steady_clock::time_point until = {};  // under way until then
};

namespace halfstep::emulation {
namespace {

using test::dtype_of;
using test::reduced;

/// The ranks that have come to a unique id.
struct Meeting {
  std::vector<std::shared_ptr<Communicator>> ranks;
  std::vector<ncclComm*> present;
};

using Blocks = std::map<const std::byte*, std::size_t>;

struct State {
  std::mutex mutex;
  const Faults* faults = nullptr;
  std::map<std::string, Meeting> meetings;
  Blocks device, pinned;
  std::string refusal;
  int ids = 0;
};
State& state() {
  static State s;
  return s;
}
std::atomic<int> live = 0, abort_calls = 0, exited = -1;
thread_local int this_rank = -1;

bool is_at_fault(const std::string& named, const char* call) {
  const std::lock_guard lock(state().mutex);
  const Faults* faults = state().faults;
  return faults->rank == this_rank && named == call;
}
bool fails(const char* call) { return is_at_fault(state().faults->call, call); }

void refuse(const std::string& why) {
  const std::lock_guard lock(state().mutex);
  state().refusal = why;
}

bool holds(const Blocks& blocks, const void* memory, std::size_t bytes) {
  const std::lock_guard lock(state().mutex);
  const auto* at = static_cast<const std::byte*>(memory);
  auto block = blocks.upper_bound(at);
  if (block == blocks.begin()) return false;
  --block;
  return at + bytes <= block->first + block->second;
}
bool is_device(const void* memory, std::size_t bytes) { return holds(state().device, memory, bytes); }

void enqueue(cudaStream_t stream, std::function<void()> work) {
  {
    const std::lock_guard lock(stream->mutex);
    stream->work.push_back(std::move(work));
  }
  stream->changed.notify_one();
}

/// What all ranks give.
std::vector<std::byte> gathered(Communicator& ranks, const void* from, std::size_t bytes) {
  std::vector<std::byte> all(bytes * static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(from, all.data(), bytes);
  return all;
}

/// A call of a collective: `work` runs in the stream's order. What is wrong with it is found as NCCL finds it.
ncclResult_t collective(const char* call, ncclComm_t communicator, cudaStream_t stream, const void* from,
                        std::size_t from_bytes, const void* to, std::size_t to_bytes, std::function<void()> work) {
  if (fails(call)) return ncclSystemError;
  if (!is_device(from, from_bytes) || !is_device(to, to_bytes)) {
    refuse(std::string(call) + " of memory that is not the device's");
    return ncclInvalidArgument;
  }
  if (const ncclResult_t now = communicator->state; now != ncclSuccess) {
    if (now != ncclRemoteError) refuse(std::string(call) + " while the communicator is busy or ended");
    return now == ncclRemoteError ? now : ncclInvalidUsage;
  }
  if (is_at_fault(state().faults->later, call)) {
    enqueue(stream, [communicator, stream] {
      stream->is_stuck = true;
      communicator->state = ncclRemoteError;
      communicator->ranks->abort(1);
    });
    return ncclSuccess;
  }
  const bool is_slow = is_at_fault(state().faults->slow, call);
  if (is_slow) {
    communicator->until = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
    communicator->state = ncclInProgress;
  }
  enqueue(stream, [work = std::move(work), communicator, stream] {
    try {
      work();
    } catch (const Error&) {
      stream->is_stuck = true;
      communicator->state = ncclRemoteError;
    }
  });
  return is_slow ? ncclInProgress : ncclSuccess;
}

ncclResult_t get_unique_id(ncclUniqueId* id) {
  if (fails("ncclGetUniqueId")) return ncclSystemError;
  const std::lock_guard lock(state().mutex);
  *id = {};
  const std::string text = "id " + std::to_string(++state().ids);
  std::ranges::copy(text, id->internal);
  return ncclSuccess;
}

ncclResult_t init_rank(ncclComm_t* made, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (fails("ncclCommInitRankConfig")) return ncclSystemError;
  if (config->blocking != 0) refuse("a communicator that blocks");
  const std::lock_guard lock(state().mutex);
  Meeting& meeting = state().meetings[id.internal];
  if (meeting.ranks.empty()) meeting.ranks = make_local_communicators(size);
  if (rank < 0 || rank >= size || static_cast<int>(meeting.ranks.size()) != size) return ncclInvalidArgument;
  *made = new ncclComm;
  ++live;
  (*made)->ranks = meeting.ranks[static_cast<std::size_t>(rank)];
  (*made)->rank = rank;
  meeting.present.push_back(*made);
  if (static_cast<int>(meeting.present.size()) == size)
    for (ncclComm* one : meeting.present) one->state = ncclSuccess;
  return ncclInProgress;
}

ncclResult_t async_error(ncclComm_t communicator, ncclResult_t* now) {
  if (fails("ncclCommGetAsyncError")) return ncclSystemError;
  if (communicator->until != std::chrono::steady_clock::time_point() &&
      communicator->until < std::chrono::steady_clock::now()) {
    communicator->until = {};
    ncclResult_t busy = ncclInProgress;
    communicator->state.compare_exchange_strong(busy, ncclSuccess);
  }
  *now = communicator->state;
  return ncclSuccess;
}

ncclResult_t finalize(ncclComm_t) { return fails("ncclCommFinalize") ? ncclSystemError : ncclSuccess; }

void forget(ncclComm_t communicator) {
  const std::lock_guard lock(state().mutex);
  for (auto& [id, meeting] : state().meetings) std::erase(meeting.present, communicator);
  // Work of its stream may still look at it, as NCCL's own threads do.
  static std::vector<std::unique_ptr<ncclComm>> gone;
  gone.emplace_back(communicator);
  --live;
}
ncclResult_t destroy(ncclComm_t communicator) {
  forget(communicator);
  return ncclSuccess;
}
ncclResult_t abort(ncclComm_t communicator) {
  ++abort_calls;
  communicator->state = ncclInvalidUsage;
  communicator->ranks->abort(1);
  forget(communicator);
  return ncclSuccess;
}
const char* error_string(ncclResult_t result) {
  return result == ncclRemoteError   ? "remote process exited or there was a network error"
         : result == ncclSystemError ? "unhandled system error"
                                     : "another error";
}

ncclResult_t all_reduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t operation,
                        ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  return collective("ncclAllReduce", communicator, stream, from, bytes, to, bytes, [=] {
    const auto sums = reduced(gathered(*communicator->ranks, from, bytes), count, type, operation);
    std::memcpy(to, sums.data(), bytes);
  });
}
ncclResult_t reduce_scatter(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t operation,
                            ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  const auto size = static_cast<std::size_t>(communicator->ranks->size());
  return collective("ncclReduceScatter", communicator, stream, from, bytes * size, to, bytes, [=] {
    const auto sums = reduced(gathered(*communicator->ranks, from, bytes * size), count * size, type, operation);
    std::memcpy(to, sums.data() + bytes * static_cast<std::size_t>(communicator->rank), bytes);
  });
}
ncclResult_t all_gather(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclComm_t communicator,
                        cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  return collective("ncclAllGather", communicator, stream, from, bytes, to,
                    bytes * static_cast<std::size_t>(communicator->ranks->size()),
                    [=] { communicator->ranks->all_gather(from, to, bytes); });
}
ncclResult_t broadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                       ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  const bool gives = communicator->rank == root;
  return collective("ncclBroadcast", communicator, stream, from, gives ? bytes : 0, to, bytes, [=] {
    if (gives) std::memmove(to, from, bytes);
    communicator->ranks->broadcast(to, bytes, root);
  });
}

cudaError_t set_device(int device) {
  return fails("cudaSetDevice") || device != 0 ? cudaErrorInvalidDevice : cudaSuccess;
}
cudaError_t take(Blocks& blocks, void** memory, std::size_t bytes) {
  auto* block = new std::byte[bytes];
  std::memset(block, 0xcd, bytes);
  const std::lock_guard lock(state().mutex);
  blocks[block] = bytes;
  *memory = block;
  ++live;
  return cudaSuccess;
}
cudaError_t give_back(Blocks& blocks, void* memory) {
  const std::lock_guard lock(state().mutex);
  if (blocks.erase(static_cast<std::byte*>(memory)) == 0) state().refusal = "memory that was not allocated";
  // Kept where work of a stream may still write: CUDA waits for that.
  static std::vector<std::unique_ptr<std::byte[]>> freed;
  freed.emplace_back(static_cast<std::byte*>(memory));
  --live;
  return cudaSuccess;
}
cudaError_t allocate(void** memory, std::size_t bytes) {
  return fails("cudaMalloc") ? cudaErrorMemoryAllocation : take(state().device, memory, bytes);
}
cudaError_t release(void* memory) { return give_back(state().device, memory); }
cudaError_t allocate_pinned(void** memory, std::size_t bytes) {
  return fails("cudaMallocHost") ? cudaErrorMemoryAllocation : take(state().pinned, memory, bytes);
}
cudaError_t release_pinned(void* memory) { return give_back(state().pinned, memory); }
cudaError_t create_stream(cudaStream_t* stream) {
  if (fails("cudaStreamCreateWithFlags")) return cudaErrorMemoryAllocation;
  *stream = new CUstream_st;
  ++live;
  return cudaSuccess;
}
cudaError_t destroy_stream(cudaStream_t stream) {
  {
    const std::lock_guard lock(stream->mutex);
    stream->ends = stream->ends_now = true;
  }
  stream->changed.notify_one();
  stream->thread.join();
  delete stream;
  --live;
  return cudaSuccess;
}
cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (fails("cudaMemcpyAsync")) return cudaErrorIllegalAddress;
  const bool goes = kind != cudaMemcpyDeviceToHost;
  if (!is_device(goes ? to : from, bytes)) refuse("a copy that is none of the device");
  if (kind != cudaMemcpyDeviceToDevice && !holds(state().pinned, goes ? from : to, bytes))
    refuse("a copy of pageable memory, which waits");
  enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t create_event(cudaEvent_t* event) {
  if (fails("cudaEventCreateWithFlags")) return cudaErrorMemoryAllocation;
  *event = new CUevent_st;
  ++live;
  return cudaSuccess;
}
cudaError_t destroy_event(cudaEvent_t event) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  static std::vector<std::unique_ptr<CUevent_st>> gone;
  gone.emplace_back(event);
  --live;
  return cudaSuccess;
}
cudaError_t record(cudaEvent_t event, cudaStream_t stream) {
  if (fails("cudaEventRecord")) return cudaErrorIllegalAddress;
  const int time = ++event->recorded;
  enqueue(stream, [event, stream, time] {
    if (!stream->is_stuck) event->happened = time;
  });
  return cudaSuccess;
}
cudaError_t stream_wait(cudaStream_t stream, cudaEvent_t event) {
  if (fails("cudaStreamWaitEvent")) return cudaErrorIllegalAddress;
  const int time = event->recorded;
  enqueue(stream, [event, stream, time] {
    while (event->happened < time && !stream->ends_now) std::this_thread::sleep_for(std::chrono::microseconds(20));
    if (event->happened < time) stream->is_stuck = true;
  });
  return cudaSuccess;
}
cudaError_t query(cudaEvent_t event) {
  if (fails("cudaEventQuery")) return cudaErrorIllegalAddress;
  return event->happened == event->recorded ? cudaSuccess : cudaErrorNotReady;
}
const char* cuda_error_string(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an illegal memory access was encountered";
}

}  // namespace

nccl::Api api(const Faults& faults) {
  state().faults = &faults;
  return {.get_unique_id = get_unique_id,
          .init_rank = init_rank,
          .finalize = finalize,
          .destroy = destroy,
          .abort = abort,
          .async_error = async_error,
          .error_string = error_string,
          .all_reduce = all_reduce,
          .reduce_scatter = reduce_scatter,
          .all_gather = all_gather,
          .broadcast = broadcast,
          .device_count = nullptr,
          .device_properties = nullptr,
          .set_device = set_device,
          .allocate = allocate,
          .free = release,
          .allocate_pinned = allocate_pinned,
          .free_pinned = release_pinned,
          .create_stream = create_stream,
          .destroy_stream = destroy_stream,
          .copy = copy,
          .create_event = create_event,
          .destroy_event = destroy_event,
          .record = record,
          .query = query,
          .stream_wait = stream_wait,
          .cuda_error_string = cuda_error_string,
          .exit = [](int code) { exited = code; }};
}
void compute(cudaStream_t stream, std::chrono::milliseconds time) {
  enqueue(stream, [time] { std::this_thread::sleep_for(time); });
}
void be_rank(int rank) { this_rank = rank; }
int live_objects() { return live; }
int aborts() { return abort_calls; }
int exit_code() { return exited; }
void forget_exit() { exited = -1; }
std::string refusal() {
  const std::lock_guard lock(state().mutex);
  return std::exchange(state().refusal, {});
}

}  // namespace halfstep::emulation
