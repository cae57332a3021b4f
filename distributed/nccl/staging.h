// Operations of NCCL on the host's memory, which goes through the GPU's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "distributed/nccl/group.h"

namespace halfstep::nccl {

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

}  // namespace halfstep::nccl
