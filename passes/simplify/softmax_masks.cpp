// Masks of scores that are known, and what exporters write around a Softmax in case they mask whole rows.
#include <algorithm>
#include <cmath>
#include <map>

#include "passes/matcher.h"
#include <halfstep/ops/kernel_util.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

bool is_zero(const Graph& graph, ValueId id) {
  if (!graph[id].is_constant() || !is_float(graph[id].dtype)) return false;
  const std::vector<double> elements = to_doubles(graph[id].constant);
  return std::all_of(elements.begin(), elements.end(), [](double element) { return element == 0; });
}

constexpr double kModerate = 1e4;

bool is_moderate(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return false;
  const std::vector<double> elements = to_doubles(tensor);
  return std::all_of(elements.begin(), elements.end(), [](double x) { return std::fabs(x) <= kModerate; });
}

bool masks_nothing(const Graph& graph, ValueId id, std::map<ValueId, bool>& known, int depth);

bool masks_nothing_itself(const Graph& graph, ValueId id, std::map<ValueId, bool>& known, int depth) {
  const Value& value = graph[id];
  if (value.is_constant()) return is_moderate(value.constant);
  if (const std::ptrdiff_t state = graph.state_of(id); state >= 0)
    return is_moderate(graph.states[static_cast<std::size_t>(state)].initial);
  const Node* node = graph.producer(id);
  if (!node || depth == 0) return false;
  if (node->is("MatMul") || node->is("Einsum")) return true;
  const OpTraits& traits = traits_of(*node);
  const auto operand = [&](std::size_t i) { return masks_nothing(graph, node->inputs[i], known, depth - 1); };
  if (keeps_elements(traits.movement) || traits.movement == Movement::part || traits.operands.has(OperandRole::table))
    return operand(0);
  switch (traits.arithmetic) {
    case Arithmetic::none:
      return false;
    case Arithmetic::quotient: {
      const Value& divisor = graph[node->inputs[1]];
      if (!divisor.is_constant() || !is_moderate(divisor.constant)) return false;
      const std::vector<double> elements = to_doubles(divisor.constant);
      return operand(0) && std::ranges::none_of(elements, [](double x) { return std::fabs(x) < 1 / kModerate; });
    }
    case Arithmetic::sum:
    case Arithmetic::product:
    case Arithmetic::negation:
      for (std::size_t i = 0; i < node->inputs.size(); ++i)
        if (!operand(i)) return false;
      return true;
  }
  return false;
}

/// Whether the value is made of products of matrices, moderate numbers and sums of them: none of its elements is meant
/// to be -infinity, as those of another mask may be. `known`: of values that were asked about.
bool masks_nothing(const Graph& graph, ValueId id, std::map<ValueId, bool>& known, int depth) {
  const auto [result, is_new] = known.try_emplace(id, false);
  if (is_new) result->second = masks_nothing_itself(graph, id, known, depth);
  return result->second;
}

/// Whether the mask leaves something of every row along the axis, which counts from the end (-1 is the last): scores
/// that are numbers are not all -infinity then, in any float type.
bool leaves_scores(const Tensor& mask, std::int64_t axis) {
  const std::vector<double> elements = to_doubles(mask);
  const auto leaves = [&](std::int64_t i) { return std::fabs(elements[i]) <= kModerate; };
  const auto rank = static_cast<std::int64_t>(mask.shape().rank());
  if (rank + axis < 0) return is_moderate(mask);
  bool all = true;
  const ops::AxisView view(mask.shape(), static_cast<std::size_t>(rank + axis));
  view.for_each_line([&](std::int64_t first, std::int64_t step) {
    bool any = false;
    for (std::int64_t i = 0; i < view.extent && !any; ++i) any = leaves(first + i * step);
    all = all && any;
  });
  return all;
}

/// The axis of a Softmax, counted from the end.
std::int64_t axis_of(const Graph& graph, const Node& softmax) {
  const std::int64_t axis = softmax.attributes.get_int("axis", -1);
  return axis < 0 ? axis : axis - static_cast<std::int64_t>(graph[softmax.inputs[0]].shape.rank());
}

// NaN among the probabilities is then a NaN or an infinity among the scores, which a loss should show.
bool drop_guard(Graph& graph, const Match& found) {
  const Node& softmax = *graph.producer(found["probabilities"]);
  if (!leaves_scores(graph[found["mask"]].constant, axis_of(graph, softmax))) return false;
  std::map<ValueId, bool> known;
  if (!masks_nothing(graph, found["scores"], known, 16)) return false;
  const ValueId guarded = graph.nodes[found.root()].outputs[0];
  if (graph.is_output(guarded) || graph[guarded].shape != graph[found["probabilities"]].shape) return false;
  graph.replace_uses(guarded, found["probabilities"]);
  return true;
}

bool drop_mask(Graph& graph, const Match& found) {
  if (graph[found["scores"]].shape != graph[found["masked"]].shape) return false;
  graph.edit(found.root())->inputs[0] = found["scores"];
  return true;
}

}  // namespace

Pass simplify_masks() {
  const Pattern known{.name = "mask", .value = [](const Graph& graph, ValueId id) {
                        return graph[id].is_constant() && is_float(graph[id].dtype);
                      }};
  const Pattern zero{.name = "mask", .value = is_zero};
  const auto masked = [](const Pattern& mask) {
    return Pattern{.name = "masked", .ops = {"Add"}, .commutes = true, .operands = {any("scores"), mask}};
  };
  const Pattern probabilities{.name = "probabilities", .ops = {"Softmax"}, .operands = {masked(known)}};
  const Pattern is_nan{.ops = {"IsNaN"}, .operands = {probabilities}};
  const std::vector<Rule> guards = {
      {{.ops = {"Where"}, .operands = {is_nan, {.value = is_zero}, any("probabilities")}}, drop_guard}};
  const std::vector<Rule> masks = {{{.ops = {"Softmax"}, .operands = {masked(zero)}}, drop_mask}};
  return {"simplify_masks", [guards, masks](Graph& graph) {
            rewrite(graph, guards);
            rewrite(graph, masks);
          }};
}

}  // namespace halfstep
