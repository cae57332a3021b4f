// The operators that ranks compute together, for every executor whose programs the core compiles.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/kernel_context.h>

namespace halfstep::core {

/// Their kernel in a plan. It runs on the host, whatever the device.
inline constexpr const char* kCollectiveKernel = "all-reduce";

/// Of one program.
class CollectiveKernels {
 public:
  /// `ranks` is null where the program is by itself.
  explicit CollectiveKernels(std::shared_ptr<Communicator> ranks) : ranks_(std::move(ranks)) {}

  bool takes(const Node& node) const;
  Made make(KernelContext& context);

 private:
  Made start(KernelContext& context);
  Made finish(KernelContext& context);

  /// Kept by both kernels, so that a program may outlive whoever gave the ranks.
  struct Started {
    std::shared_ptr<Communicator> ranks;
    std::unique_ptr<AllReduce> reduction = {};  ///< made when memory is placed; goes before the ranks
  };
  std::shared_ptr<Communicator> ranks_;
  std::map<ValueId, std::shared_ptr<Started>> started_;  // by the value that is reduced
};

}  // namespace halfstep::core
