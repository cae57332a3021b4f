// The cases of the operator table as graphs that can run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "ops/op_def.h"

namespace halfstep {

/// What was held against what.
enum class CheckKind {
  gradient,   ///< the gradient rule against finite differences, in f64 on the reference executor
  execution,  ///< an executor against the reference executor
};
std::string_view name_of(CheckKind kind);
/// Throws Error listing the kinds there are.
CheckKind parse_check_kind(std::string_view name);

enum class CheckResult { passed, failed, not_applicable };
std::string_view name_of(CheckResult result);

/// The outcome of one check of one case in one element type.
struct CheckReport {
  std::string op;         ///< with its domain when that is not ai.onnx
  std::size_t index = 0;  ///< of the case, in OpDef::cases
  CheckKind kind = CheckKind::gradient;
  DType dtype = DType::f64;
  CheckResult result = CheckResult::passed;
  std::string message;  ///< what differed, or why the check does not apply; empty when it passed

  bool ok() const { return result != CheckResult::failed; }
};

/// "Relu", "ai.halfstep.ReluGrad".
std::string qualified_name(const OpDef& op);

/// One case in one element type, with the elements of its graph inputs, in order.
struct ConformanceCase {
  Graph graph;
  std::vector<Tensor> inputs;
};

/// Case `index` of `op` with every f32 in it turned into `dtype`; where the schema demands f32 of its constants
/// (scales, ratios), those stay. Inputs are drawn by a counter-based generator, so they are the same everywhere and
/// always. Empty when the operator does not take `dtype`. Throws Error when the case is no valid graph as it is
/// written.
std::optional<ConformanceCase> make_case(const OpDef& op, std::size_t index, DType dtype);

/// Elements uniform in [low, high): a pure function of the arguments.
Tensor draw_uniform(DType dtype, const Shape& shape, double low, double high, std::uint64_t seed);

}  // namespace halfstep
