// The operators that ranks compute together, for every executor whose programs the core compiles.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "executors/core/transport.h"
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/kernel_context.h>

namespace halfstep::core {

/// Their kernels in a plan. The host starts them, whatever the device, in each run anew.
inline constexpr const char *kAllReduceKernel = "all-reduce", *kAllGatherKernel = "all-gather";
inline bool is_collective_kernel(std::string_view kernel) {
  return kernel == kAllReduceKernel || kernel == kAllGatherKernel;
}

/// Of one program.
class CollectiveKernels {
 public:
  /// `transport` is null where the program is by itself.
  explicit CollectiveKernels(std::shared_ptr<Transport> transport) : transport_(std::move(transport)) {}

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
    std::shared_ptr<Transport> transport;
    Operand joined;                             ///< where it is reduced
    std::vector<std::size_t> offsets = {};      ///< of the tensors there
    std::unique_ptr<AllReduce> reduction = {};  ///< made when memory is placed; goes before the ranks
  };
  std::shared_ptr<Transport> transport_;
  std::map<ValueId, std::shared_ptr<Started>> started_;  // by the value that is reduced
};

}  // namespace halfstep::core
