// The end of a training step: shared parts of its operators, and the meaning of LossScaleUpdate's attributes.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// The reference kernel of every optimizer's operator.
void optimizer_step_kernel(KernelCall& call);

/// The single element. Throws Error(input) for any other number of elements.
double single_number(const Tensor& tensor, const char* what);

/// LossScaleUpdate: the scale after a step, and the number of finite steps since its last change.
struct LossScaleSettings {
  double growth_factor, backoff_factor, min, max;
  std::int64_t growth_interval;

  explicit LossScaleSettings(const Attributes& attributes);
};

}  // namespace ops
}  // namespace halfstep
