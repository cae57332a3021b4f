#include "onnx_io/containers.h"

#include <algorithm>

#include <fmt/format.h>

#include "graph/bodies.h"
#include "onnx_io/lift.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using Elements = std::vector<ValueId>;

// Limit of elements, which become values of the graph. Sequences in real models are short.
constexpr std::int64_t kMostParts = 50'000;
// Of all lists together: those of a list that grows by one element at a time, up to ten thousand.
constexpr std::size_t kMostElements = 50'000'000;

ValueId operand(const Node& node, std::size_t i) {
  const ValueId id = node.input(i);
  if (id == kNoValue) refuse_container(node, fmt::format("operand {}", i), "none");
  return id;
}

const Elements& sequence(LiftContext& lift, const Node& node, std::size_t i = 0) {
  const ValueId id = operand(node, i);
  const auto found = lift.containers().find(id);
  if (found == lift.containers().end())
    refuse_container(node, "a sequence of a known number of tensors", "'" + lift.graph()[id].name + "'");
  if (!found->second.is_present)
    refuse_container(node, "a sequence", "'" + lift.graph()[id].name + "', an optional value that holds none");
  return found->second.elements;
}

std::vector<std::int64_t> known_integers(LiftContext& lift, const Node& node, std::size_t i, std::string_view what) {
  const Value& value = lift.graph()[operand(node, i)];
  if (!value.is_constant() || !is_integer(value.dtype))
    refuse_container(node, fmt::format("{} that is a constant", what), "'" + value.name + "', computed from data");
  if (value.constant.count() > kMostParts)
    refuse_container(node, fmt::format("{} of at most {} numbers", what, kMostParts),
                     std::to_string(value.constant.count()));
  return to_int64s(value.constant);
}

enum class At { element, gap };

// The index of one of `count` elements, or of a gap before one of them (or after all). Negative positions count from
// the end; the default is the last element, and the last gap.
std::size_t position(LiftContext& lift, const Node& node, std::size_t i, std::size_t count, At at) {
  const auto length = static_cast<std::int64_t>(count), last = at == At::gap ? length : length - 1;
  if (node.input(i) == kNoValue) return static_cast<std::size_t>(last);
  const std::vector<std::int64_t> values = known_integers(lift, node, i, "a position");
  if (values.size() != 1 || values[0] < -length || values[0] > last)
    refuse_container(node, fmt::format("a position from {} to {}", -length, last),
                     values.size() == 1 ? std::to_string(values[0]) : fmt::format("{} numbers", values.size()));
  return static_cast<std::size_t>(values[0] < 0 ? values[0] + length : values[0]);
}

void require_elements(const Node& node, const Elements& elements) {
  if (elements.empty()) refuse_container(node, "a sequence with an element", "an empty one");
}

void give_sequence(LiftContext& lift, const Node& node, Elements elements) {
  count_elements(lift, node, elements.size());
  lift.containers()[node.outputs.at(0)] = {.elements = std::move(elements)};
}

void give_constant(LiftContext& lift, const Node& node, Tensor tensor) {
  Value& value = lift.graph()[node.outputs.at(0)];
  value.dtype = tensor.dtype();
  value.shape = tensor.shape();
  value.constant = std::move(tensor);
}

// The result has the same contents as the operand.
void pass_on(LiftContext& lift, const Node& node) {
  const ValueId in = operand(node, 0), out = node.outputs.at(0);
  const auto container = lift.containers().find(in);
  if (container == lift.containers().end()) return lift.replace(out, in);
  const Container copy = container->second;
  count_elements(lift, node, copy.elements.size());
  lift.containers()[out] = copy;
}

void sequence_construct(LiftContext& lift, const Node& node) {
  for (std::size_t i = 0; i < node.inputs.size(); ++i) operand(node, i);
  give_sequence(lift, node, node.inputs);
}

void sequence_empty(LiftContext& lift, const Node& node) { give_sequence(lift, node, {}); }

void sequence_insert(LiftContext& lift, const Node& node) {
  Elements elements = sequence(lift, node);
  const std::size_t at = position(lift, node, 2, elements.size(), At::gap);
  elements.insert(elements.begin() + static_cast<std::ptrdiff_t>(at), operand(node, 1));
  give_sequence(lift, node, std::move(elements));
}

void sequence_erase(LiftContext& lift, const Node& node) {
  Elements elements = sequence(lift, node);
  require_elements(node, elements);
  elements.erase(elements.begin() + static_cast<std::ptrdiff_t>(position(lift, node, 1, elements.size(), At::element)));
  give_sequence(lift, node, std::move(elements));
}

void sequence_at(LiftContext& lift, const Node& node) {
  const Elements& elements = sequence(lift, node);
  require_elements(node, elements);
  lift.replace(node.outputs.at(0), elements[position(lift, node, 1, elements.size(), At::element)]);
}

void sequence_length(LiftContext& lift, const Node& node) {
  give_constant(lift, node, Tensor::scalar(static_cast<std::int64_t>(sequence(lift, node).size())));
}

struct Parts {
  std::vector<std::int64_t> extents;
  bool are_slices;  ///< of extent 1 each, without a list
};

// The extents listed in `split`, or all equal to it, or all 1; the last one may be smaller.
Parts parts_of(LiftContext& lift, const Node& node, std::int64_t axis) {
  std::int64_t each = 1;
  if (const ValueId split = node.input(1); split != kNoValue) {
    const std::vector<std::int64_t> listed = known_integers(lift, node, 1, "a split");
    if (lift.graph()[split].constant.shape().rank() == 1) return {listed, false};
    each = listed.size() == 1 ? listed[0] : 0;
  }
  if (each <= 0) refuse_container(node, "parts of at least one slice", std::to_string(each));
  const Value& whole = lift.graph()[node.inputs[0]];
  if (!whole.shape.is_ranked())
    refuse_container(node, "a known rank of the split tensor", "an unknown rank of '" + whole.name + "'");
  const std::int64_t extent = whole.shape[normalize_axis(axis, whole.shape.rank())];
  if (extent == Shape::kUnknown)
    refuse_container(node, fmt::format("a known extent of axis {} of '{}'", axis, whole.name), "an unknown one");
  if (extent / each > kMostParts)
    refuse_container(node, fmt::format("at most {} parts", kMostParts), std::to_string(extent / each));
  std::vector<std::int64_t> extents(static_cast<std::size_t>(extent / each), each);
  if (extent % each != 0) extents.push_back(extent % each);
  return {std::move(extents), each == 1};
}

void split_to_sequence(LiftContext& lift, const Node& node) {
  const ValueId whole = operand(node, 0);
  const std::int64_t axis = node.attributes.get_int("axis", 0);
  const auto [extents, are_slices] = parts_of(lift, node, axis);
  Elements parts;
  for (std::size_t i = 0; i < extents.size(); ++i) parts.push_back(lift.value(fmt::format("part{}", i)));
  if (!parts.empty()) lift.give("Split", {whole, lift.constant("split", Tensor::of(extents))}, parts, {{"axis", axis}});
  // According to ONNX, keepdims only applies if `split` is absent; but PyTorch exports unbind with a split of 1, and
  // ONNX Runtime applies it.
  if (are_slices && node.attributes.get_int("keepdims", 1) == 0 && !parts.empty()) {
    const ValueId axes = lift.constant("axis", Tensor::of<std::int64_t>({axis}));
    for (ValueId& part : parts) part = lift.before("Squeeze", {part, axes});
  }
  give_sequence(lift, node, std::move(parts));
}

void concat_from_sequence(LiftContext& lift, const Node& node) {
  Elements elements = sequence(lift, node);
  require_elements(node, elements);
  if (!node.attributes.has("axis")) refuse_container(node, "an axis", "none");
  const std::int64_t axis = node.attributes.get_int("axis", 0);
  if (node.attributes.get_int("new_axis", 0) != 0) {
    const ValueId axes = lift.constant("axis", Tensor::of<std::int64_t>({axis}));
    for (ValueId& element : elements) element = lift.before("Unsqueeze", {element, axes});
  }
  lift.give("Concat", std::move(elements), {node.outputs.at(0)}, {{"axis", axis}});
}

void make_optional(LiftContext& lift, const Node& node) {
  if (node.input(0) != kNoValue) return pass_on(lift, node);
  lift.containers()[node.outputs.at(0)] = {.is_present = false};
}

bool is_present(LiftContext& lift, ValueId id) {
  if (id == kNoValue) return false;
  const auto container = lift.containers().find(id);
  return container == lift.containers().end() || container->second.is_present;
}

void optional_has_element(LiftContext& lift, const Node& node) {
  give_constant(lift, node, Tensor::scalar(is_present(lift, node.input(0))));
}

void optional_get_element(LiftContext& lift, const Node& node) {
  if (!is_present(lift, node.input(0)))
    refuse_container(node, "an optional value that holds something", "an empty one");
  pass_on(lift, node);
}

constexpr ContainerRule kRules[] = {
    {"ConcatFromSequence", concat_from_sequence},
    {"Identity", pass_on},
    {"Optional", make_optional},
    {"OptionalGetElement", optional_get_element},
    {"OptionalHasElement", optional_has_element},
    {"SequenceAt", sequence_at},
    {"SequenceConstruct", sequence_construct},
    {"SequenceEmpty", sequence_empty},
    {"SequenceErase", sequence_erase},
    {"SequenceInsert", sequence_insert},
    {"SequenceLength", sequence_length},
    {"SplitToSequence", split_to_sequence},
};

}  // namespace

std::span<const ContainerRule> container_rules() { return kRules; }

std::vector<std::string_view> container_operators() {
  std::vector<std::string_view> names = {"SequenceMap"};
  for (const ContainerRule& rule : kRules)
    if (rule.op != "Identity") names.push_back(rule.op);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_container_operator(std::string_view op) {
  const auto has_name = [&](const ContainerRule& rule) { return rule.op == op; };
  return op == "SequenceMap" || (op != "Identity" && std::any_of(std::begin(kRules), std::end(kRules), has_name));
}

bool has_container_operators(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    if (node.domain.empty() && is_container_operator(node.op)) return true;
    const std::vector<const Graph*> inner = bodies(node);
    return std::any_of(inner.begin(), inner.end(), [](const Graph* body) { return has_container_operators(*body); });
  });
}

void count_elements(LiftContext& lift, const Node& node, std::size_t more) {
  lift.elements += more;
  if (lift.elements > kMostElements)
    refuse_container(node, fmt::format("at most {} elements in all sequences", kMostElements), "more");
}

void refuse_container(const Node& node, std::string required, std::string found) {
  throw_input_error(std::move(required), fmt::format("{} in {} '{}'", found, node.op, node.name),
                    "export the model with lists of fixed lengths, or with tensors in place of lists");
}

}  // namespace halfstep
