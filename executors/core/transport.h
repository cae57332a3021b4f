// How a program's tensors get to the other ranks: from the host's memory, or from the device's.
#pragma once

#include <cstddef>
#include <memory>

#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/kernel_context.h>

namespace halfstep::core {

/// Of one program. From the device's memory, in the order of its stream, where the group takes that: the host waits for
/// nothing then. Otherwise what a kernel reads is there when `settle` returns.
class Transport {
 public:
  Transport(std::shared_ptr<Communicator> ranks, Device& device);

  const Communicator& ranks() const { return *ranks_; }
  /// nullptr: from the host's memory. Keeps the group.
  static std::shared_ptr<StreamRanks> stream_of(const std::shared_ptr<Transport>& transport);

  Space space(const Assembly& assembly) const { return on_stream_ ? Space::device : assembly.host_space(); }
  /// Input i in that memory, and memory there for output i; row-major, since ranks may have chosen other layouts.
  Operand read(KernelContext& context, std::size_t i) const;
  Operand write(KernelContext& context, std::size_t i) const;
  const char* remark() const { return on_stream_ ? "in the device's memory" : ""; }

  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype) const;
  /// Of one that it has made. From the host's memory other threads may use the device meanwhile: ranks may be threads.
  void start(AllReduce& reduction) const;
  void wait(AllReduce& reduction) const;
  /// For the rest of a step: until the steps before have read and written what lies there; a copy; a gathering.
  void settle() const;
  void copy(void* to, const void* from, std::size_t bytes) const;
  void all_gather(const void* from, void* to, std::size_t bytes) const;

 private:
  std::shared_ptr<Communicator> ranks_;
  Device& device_;
  std::unique_ptr<StreamRanks> on_stream_;  // goes before the group
};

}  // namespace halfstep::core
