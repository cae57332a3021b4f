#include "passes/fuse/attention_scores.h"

#include <algorithm>
#include <cmath>
#include <span>

#include <halfstep/ops/kernel_util.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

/// The one number that a value is, where arithmetic on constants tells it.
std::optional<double> number(const Graph& graph, ValueId id, int depth = 8) {
  const Value& value = graph[id];
  if (value.is_constant()) {
    if (value.constant.count() != 1 || !(is_float(value.dtype) || is_integer(value.dtype))) return std::nullopt;
    return to_doubles(value.constant)[0];
  }
  const Node* node = graph.producer(id);
  if (!node || depth == 0 || !value.shape.is_static() || value.shape.count() != 1) return std::nullopt;
  if (node->is("CastLike") || node->is("Cast") || is_view(traits_of(*node).movement))
    return is_float(value.dtype) ? number(graph, node->inputs[0], depth - 1) : std::nullopt;
  if (!is_float(value.dtype)) return std::nullopt;  // they round
  if (node->is("Sqrt")) {
    const auto x = number(graph, node->inputs[0], depth - 1);
    return x && *x >= 0 ? std::optional(std::sqrt(*x)) : std::nullopt;
  }
  if (!node->is("Mul") && !node->is("Div")) return std::nullopt;
  const auto a = number(graph, node->inputs[0], depth - 1), b = number(graph, node->inputs[1], depth - 1);
  if (!a || !b) return std::nullopt;
  return node->is("Mul") ? *a * *b : *a / *b;
}

}  // namespace

std::optional<std::pair<ValueId, double>> scaled(const Graph& graph, ValueId id) {
  const Node* node = graph.producer(id);
  if (!node || (!node->is("Mul") && !node->is("Div"))) return std::nullopt;
  for (const std::size_t i : {0, 1}) {
    if (i == 0 && node->is("Div")) continue;
    const auto factor = number(graph, node->inputs[i]);
    const ValueId x = node->inputs[1 - i];
    if (!factor || graph[x].shape != graph[id].shape) continue;
    return std::pair(x, node->is("Div") ? 1 / *factor : *factor);
  }
  return std::nullopt;
}

bool same_matrices(const Graph& graph, ValueId a, ValueId b) {
  const Shape &x = graph[a].shape, &y = graph[b].shape;
  return x.is_static() && y.is_static() && x.rank() >= 3 && y.rank() >= 3 && x.dim(-1) == y.dim(-1) &&
         x.dim(-2) == y.dim(-2) && x.count() == y.count();
}

bool find_scores(const Graph& graph, ValueId id, Scores& found, int depth) {
  const Node* node = graph.producer(id);
  if (!node || depth == 0 || !graph.sole_user(id) || !graph[id].shape.is_static()) return false;
  if (node->is("MatMul")) {
    found.product = id;
    return true;
  }
  if (is_view(traits_of(*node).movement))
    return same_matrices(graph, id, node->inputs[0]) && find_scores(graph, node->inputs[0], found, depth - 1);
  if (const auto x = scaled(graph, id)) {
    found.factor *= x->second;
    return find_scores(graph, x->first, found, depth - 1);
  }
  const auto descend = [&](ValueId scores, Mask mask) {
    // A factor behind the mask would be the mask's as well.
    if (graph[scores].shape != graph[id].shape || found.factor != 1) return false;
    Scores attempt = found;
    mask.rank = graph[id].shape.rank();
    attempt.masks.push_back(mask);
    if (!find_scores(graph, scores, attempt, depth - 1)) return false;
    found = std::move(attempt);
    return true;
  };
  if (node->is("Add"))
    return descend(node->inputs[0], {.value = node->inputs[1]}) || descend(node->inputs[1], {.value = node->inputs[0]});
  if (node->is("Where")) {
    for (const std::size_t i : {1, 2}) {
      const auto hidden = number(graph, node->inputs[3 - i]);
      if (!hidden || *hidden > -1e4) continue;
      if (descend(node->inputs[i], {.hides = node->inputs[0], .shown = i == 1, .hidden = *hidden})) return true;
    }
  }
  return false;
}

std::optional<KnownMask> known_mask(const Graph& graph, std::vector<Mask>& masks) {
  std::optional<KnownMask> sum;
  std::erase_if(masks, [&](const Mask& mask) {
    const ValueId id = mask.value != kNoValue ? mask.value : mask.hides;
    if (!graph[id].is_constant()) return false;
    std::vector<double> elements = to_doubles(graph[id].constant);
    if (mask.value == kNoValue)
      for (double& e : elements) e = (e != 0) == mask.shown ? 0 : mask.hidden;
    const Shape& shape = graph[id].shape;
    if (!sum) {
      sum = KnownMask{shape, std::move(elements)};
      return true;
    }
    const Shape both = broadcast(sum->shape, shape);
    const ops::BroadcastOffsets left(sum->shape, both), right(shape, both);
    std::vector<double> added(static_cast<std::size_t>(both.count()));
    for (std::size_t i = 0; i < added.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      added[i] = sum->elements[left(at)] + elements[right(at)];
    }
    sum = KnownMask{both, std::move(added)};
    return true;
  });
  return sum;
}

bool is_causal(const KnownMask& mask, std::int64_t queries, std::int64_t keys) {
  if (mask.shape.rank() < 2 || mask.shape.dim(-1) != keys || mask.shape.dim(-2) != queries || queries < 2) return false;
  for (std::size_t at = 0; at < mask.elements.size(); ++at) {
    const std::int64_t j = static_cast<std::int64_t>(at) % keys, i = static_cast<std::int64_t>(at) / keys % queries;
    if (j <= i ? mask.elements[at] != 0 : !(mask.elements[at] <= -1e4)) return false;
  }
  return true;
}

bool shows_a_key(const KnownMask& mask) {
  if (mask.shape.rank() == 0) return mask.elements[0] > -1e4;
  const auto keys = static_cast<std::size_t>(mask.shape.dim(-1));
  for (std::size_t row = 0; row < mask.elements.size(); row += keys)
    if (std::ranges::all_of(std::span(mask.elements).subspan(row, keys), [](double e) { return !(e > -1e4); }))
      return false;
  return true;
}

bool hides_for_good(const KnownMask& mask) {
  return std::ranges::all_of(mask.elements, [](double e) { return e == 0 || (std::isinf(e) && e < 0); });
}

}  // namespace halfstep
