// Executors against the reference executor.
#pragma once

#include "conformance/draw_case.h"
#include "conformance/scale_case.h"
#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// The element types every case is run in.
inline constexpr DType kCheckedTypes[] = {DType::f32, DType::f16, DType::bf16};

/// Runs `graph` on `executor` and on the reference executor; empty, or what differs first. Types and shapes must be
/// equal, integers too; floats within 4 units of the type's precision of the largest element, plus one unit of f32 (f64
/// in f64) for each element of the largest operand, which is what summing them may cost. A largest element below
/// `least_scale` counts as that: sums may cancel. `plan` receives the executor's. Throws what the executors do.
std::string execution_difference(const Graph& graph, const std::vector<Tensor>& inputs, Executor& executor,
                                 double least_scale = 0, Plan* plan = nullptr);

/// What `execution_difference` allows for an output of type `dtype`, relative to its largest element.
double execution_tolerance(const Graph& graph, DType dtype);

/// The same for case `index` of `op` in `dtype`. Does not apply where the operator does not take `dtype`. Never throws:
/// an Error on the way is a failed check.
CheckReport check_execution(const OpDef& op, std::size_t index, DType dtype, Executor& executor);
/// The same for a random variation of the case, its element type included.
CheckReport check_execution(const OpDef& op, std::size_t index, const Draw& draw, Executor& executor);
/// The same for the case with larger extents. Does not apply where it has none.
CheckReport check_execution(const OpDef& op, std::size_t index, DType dtype, const Scale& scale, Executor& executor);

}  // namespace halfstep
