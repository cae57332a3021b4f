// Files of the first ONNX versions: in-place hints, broadcasting by attribute, flags for test mode. Source: the change
// lists of the ONNX operator schemas (onnx/defs/*/old.cc).
#include "onnx_io/early_lift_rules.h"

#include <algorithm>
#include <cctype>
#include <cmath>

namespace halfstep {
namespace {

void drop(Node& node, std::initializer_list<std::string_view> attributes) {
  for (std::string_view name : attributes) node.attributes.remove(name);
}

void set_default(Node& node, std::string_view name, Attribute value) {
  if (!node.attributes.has(name)) node.attributes.set(name, std::move(value));
}

// A hint as to which inputs may be overwritten.
void consumed_inputs_6(LiftContext&, Node& node) { drop(node, {"consumed_inputs"}); }

const Shape& ranked_shape(LiftContext& lift, const Node& node, std::size_t input) {
  const ValueId id = node.input(input);
  if (id == kNoValue || !lift.graph()[id].shape.is_ranked())
    lift.refuse("an operand of known rank, to broadcast by axis", "input " + std::to_string(input));
  return lift.graph()[id].shape;
}

// The axes of input 1 correspond to those of input 0 from `axis` on: append axes of extent 1.
void align_at(LiftContext& lift, Node& node, std::int64_t axis) {
  const auto rank = static_cast<std::int64_t>(ranked_shape(lift, node, 0).rank());
  const auto other = static_cast<std::int64_t>(ranked_shape(lift, node, 1).rank());
  if (axis >= -rank && axis < 0) axis += rank;
  if (axis < 0 || axis > rank - other)
    lift.refuse(
        "an axis from which on the first operand has all axes of the second",
        "axis " + std::to_string(axis) + " for ranks " + std::to_string(rank) + " and " + std::to_string(other));
  std::vector<std::int64_t> ones;
  for (std::int64_t i = axis + other; i < rank; ++i) ones.push_back(other + static_cast<std::int64_t>(ones.size()));
  if (!ones.empty())
    node.inputs[1] = lift.before("Unsqueeze", {node.inputs[1], lift.constant("axes", Tensor::of(ones))});
}

void broadcast_7(LiftContext& lift, Node& node) {
  if (node.attributes.get_int("broadcast", 0) != 0 && node.attributes.has("axis"))
    align_at(lift, node, node.attributes.get_int("axis", 0));
  drop(node, {"axis", "broadcast"});
}

// Without is_test, more than one output means training, as in later versions.
void batch_normalization_7(LiftContext&, Node& node) {
  if (node.attributes.get_int("is_test", 0) != 0) node.outputs.resize(1);
  drop(node, {"is_test"});
}

void cast_6(LiftContext& lift, Node& node) {
  std::string name = node.attributes.get_string("to", "");
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const DType to = dtype_from_name(name);
  if (to == DType::undefined) lift.refuse("a type to cast to", "'" + name + "'");
  node.attributes.set("to", static_cast<std::int64_t>(to));
}

void concat_4(LiftContext&, Node& node) { set_default(node, "axis", std::int64_t{1}); }

// The mode of Dropout was stored in the file; now it is the user's choice.
void dropout_7(LiftContext&, Node& node) { drop(node, {"is_test"}); }

void gemm_7(LiftContext&, Node& node) { drop(node, {"broadcast"}); }

// The default was misspelt in the schema.
void gru_3(LiftContext&, Node& node) {
  if (node.attributes.get_string("direction", "foward") == "foward")
    node.attributes.set("direction", std::string("forward"));
}

void norm_order_2(LiftContext& lift, Node& node) {
  constexpr float kMost = 1 << 20;
  const float p = node.attributes.get_float("p", 2);
  if (!(p >= 1 && p <= kMost && p == std::trunc(p))) lift.refuse("an integer p from 1 on", "p = " + std::to_string(p));
  node.attributes.set("p", static_cast<std::int64_t>(p));
}

void pad_2(LiftContext&, Node& node) {
  node.attributes.set("pads", node.attributes.get_ints("paddings"));
  drop(node, {"paddings"});
}

// One slope per channel, independent of the following axes.
void prelu_7(LiftContext& lift, Node& node) {
  const Shape& slope = ranked_shape(lift, node, 1);
  if (slope.rank() == 1 && slope[0] != 1 && ranked_shape(lift, node, 0).rank() > 1) align_at(lift, node, 1);
}

void recurrent_7(LiftContext&, Node& node) { drop(node, {"output_sequence"}); }

void reshape_5(LiftContext& lift, Node& node) {
  node.inputs.resize(1);
  node.inputs.push_back(lift.constant("shape", Tensor::of(node.attributes.get_ints("shape"))));
  drop(node, {"consumed_inputs", "shape"});
}

void selu_6(LiftContext& lift, Node& node) {
  set_default(node, "alpha", 1.6732f);
  set_default(node, "gamma", 1.0507f);
  consumed_inputs_6(lift, node);
}

void split_2(LiftContext& lift, Node& node) {
  set_default(node, "axis", std::int64_t{0});
  if (node.input(1) != kNoValue)
    node.inputs[1] = lift.before("Cast", {node.inputs[1]}, {{"to", static_cast<std::int64_t>(DType::i64)}});
}

// Before version 6: the number of repetitions, and the axis.
void tile_6(LiftContext& lift, Node& node) {
  const std::size_t rank = ranked_shape(lift, node, 0).rank();
  auto number = [&](std::size_t i) {
    const Tensor& constant = lift.graph()[node.inputs.at(i)].constant;
    if (!constant.is_defined() || constant.count() != 1)
      lift.refuse("constant tiles and axis of Tile", "input " + std::to_string(i));
    return to_int64s(constant)[0];
  };
  std::vector<std::int64_t> repeats(rank, 1);
  repeats[normalize_axis(number(2), rank)] = number(1);
  node.inputs = {node.inputs[0], lift.constant("repeats", Tensor::of(repeats))};
}

void upsample_7(LiftContext&, Node& node) {
  node.attributes.set("scales", std::vector<float>{1, 1, node.attributes.get_float("height_scale", 1),
                                                   node.attributes.get_float("width_scale", 1)});
  if (node.attributes.get_string("mode", "nearest") == "bilinear") node.attributes.set("mode", std::string("linear"));
  drop(node, {"height_scale", "width_scale"});
}

constexpr std::string_view kHintedUntil6[] = {"Abs",   "Add",       "Ceil",    "Clip", "Div",  "Dropout", "Elu", "Exp",
                                              "Floor", "LeakyRelu", "Log",     "Max",  "Mean", "Min",     "Mul", "Neg",
                                              "PRelu", "Relu",      "Sigmoid", "Sqrt", "Sub",  "Sum",     "Tanh"};
constexpr std::string_view kBroadcastByAttributeUntil7[] = {"Add", "And", "Div", "Equal", "Greater", "Less",
                                                            "Mul", "Or",  "Pow", "Sub",   "Xor"};
constexpr LiftRule kRules[] = {
    {"BatchNormalization", 6, consumed_inputs_6},
    {"BatchNormalization", 7, batch_normalization_7},
    {"Cast", 6, cast_6},
    {"Concat", 4, concat_4},
    {"Dropout", 7, dropout_7},
    {"GRU", 3, gru_3},
    {"GRU", 7, recurrent_7},
    {"Gemm", 7, gemm_7},
    {"GlobalLpPool", 2, norm_order_2},
    {"HardSigmoid", 6, consumed_inputs_6},
    {"InstanceNormalization", 6, consumed_inputs_6},
    {"LSTM", 7, recurrent_7},
    {"LpPool", 2, norm_order_2},
    {"PRelu", 7, prelu_7},
    {"Pad", 2, pad_2},
    {"RNN", 7, recurrent_7},
    {"Reciprocal", 6, consumed_inputs_6},
    {"Reshape", 5, reshape_5},
    {"Selu", 6, selu_6},
    {"Split", 2, split_2},
    {"Tile", 6, tile_6},
    {"Upsample", 7, upsample_7},
};

}  // namespace

std::vector<LiftRule> early_lift_rules() {
  std::vector<LiftRule> rules;
  for (std::string_view op : kHintedUntil6) rules.push_back({op, 6, consumed_inputs_6});
  for (std::string_view op : kBroadcastByAttributeUntil7) rules.push_back({op, 7, broadcast_7});
  rules.insert(rules.end(), std::begin(kRules), std::end(kRules));
  return rules;
}

}  // namespace halfstep
