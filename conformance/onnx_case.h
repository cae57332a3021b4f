// ONNX's own test cases, held against an executor.
#pragma once

#include <string>
#include <vector>

#include "conformance/compare.h"
#include "onnx_io/test_case.h"
#include <halfstep/base/api.h>
#include <halfstep/conformance/report.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// Why halfstep does not claim to run the case: `not_supported`, operators that draw at random, outputs that say
/// something else than the operator's specification. Empty when it does.
std::string not_applicable(const OnnxCase& onnx_case);

/// 1e-3 relative and 1e-7 absolute, unless "rtol" and "atol" in the case's data.json say otherwise.
Tolerance tolerance_of(const OnnxCase& onnx_case);

/// A loaded graph with the input shapes of `inputs`, as programs are compiled from it: shapes bound, constants folded,
/// what `capabilities` has fused kernels for fused; training modes and precision left alone.
Graph prepare_graph(Graph graph, const std::vector<Tensor>& inputs, const Capabilities& capabilities);

/// Runs every data set of the case. Outputs must have the types and shapes of those in the files, floats within the
/// tolerance (bf16 at least within two units of its precision), all else exactly. Where the outputs in the files are
/// known to be rougher than that, the report of a case that passed says how they were compared. Never throws: an Error
/// on the way is a failed check.
CheckReport check_onnx_case(const OnnxCase& onnx_case, Executor& executor);

}  // namespace halfstep
