// Which kernels there are for an operator.
#pragma once

#include <span>
#include <string_view>

#include "executors/onednn/kernel_context.h"

namespace halfstep::onednn {

/// Makes a kernel for the context's node, or refuses.
using KernelMaker = Made (*)(KernelContext&);

/// Makers for an operator, best first; the reference kernel is not among them, it comes after all.
std::span<const KernelMaker> kernel_makers(const Node& node);

/// The reference kernel of the operator table on row-major views; refuses only an operator that has none.
Made make_reference(KernelContext& context);

/// Operators of ai.halfstep with kernels of their own.
std::span<const std::string_view> fused_operators();

}  // namespace halfstep::onednn
