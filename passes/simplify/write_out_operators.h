// Operators that executors have no kernels for, as other ones.
#pragma once

#include <halfstep/passes/pass.h>

namespace halfstep {

/// Replaces the operators of ops/written_out.h by others: those whose gradients are the others', or the rest, whose own
/// gradient rules are used.
Pass write_out_operators(bool before_gradient);

}  // namespace halfstep
