// Executors against the reference executor.
#pragma once

#include "executors/conformance/cases.h"
#include "executors/executor.h"

namespace halfstep {

/// The element types every case is run in.
inline constexpr DType kCheckedTypes[] = {DType::f32, DType::f16, DType::bf16};

/// Runs case `index` of `op` in `dtype` on `executor` and on the reference executor. Types and shapes must be equal,
/// integers too; floats within 4 units of the type's precision of the largest element, plus one unit of f32 (f64 in
/// f64) for each element of the largest operand, which is what summing them may cost. Does not apply where the operator
/// does not take `dtype`. Never throws: an Error on the way is a failed check.
CheckReport check_execution(const OpDef& op, std::size_t index, DType dtype, Executor& executor);

}  // namespace halfstep
