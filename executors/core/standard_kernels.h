// The kernels that every executor has.
#pragma once

#include <halfstep/executors/core/kernel_context.h>

namespace halfstep::core {

/// For views that keep the row-major order of elements: another name of the input.
Made make_view(KernelContext& context);

/// The reference kernel of the operator table; refuses only an operator that has none.
Made make_reference(KernelContext& context);

}  // namespace halfstep::core
