// The operators that ranks compute together, for every executor whose programs the core compiles.
#pragma once

#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/kernel_context.h>

namespace halfstep::core {

/// Their kernels in a plan. They run on the host, whatever the device.
inline constexpr const char *kAllReduceKernel = "all-reduce", *kAllGatherKernel = "all-gather";
inline bool is_collective_kernel(std::string_view kernel) {
  return kernel == kAllReduceKernel || kernel == kAllGatherKernel;
}

/// Of one program.
class CollectiveKernels {
 public:
  /// `ranks` is null where the program is by itself.
  explicit CollectiveKernels(std::shared_ptr<Communicator> ranks) : ranks_(std::move(ranks)) {}

  /// Before any other kernel of the program is made: has tensors lie where they are reduced, where nothing else reads
  /// them.
  void place(Assembly& assembly);
  bool takes(const Node& node) const;
  Made make(KernelContext& context);

 private:
  Made start(KernelContext& context);
  Made finish(KernelContext& context);
  Made gather(KernelContext& context);

  /// Kept by both kernels, so that a program may outlive whoever gave the ranks.
  struct Started {
    std::shared_ptr<Communicator> ranks;
    Operand joined;                             ///< where it is reduced
    std::unique_ptr<AllReduce> reduction = {};  ///< made when memory is placed; goes before the ranks
  };
  std::shared_ptr<Communicator> ranks_;
  std::map<ValueId, std::shared_ptr<Started>> started_;  // by the value that is reduced
};

}  // namespace halfstep::core
