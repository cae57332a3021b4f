// The communicator of NCCL: a GPU for each rank. What it is given in the host's memory goes through the GPU's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "distributed/nccl/api.h"
#include "distributed/nccl/line.h"
#include <halfstep/distributed/communicator.h>

namespace halfstep::nccl {

/// A group of ranks, its stream, and whether it goes on. Nothing in it waits for longer than the limit.
class Group {
 public:
  /// Collective. `id` is what ncclGetUniqueId gave to rank 0. Throws what went wrong.
  Group(const Api& api, const ncclUniqueId& id, int rank, int size, std::chrono::milliseconds limit, Line line);
  /// Where an exception destroys it, the other ranks may be anywhere: it does not wait for them.
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  const Api& api() const { return api_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  ncclComm_t communicator() const { return communicator_; }
  cudaStream_t stream() const { return stream_; }

  /// Before each use: the GPU becomes that of this thread. Throws SharedError where the group has been given up.
  void enter();
  /// The number of the next operation: all ranks start them in one order.
  std::uint64_t count() { return operations_++; }
  /// Both throw Error(failure), and give the group up, unless the call went well. NCCL's may still be under way.
  void check(ncclResult_t result, const char* call);
  void check(cudaError_t result, const char* call);
  /// Returns when the event of this operation has happened. Throws SharedError, and gives the group up, where another
  /// rank has gone or does not answer.
  void wait(cudaEvent_t event, std::uint64_t operation);
  /// Nothing is done from then on, and what is under way ends.
  void give_up() noexcept;

 private:
  /// Throws SharedError, and gives the group up, where a rank has left before this operation.
  void require_all(std::uint64_t operation);
  /// `operation`: in which all ranks have to take part; unset: in none.
  template <class Done>
  void poll(const Done& done, std::optional<std::uint64_t> operation);

  const Api& api_;
  const int rank_, size_;
  const std::chrono::milliseconds limit_;
  const int exceptions_ = std::uncaught_exceptions();
  ncclComm_t communicator_ = nullptr;
  cudaStream_t stream_ = nullptr;
  Line line_;
  std::uint64_t operations_ = 0;
  bool is_given_up_ = false;
  bool ends_ = false;  // the others may have left, and have done their part
};

/// The memory in which an operation is carried out, again and again. On its way to the GPU and back what the caller has
/// lies in page-locked memory: copies of other memory would wait for the operation, with no limit.
class Staging {
 public:
  explicit Staging(Group& group) : group_(group) {}
  /// An operation under way, whose memory goes away, ends the group.
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// What is done, the same on every rank: from the GPU's memory to the GPU's memory.
  using Call = std::function<ncclResult_t(const void* from, void* to)>;
  /// Copies `from` to the GPU and calls `call`, named `name`; `wait` copies its result to `to`.
  void start(const void* from, std::size_t from_bytes, void* to, std::size_t to_bytes, const Call& call,
             const char* name);
  void wait();

 private:
  struct Block {
    void* memory = nullptr;
    std::size_t bytes = 0;
  };
  using Allocate = cudaError_t (*)(void**, std::size_t);
  using Free = cudaError_t (*)(void*);
  void reserve(Block& block, std::size_t bytes, Allocate allocate, Free free, const char* call);

  Group& group_;
  Block host_, from_, to_;
  cudaEvent_t done_ = nullptr;
  void* result_ = nullptr;  // of the caller, for the operation that is under way
  std::size_t result_bytes_ = 0;
  std::uint64_t operation_ = 0;
  bool is_under_way_ = false;
};

class NcclCommunicator final : public Communicator {
 public:
  /// As Group. `api` is copied.
  NcclCommunicator(const Api& api, const ncclUniqueId& id, int rank, int size, std::chrono::milliseconds limit,
                   Line line = {});

  std::string_view name() const override { return "nccl"; }
  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override;
  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override;
  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override;
  void all_gather(const void* from, void* to, std::size_t bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void barrier() override;
  void abort(int exit_code) noexcept override;

 private:
  class Made;

  const Api api_;
  Group group_;
  Staging staging_{group_};
};

}  // namespace halfstep::nccl
