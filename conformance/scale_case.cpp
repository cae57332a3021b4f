#include "conformance/scale_case.h"

#include <set>

#include <fmt/format.h>

#include "conformance/extents.h"
#include "ops/schema_query.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

constexpr std::int64_t kMostElements = 1 << 14;
constexpr std::int64_t kMostGrowth = 16;  // of any other value

/// What becomes of constants of integers: they are indices, shapes or paddings.
struct IntegerRule {
  bool resize = false, map_values = false;
};
constexpr IntegerRule kIntegerRules[] = {{}, {.resize = true}, {.map_values = true}, {true, true}};

void change_constants(Graph& graph, const ExtentMap& extents, const IntegerRule& integers) {
  for (Value& value : graph.values) {
    if (!value.is_constant() || value.shape.rank() == 0 || !can_resize(value.constant)) continue;
    if (is_float(value.dtype) || integers.resize)
      value.constant = resized(value.constant, mapped(value.shape, extents));
    if (value.dtype == DType::i64 && integers.map_values)
      value.constant = Tensor::of(mapped_values(to_int64s(value.constant), extents), value.constant.shape());
    value.shape = value.constant.shape();
  }
}

std::optional<ConformanceCase> try_scale(const ConformanceCase& source, const OpCase& op_case, const ExtentMap& extents,
                                         const IntegerRule& integers) {
  ConformanceCase made = source;
  Graph& graph = made.graph;
  std::int64_t elements = 0;
  for (ValueId in : graph.inputs) {
    graph[in].shape = mapped(graph[in].shape, extents);
    elements += graph[in].shape.count();
  }
  if (elements > kMostElements) return std::nullopt;
  change_constants(graph, extents, integers);
  change_shape_attributes(graph, extents);
  for (const Node& node : graph.nodes)
    for (ValueId out : node.outputs)
      if (out != kNoValue) graph[out].shape = Shape::unranked();
  try {
    if (!is_fit(graph)) return std::nullopt;
    infer_graph(graph);
    if (!all_within(graph, kMostGrowth * kMostElements)) return std::nullopt;
    made.inputs.clear();
    for (ValueId in : graph.inputs)
      made.inputs.push_back(
          draw_uniform(graph[in].dtype, graph[in].shape, op_case.low, op_case.high, made.inputs.size() + 1));
    if (!runs_as_inferred(made, kMostGrowth * kMostElements)) return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // the schema or the reference executor refuses it
  }
  return made;
}

}  // namespace

std::string case_name(const OpDef& op, std::size_t index, const Scale& scale) {
  return fmt::format("{}/{}", case_name(op, index), scale.name);
}

std::optional<ConformanceCase> scale_case(const OpDef& op, std::size_t index, DType dtype, const Scale& scale) {
  const std::optional<ConformanceCase> source = make_case(op, index, dtype);
  if (!source || !schema_takes(source->graph)) return std::nullopt;
  std::set<std::int64_t, std::greater<>> present;
  for (ValueId in : source->graph.inputs)
    for (std::int64_t extent : source->graph[in].shape)
      if (extent > 1) present.insert(extent);

  ExtentMap extents;
  std::optional<ConformanceCase> best;
  const bool keeps = keeps_integers(source->graph);
  for (const std::int64_t extent : present) {
    const auto scaled = [&]() -> std::optional<ConformanceCase> {
      for (const std::int64_t larger : scale.extents)
        for (const IntegerRule& integers : kIntegerRules) {
          if (keeps && (integers.resize || integers.map_values)) continue;
          extents[extent] = larger;
          if (auto made = try_scale(*source, op.cases[index], extents, integers)) return made;
        }
      extents.erase(extent);
      return std::nullopt;
    }();
    if (scaled) best = scaled;
  }
  return best;
}

}  // namespace halfstep
