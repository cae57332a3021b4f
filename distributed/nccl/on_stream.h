// NCCL's operations on the memory of the device, in the order of a stream of the program.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>

#include "distributed/nccl/group.h"

namespace halfstep::nccl {

/// An operation that is made again and again: the group's stream waits for what the program's has been given, carries
/// it out beside what that is given next, and the program's stream waits for it where it says so.
class StreamOperation {
 public:
  StreamOperation(Group& group, cudaStream_t stream);
  /// One that is under way, whose memory goes away, ends the group.
  ~StreamOperation();
  StreamOperation(const StreamOperation&) = delete;
  StreamOperation& operator=(const StreamOperation&) = delete;

  /// `call`, named `name`, gives the operation to the group's stream.
  template <class Call>
  void start(const Call& call, const char* name) {
    const Group::Crossing crossing = begin();
    group_.check(call(), name);
    end(crossing);
  }
  void wait();

 private:
  Group::Crossing begin();
  void end(const Group::Crossing& crossing);

  Group& group_;
  const cudaStream_t stream_;
  cudaEvent_t ready_ = nullptr, done_ = nullptr;
};

class OnStream final : public StreamRanks {
 public:
  OnStream(Group& group, cudaStream_t stream);
  ~OnStream() override;
  OnStream(const OnStream&) = delete;
  OnStream& operator=(const OnStream&) = delete;

  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override;
  void all_gather(const void* from, void* to, std::size_t bytes) override;
  void synchronize() override;

 private:
  class Made;

  Group& group_;
  const cudaStream_t stream_;
  std::deque<StreamOperation> gatherings_;  // by turns
  std::size_t next_ = 0;
  cudaEvent_t end_ = nullptr;
};

}  // namespace halfstep::nccl
