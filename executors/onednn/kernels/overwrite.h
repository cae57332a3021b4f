// Results that lie where an operand did.
#pragma once

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

/// Output i over `in`, as KernelContext::write_over has it, of elements of the operand's type. Where the value has
/// another one, the result has memory of its own, and a conversion follows the kernel.
inline Operand write_over_as_read(KernelContext& context, std::size_t i, const Operand& in) {
  const bool is_alike = context.node().output(i) == kNoValue || context.out(i).dtype == in.dtype;
  return is_alike ? context.write_over(i, in) : context.write(i, in.layout, in.dtype);
}

}  // namespace halfstep::onednn
