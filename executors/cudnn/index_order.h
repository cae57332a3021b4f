// Indices in ascending order, equal ones as they stood: so that what meets at one place is combined in one order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/kernels/order_text.h"
#include "executors/cudnn/loaded_kernel.h"

namespace halfstep::cudnn {

class IndexOrder {
 public:
  /// Of `count` indices from 0 to `largest`; fewer than 2^31 each. Throws what a kernel's compiler says.
  IndexOrder(KernelContext& context, std::int64_t count, std::int64_t largest);

  std::size_t scratch_bytes() const;
  /// Where the indices are to be before they are sorted.
  int* indices(void* scratch) const { return static_cast<int*>(scratch); }

  struct Sorted {
    const int* indices;
    const int* places;  ///< where each stood
  };
  /// Within scratch.
  Sorted sort(void* scratch, cudaStream_t stream) const;

 private:
  OrderArguments arguments_{};
  int digits_ = 1;
  std::shared_ptr<const LoadedKernel> count_, place_, order_;
};

}  // namespace halfstep::cudnn
