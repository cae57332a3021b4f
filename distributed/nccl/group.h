// The ranks of NCCL: one communicator, its stream, and whether it goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <vector>

#include <sys/types.h>

#include "distributed/nccl/api.h"
#include "distributed/nccl/line.h"
#include "distributed/nccl/watch.h"
#include <halfstep/base/dtype.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/registry.h>

namespace halfstep::nccl {

/// Throws Error(failure) for elements that NCCL does not reduce.
ncclDataType_t type_of(DType dtype);
ncclRedOp_t operation_of(Reduction reduction);

/// Nothing in it waits for longer than the limit.
class Group {
 public:
  /// Collective. `id` is what ncclGetUniqueId gave to rank 0, `device` CUDA's number of this rank's GPU. Throws what
  /// went wrong.
  Group(const Api& api, const ncclUniqueId& id, int rank, int size, const CommunicatorOptions& options, Line line,
        int device);
  /// Where an exception destroys it, the other ranks may be anywhere: it does not wait for them.
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  const Api& api() const { return api_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  int device() const { return device_; }
  ncclComm_t communicator() const { return communicator_; }
  cudaStream_t stream() const { return stream_; }

  /// Before each use: the GPU becomes that of this thread. Throws SharedError where the group has been given up, or a
  /// rank is lost.
  void enter();
  /// The number of the next operation: all ranks start them in one order.
  std::uint64_t count() { return operations_++; }
  /// Both throw Error(failure), and give the group up, unless the call went well. NCCL's may still be under way.
  void check(ncclResult_t result, const char* call);
  void check(cudaError_t result, const char* call);
  /// Returns when the event of this operation has happened. Throws SharedError, and gives the group up, where another
  /// rank has gone or does not answer.
  void wait(cudaEvent_t event, std::uint64_t operation);

  /// An operation for which the host does not wait: it begins behind one event, and ends with another.
  struct Crossing {
    cudaEvent_t ready = nullptr, done = nullptr;
    std::uint64_t operation = 0;
  };
  /// Before its events are recorded again: returns when it is done.
  void await(cudaEvent_t done);
  /// Waits until few enough others are under way: the host does not run so far ahead of the device that it would wait
  /// for room in a stream, which nothing would end.
  void add(const Crossing& crossing);
  /// Its events and memory go away: where it is under way the group is given up.
  void remove(cudaEvent_t done) noexcept;
  /// Returns when the event of another stream has happened, as `wait`. Time counts while that stream waits for ranks,
  /// and not while it computes.
  void wait_behind_crossings(cudaEvent_t event);

  /// Nothing is done from then on, and what is under way ends.
  void give_up() noexcept;

 private:
  /// What is waited for.
  struct Awaited {
    std::optional<std::uint64_t> operation = {};  ///< in which all ranks have to take part; unset: in none
    bool counts = true;                           ///< the time that passes is that of other ranks
  };
  /// Throws SharedError, and gives the group up, where a rank is lost or has left before this operation.
  void require_all(std::optional<std::uint64_t> operation);
  /// `what` gives what is awaited at present.
  template <class Done, class What>
  void poll(const Done& done, const What& what);
  bool has_happened(cudaEvent_t event);
  bool is_done(cudaEvent_t event);
  /// Forgets those that are done, from the first on; what is then the first.
  Awaited first_crossing();

  const Api& api_;
  const int rank_, size_, device_;
  const std::chrono::milliseconds limit_;
  const int exceptions_ = std::uncaught_exceptions();
  const pid_t process_;
  ncclComm_t communicator_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Watch> watch_;
  std::vector<Crossing> crossings_;  // as they were started
  std::uint64_t operations_ = 0;
  bool is_given_up_ = false;
  bool ends_ = false;  // the others may have left, and have done their part
};

}  // namespace halfstep::nccl
