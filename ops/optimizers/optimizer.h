// The end of a training step: what its operators share, and what LossScaleUpdate's attributes mean.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// The reference kernel of every optimizer's operator.
void optimizer_step_kernel(KernelCall& call);

/// The only element. Throws Error(input) when there are more or fewer.
double single_number(const Tensor& tensor, const char* what);

/// LossScaleUpdate: the scale after a step, and the number of good steps since it last changed.
struct LossScaleSettings {
  double growth_factor, backoff_factor, min, max;
  std::int64_t growth_interval;

  explicit LossScaleSettings(const Attributes& attributes);
};

}  // namespace ops
}  // namespace halfstep
