// Parts of tensors that kernels copy, as the constant operands of their nodes say.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/kernel_context.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Element begin + i * step along each axis, i less than the extent.
struct Part {
  Dims begin, extents, steps;
};
Part whole_of(const Shape& shape);

/// What Slice takes out of a tensor, or its gradient puts back: the operands from input 1 on, for these shapes of the
/// tensor and the part. Nothing unless they are constants and the part lies within. Steps may be negative.
std::optional<Part> part_of_slice(const KernelContext& context, const Shape& whole, const Shape& part);

/// Parts, or why there are none.
struct Parts {
  std::string refusal = {};
  std::vector<Part> all = {};
};
/// Of Split's operand, one for each output.
Parts parts_of_split(const KernelContext& context);
/// Of Concat's result, one for each input.
Parts parts_of_concat(const KernelContext& context);
/// Of Pad's result, the one that is its operand. Pads are constants of at least 0, and the padding is 0.
Parts part_of_pad(const KernelContext& context);

}  // namespace core
}  // namespace halfstep
