#include "conformance/draw_case.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "conformance/extents.h"
#include "conformance/random_choice.h"
#include "ops/schema_query.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

constexpr int kTries = 24;
constexpr std::int64_t kMostGrowth = 16;  // of results, against the limit of the inputs
// Odd, prime, around the widths of vector registers, and the two that break most things.
constexpr std::array<std::int64_t, 10> kExtents = {1, 2, 3, 5, 7, 8, 13, 17, 31, 0};
constexpr std::array<DType, 10> kTypes = {DType::f32, DType::f32, DType::f16, DType::bf16, DType::f64,
                                          DType::f32, DType::i32, DType::i64, DType::u8,   DType::i8};

ExtentMap draw_extents(const Graph& graph, RandomChoice& choice) {
  std::set<std::int64_t> present;
  for (ValueId in : graph.inputs) present.insert(graph[in].shape.begin(), graph[in].shape.end());
  ExtentMap extents;
  for (std::int64_t extent : present)
    extents[extent] = choice.one_in(3) ? extent : choice.of(std::span<const std::int64_t>(kExtents));
  return extents;
}

void change_constants(Graph& graph, const ExtentMap& extents, RandomChoice& choice) {
  const bool keeps = keeps_integers(graph);
  for (Value& value : graph.values) {
    if (!value.is_constant() || value.shape.rank() == 0 || !can_resize(value.constant)) continue;
    const bool floats = is_float(value.dtype);
    if (floats || (!keeps && choice.one_in(2))) value.constant = resized(value.constant, mapped(value.shape, extents));
    if (value.dtype == DType::i64 && !keeps && choice.one_in(2))
      value.constant = Tensor::of(mapped_values(to_int64s(value.constant), extents), value.constant.shape());
    value.shape = value.constant.shape();
  }
}

void change_axes(Node& node, std::size_t rank, RandomChoice& choice) {
  if (rank == 0) return;
  const auto extent = static_cast<std::int64_t>(rank);
  const Attributes before = node.attributes;
  for (const auto& [name, value] : before) {
    if (name != "axis") continue;
    if (const auto* axis = std::get_if<std::int64_t>(&value)) {
      if (choice.one_in(2)) node.attributes.set(name, *axis >= 0 ? *axis - extent : *axis + extent);
      if (choice.one_in(3)) node.attributes.set(name, static_cast<std::int64_t>(choice.below(2 * rank)) - extent);
    }
  }
}

// Broadcasts, lower and higher ranks.
void change_ranks(Graph& graph, RandomChoice& choice) {
  auto set_shape = [&](ValueId id, std::vector<std::int64_t> shape) { graph[id].shape = Shape(std::move(shape)); };
  auto extents_of = [&](ValueId id) {
    return std::vector<std::int64_t>(graph[id].shape.begin(), graph[id].shape.end());
  };
  switch (choice.below(6)) {
    case 0:  // one axis of one operand is stretched
      if (!graph.inputs.empty()) {
        const ValueId in = graph.inputs[choice.below(graph.inputs.size())];
        std::vector<std::int64_t> shape = extents_of(in);
        if (!shape.empty()) shape[choice.below(shape.size())] = 1;
        set_shape(in, std::move(shape));
      }
      break;
    case 1:  // one operand has fewer axes
      if (graph.inputs.size() > 1) {
        const ValueId in = graph.inputs[choice.below(graph.inputs.size())];
        std::vector<std::int64_t> shape = extents_of(in);
        shape.erase(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(choice.below(shape.size() + 1)));
        set_shape(in, std::move(shape));
      }
      break;
    case 2:  // all have one more
      for (ValueId in : graph.inputs) {
        std::vector<std::int64_t> shape = extents_of(in);
        shape.insert(shape.begin(), 2);
        set_shape(in, std::move(shape));
      }
      break;
    case 3:  // scalars
      if (choice.one_in(2))
        for (ValueId in : graph.inputs) set_shape(in, {});
      break;
    default:
      break;
  }
}

std::optional<ConformanceCase> try_draw(const OpDef& op, std::size_t index, DType dtype, RandomChoice& choice,
                                        std::int64_t limit) {
  if (dtype == DType::undefined) dtype = choice.of(std::span<const DType>(kTypes));
  std::optional<ConformanceCase> made = make_case(op, index, dtype);
  if (!made || !schema_takes(made->graph)) return std::nullopt;
  Graph& graph = made->graph;
  const ExtentMap extents = draw_extents(graph, choice);
  for (ValueId in : graph.inputs) graph[in].shape = mapped(graph[in].shape, extents);
  change_constants(graph, extents, choice);
  // The operands of halfstep's own operators fit each other by construction: passes wrote them.
  if (op.domain.empty()) change_ranks(graph, choice);
  change_shape_attributes(graph, extents);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Graph::Edit node = graph.edit(n);
    if (node->input(0) != kNoValue && graph[node->input(0)].shape.is_ranked())
      change_axes(*node, graph[node->input(0)].shape.rank(), choice);
    for (ValueId out : node->outputs)
      if (out != kNoValue) graph[out].shape = Shape::unranked();
  }
  std::int64_t elements = 0;
  for (ValueId in : graph.inputs) elements += graph[in].shape.count();
  if (elements > limit) return std::nullopt;
  if (!is_fit(graph)) return std::nullopt;
  infer_graph(graph);
  if (!all_within(graph, kMostGrowth * limit)) return std::nullopt;

  const OpCase& op_case = op.cases[index];
  const bool is_unsigned = dtype == DType::u8 || dtype == DType::u16 || dtype == DType::u32 || dtype == DType::u64;
  const double low = is_unsigned ? std::max(op_case.low, 0.0) : op_case.low;
  made->inputs.clear();
  for (ValueId in : graph.inputs)
    made->inputs.push_back(
        draw_uniform(graph[in].dtype, graph[in].shape, low, std::max(op_case.high, low), choice.next()));
  if (!runs_as_inferred(*made, kMostGrowth * limit)) return std::nullopt;
  return made;
}

}  // namespace

std::string case_name(const OpDef& op, std::size_t index, const Draw& draw) {
  return fmt::format("{}/{}", case_name(op, index), draw.number);
}

std::optional<ConformanceCase> draw_case(const OpDef& op, std::size_t index, const Draw& draw, DType dtype,
                                         std::int64_t limit) {
  RandomChoice choice(draw.seed, case_name(op, index, draw));
  for (int i = 0; i < kTries; ++i) {
    try {
      if (std::optional<ConformanceCase> made = try_draw(op, index, dtype, choice, limit)) return made;
    } catch (const Error&) {
      continue;  // not a variation: the schema or the reference executor refuses it
    }
  }
  return std::nullopt;
}

}  // namespace halfstep
