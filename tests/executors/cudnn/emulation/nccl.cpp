#include "tests/executors/cudnn/emulation/nccl.h"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/distributed/nccl_numbers.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/streams.h"
#include <halfstep/base/dtype.h>
#include <halfstep/base/error.h>

namespace {

using Bytes = std::vector<std::byte>;

/// One operation of all ranks.
struct Operation {
  std::vector<Bytes> given;  // by rank
  int arrived = 0;
};

struct Meeting {
  int size = 0, present = 0;
  bool is_aborted = false;
  std::map<std::size_t, Operation> operations;
};

}  // namespace

struct ncclComm {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  std::size_t operations = 0;
  bool is_aborted = false;
};

namespace emulation {
namespace {

using halfstep::bytes_of;
using halfstep::test::dtype_of;
using halfstep::test::reduced;

std::map<std::string, std::shared_ptr<Meeting>> meetings;
int ids = 0, operations = 0;

/// Whose turn it is.
struct Turns {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<bool> is_there;
  std::size_t now = 0;

  void next() {
    for (std::size_t tries = 0; tries < is_there.size(); ++tries) {
      now = (now + 1) % is_there.size();
      if (is_there[now]) break;
    }
    changed.notify_all();
  }
} turns;
thread_local std::size_t this_rank = 0;

void await_turn(std::unique_lock<std::mutex>& lock) {
  turns.changed.wait(lock, [] { return turns.now == this_rank; });
}
void pass_turn() {
  std::unique_lock lock(turns.mutex);
  if (turns.is_there.empty()) return;
  turns.next();
  await_turn(lock);
}

/// What all ranks gave.
Bytes joined(const std::vector<Bytes>& given) {
  Bytes all;
  for (const Bytes& each : given) all.insert(all.end(), each.begin(), each.end());
  return all;
}

/// Reads and writes at any time between its two pieces of work: what it writes is nothing before the second.
ncclResult_t collective(ncclComm_t communicator, cudaStream_t stream, const void* from, std::size_t from_bytes,
                        void* to, std::size_t to_bytes, const std::function<Bytes(const std::vector<Bytes>&)>& result) {
  if (!is_device(from, from_bytes) || !is_device(to, to_bytes)) {
    refuse("an operation of NCCL on memory that is not the device's");
    return ncclInvalidArgument;
  }
  if (stream->capturing) {
    refuse("an operation of NCCL while its stream is captured");
    return ncclInvalidUsage;
  }
  ++operations;
  const std::size_t number = communicator->operations++;
  const std::shared_ptr<Meeting> meeting = communicator->meeting;
  const auto size = static_cast<std::size_t>(meeting->size), rank = static_cast<std::size_t>(communicator->rank);
  enqueue(stream, [=] {
    Operation& operation = meeting->operations[number];
    operation.given.resize(size);
    const auto* bytes = static_cast<const std::byte*>(from);
    operation.given[rank].assign(bytes, bytes + from_bytes);
    ++operation.arrived;
    std::memset(to, 0xff, to_bytes);  // NaN
  });
  enqueue(
      stream,
      [=] {
        if (meeting->operations[number].arrived < meeting->size) return;
        const Bytes all = result(meeting->operations[number].given);
        if (to_bytes > 0) std::memcpy(to, all.data(), to_bytes);
      },
      {}, [=] { return meeting->is_aborted || meeting->operations[number].arrived == meeting->size; });
  return ncclSuccess;
}

ncclResult_t get_unique_id(ncclUniqueId* id) {
  *id = {};
  const std::string text = "id " + std::to_string(++ids);
  std::ranges::copy(text, id->internal);
  return ncclSuccess;
}
ncclResult_t init_rank(ncclComm_t* made, int size, ncclUniqueId id, int rank, ncclConfig_t*) {
  std::shared_ptr<Meeting>& meeting = meetings[id.internal];
  if (!meeting) meeting = std::make_shared<Meeting>(Meeting{.size = size, .operations = {}});
  ++meeting->present;
  *made = new ncclComm{.meeting = meeting, .rank = rank};
  count_object(1);
  return ncclInProgress;
}
ncclResult_t async_error(ncclComm_t communicator, ncclResult_t* now) {
  pass_turn();
  const Meeting& meeting = *communicator->meeting;
  *now = meeting.is_aborted ? ncclRemoteError : meeting.present < meeting.size ? ncclInProgress : ncclSuccess;
  return ncclSuccess;
}
ncclResult_t finalize(ncclComm_t) { return ncclSuccess; }
ncclResult_t destroy(ncclComm_t communicator) {
  delete communicator;
  count_object(-1);
  return ncclSuccess;
}
ncclResult_t abort(ncclComm_t communicator) {
  communicator->meeting->is_aborted = true;
  return destroy(communicator);
}
const char* error_string(ncclResult_t) { return "remote process exited or there was a network error"; }

ncclResult_t all_reduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t operation,
                        ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  return collective(communicator, stream, from, bytes, to, bytes,
                    [=](const std::vector<Bytes>& given) { return reduced(joined(given), count, type, operation); });
}
ncclResult_t reduce_scatter(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t operation,
                            ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count),
                    first = bytes * static_cast<std::size_t>(communicator->rank);
  return collective(communicator, stream, from, bytes * static_cast<std::size_t>(communicator->meeting->size), to,
                    bytes, [=](const std::vector<Bytes>& given) {
                      const Bytes all = reduced(joined(given), count * given.size(), type, operation);
                      const auto* part = all.data() + first;
                      return Bytes(part, part + bytes);
                    });
}
ncclResult_t all_gather(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclComm_t communicator,
                        cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  return collective(communicator, stream, from, bytes, to,
                    bytes * static_cast<std::size_t>(communicator->meeting->size), joined);
}
ncclResult_t broadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                       ncclComm_t communicator, cudaStream_t stream) {
  const std::size_t bytes = bytes_of(dtype_of(type), count);
  const bool gives = communicator->rank == root;
  return collective(communicator, stream, from, gives ? bytes : 0, to, bytes,
                    [=](const std::vector<Bytes>& given) { return given[static_cast<std::size_t>(root)]; });
}

decltype(halfstep::nccl::Api::query) query_of_cuda = nullptr;
cudaError_t query(cudaEvent_t event) {
  pass_turn();
  return query_of_cuda(event);
}

}  // namespace

halfstep::nccl::Api nccl_api() {
  halfstep::nccl::Api api{.get_unique_id = get_unique_id,
                          .init_rank = init_rank,
                          .finalize = finalize,
                          .destroy = destroy,
                          .abort = abort,
                          .async_error = async_error,
                          .error_string = error_string,
                          .all_reduce = all_reduce,
                          .reduce_scatter = reduce_scatter,
                          .all_gather = all_gather,
                          .broadcast = broadcast};
  take_cuda(api);
  query_of_cuda = api.query;
  api.query = query;
  return api;
}

int operations_of_nccl() { return operations; }

std::vector<std::string> on_ranks(int size, const std::function<void(int rank)>& work) {
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  turns.is_there.assign(errors.size(), true);
  turns.now = 0;
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < errors.size(); ++rank)
    threads.emplace_back([&, rank] {
      this_rank = rank;
      {
        std::unique_lock lock(turns.mutex);
        await_turn(lock);
      }
      try {
        work(static_cast<int>(rank));
      } catch (const halfstep::Error& error) {
        errors[rank] = error.what();
      }
      const std::lock_guard lock(turns.mutex);
      turns.is_there[rank] = false;
      turns.next();
    });
  for (std::thread& thread : threads) thread.join();
  turns.is_there.clear();
  meetings.clear();
  return errors;
}

}  // namespace emulation
