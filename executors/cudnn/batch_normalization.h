// What the makers of batch normalization share.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "executors/cudnn/fastest.h"
#include "executors/cudnn/kernels/normalization_text.h"

namespace halfstep::cudnn {

/// A batch normalization in training whose channels lie beside each other, as own kernels compute it. What they save
/// is kept (DeviceKernel::kept).
struct OwnNormalization {
  NormalizationArguments arguments{};
  DeviceKernel kernel;
  std::size_t saved_bytes = 0;
  std::function<std::vector<core::BufferId>()> keep;  ///< see Candidate
};

// By a plan of cuDNN's graph API, where it has one; where that fails when it runs, own kernels go on.
void append_planned_batch_normalization(std::vector<Candidate>& candidates, KernelContext& context,
                                        const OwnNormalization& own);
/// Of what the forward pass has saved.
void append_planned_batch_normalization_grad(std::vector<Candidate>& candidates, KernelContext& context,
                                             const OwnNormalization& own);

}  // namespace halfstep::cudnn
