// The cases of the operator table as graphs that can run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/conformance/report.h>
#include <halfstep/graph/graph.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// A graph of the newest operator sets in ONNX's text form, from its inputs on: "(float[2] x) => (float[2] y) {…}".
Graph parse_case(std::string_view text, std::string_view domain = {});

/// "Relu", "ai.halfstep.ReluGrad".
std::string qualified_name(const OpDef& op);

/// "Relu/0": case `index` of the row.
std::string case_name(const OpDef& op, std::size_t index);

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
