// Changes of the operators of ai.onnx after version 7 for which the old form is invalid, or has another meaning, in the
// newest version. Source: the change lists of the ONNX operator schemas (onnx/defs/*/old.cc).
#include <algorithm>
#include <limits>

#include "onnx_io/early_lift_rules.h"
#include "onnx_io/lift.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

void set_input(Node& node, std::size_t i, ValueId id) {
  if (node.inputs.size() <= i) node.inputs.resize(i + 1, kNoValue);
  node.inputs[i] = id;
}

// A list of integers that was an attribute and is now input `i`.
template <std::size_t i>
void ints_to_input(LiftContext& lift, Node& node, std::string_view name) {
  const Attribute* attribute = node.attributes.find(name);
  if (!attribute) return;
  set_input(node, i, lift.constant(name, Tensor::of(node.attributes.get_ints(name))));
  node.attributes.remove(name);
}

Tensor scalar_of(DType dtype, float number) {
  const Tensor scalar = Tensor::scalar(number);
  return dtype == DType::undefined ? scalar : convert(scalar, dtype);
}

void axes_to_input(LiftContext& lift, Node& node) { ints_to_input<1>(lift, node, "axes"); }

// Softmax and related operators: before 13 all axes from `axis` (default 1) on were treated as one.
void normalize_from_axis(LiftContext& lift, Node& node) {
  const std::int64_t axis = node.attributes.get_int("axis", 1);
  const Shape& shape = lift.graph()[node.inputs.at(0)].shape;
  if (axis == -1 || (shape.is_ranked() && axis == static_cast<std::int64_t>(shape.rank()) - 1)) {
    node.attributes.set("axis", axis);
    return;
  }
  const ValueId extents = lift.before("Shape", {node.inputs[0]});
  node.inputs[0] = lift.before("Flatten", {node.inputs[0]}, {{"axis", axis}});
  node.attributes.set("axis", std::int64_t{-1});
  const ValueId flat = lift.value("flat");
  Attributes attributes;
  if (lift.opset >= 14) attributes.set("allowzero", std::int64_t{1});
  lift.after("Reshape", {flat, extents}, node.outputs.at(0), std::move(attributes));
  node.outputs[0] = flat;
}

void batch_normalization_9(LiftContext& lift, Node& node) {
  if (node.attributes.get_int("spatial", 1) != 1)
    lift.refuse("statistics per channel (spatial = 1)",
                "spatial = " + std::to_string(node.attributes.get_int("spatial", 1)));
  node.attributes.remove("spatial");
}

// Before 14, more than one output meant training; outputs 3 and 4 were statistics saved for a backward pass.
void batch_normalization_14(LiftContext& lift, Node& node) {
  for (std::size_t i = 3; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue && lift.is_read(node.outputs[i]))
      lift.refuse("a model that does not read saved statistics",
                  "'" + lift.graph()[node.outputs[i]].name + "' is read");
  if (node.outputs.size() > 3) node.outputs.resize(3);
  while (!node.outputs.empty() && node.outputs.back() == kNoValue) node.outputs.pop_back();
  if (node.outputs.size() > 1) node.attributes.set("training_mode", std::int64_t{1});
}

void clip_11(LiftContext& lift, Node& node) {
  const DType dtype = lift.graph()[node.inputs.at(0)].dtype;
  const std::pair<std::string_view, float> bounds[] = {{"min", std::numeric_limits<float>::lowest()},
                                                       {"max", std::numeric_limits<float>::max()}};
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& [name, unbounded] = bounds[i];
    const float bound = node.attributes.get_float(name, unbounded);
    node.attributes.remove(name);
    if (bound != unbounded) set_input(node, i + 1, lift.constant(name, scalar_of(dtype, bound)));
  }
}

void dft_20(LiftContext& lift, Node& node) {
  set_input(node, 2, lift.constant("axis", Tensor::scalar(node.attributes.get_int("axis", 1))));
  node.attributes.remove("axis");
}

// Before 10 the mask had the type of the data.
void dropout_10(LiftContext& lift, Node& node) {
  const ValueId mask = node.output(1);
  if (mask == kNoValue || !lift.is_read(mask)) return;
  const DType dtype = lift.graph()[node.inputs.at(0)].dtype;
  if (dtype == DType::undefined) lift.refuse("a known element type of the data, for the mask", "an unknown one");
  node.outputs[1] = lift.value("mask");
  lift.after("Cast", {node.outputs[1]}, mask, {{"to", static_cast<std::int64_t>(dtype)}});
}

void dropout_12(LiftContext& lift, Node& node) {
  set_input(node, 1, lift.constant("ratio", Tensor::scalar(node.attributes.get_float("ratio", 0.5f))));
  node.attributes.remove("ratio");
}

void grid_sample_20(LiftContext&, Node& node) {
  const std::string mode = node.attributes.get_string("mode", "bilinear");
  node.attributes.set("mode", std::string(mode == "bilinear" ? "linear" : mode == "bicubic" ? "cubic" : mode));
}

// Before 21 scale and bias had one element per group: repeat each for the channels of its group.
void group_normalization_21(LiftContext& lift, Node& node) {
  const std::int64_t groups = node.attributes.get_int("num_groups", 0);
  const ValueId count = lift.constant("groups", Tensor::of<std::int64_t>({groups}));
  const ValueId channels =
      lift.before("Shape", {node.inputs.at(0)}, {{"start", std::int64_t{1}}, {"end", std::int64_t{2}}});
  const ValueId per_group = lift.before("Div", {channels, count});
  const ValueId extents = lift.before("Concat", {count, per_group}, {{"axis", std::int64_t{0}}});
  const ValueId column = lift.constant("column", Tensor::of<std::int64_t>({groups, 1}));
  const ValueId flat = lift.constant("flat", Tensor::of<std::int64_t>({-1}));
  for (std::size_t i : {1, 2}) {
    const ValueId tall = lift.before("Reshape", {node.inputs.at(i), column});
    node.inputs[i] = lift.before("Reshape", {lift.before("Expand", {tall, extents}), flat});
  }
}

void pad_11(LiftContext& lift, Node& node) {
  const float value = node.attributes.get_float("value", 0);
  ints_to_input<1>(lift, node, "pads");
  if (value != 0) set_input(node, 2, lift.constant("value", scalar_of(lift.graph()[node.inputs.at(0)].dtype, value)));
  node.attributes.remove("value");
}

void rename_scatter(LiftContext&, Node& node) { node.op = "ScatterElements"; }

// The name in ONNX Runtime, in any opset.
void rename_simplified(LiftContext&, Node& node) { node.op = "RMSNormalization"; }

// Version 10 does not specify rounding. Deployed runtimes truncate along axes that grow, and round up along those that
// shrink.
void resize_11(LiftContext& lift, Node& node) {
  node.inputs = {node.input(0), kNoValue, node.input(1)};
  node.attributes.set("coordinate_transformation_mode", std::string("asymmetric"));
  node.attributes.set("nearest_mode", std::string("floor"));
  const Value& scales = lift.graph()[node.inputs[2]];
  if (node.attributes.get_string("mode", "nearest") != "nearest" || !scales.is_constant()) return;
  std::vector<float> growing, shrinking;
  for (const double scale : to_doubles(scales.constant)) {
    growing.push_back(static_cast<float>(std::max(scale, 1.0)));
    shrinking.push_back(static_cast<float>(std::min(scale, 1.0)));
  }
  const auto changes = [](float scale) { return scale != 1; };
  if (std::none_of(shrinking.begin(), shrinking.end(), changes)) return;
  if (std::any_of(growing.begin(), growing.end(), changes)) {
    const ValueId up = lift.constant("growing", Tensor::of(growing));
    node.inputs[0] = lift.before("Resize", {node.inputs[0], kNoValue, up}, node.attributes);
    node.inputs[2] = lift.constant("shrinking", Tensor::of(shrinking));
  }
  node.attributes.set("nearest_mode", std::string("ceil"));
}

// Before 13 absent operands were given as empty tensors, and there was an additional coordinate mode.
void resize_13(LiftContext& lift, Node& node) {
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNoValue) continue;
    const Value& operand = lift.graph()[node.inputs[i]];
    if (operand.shape.is_static() && operand.shape.count() == 0) node.inputs[i] = kNoValue;
  }
  while (node.inputs.size() > 1 && node.inputs.back() == kNoValue) node.inputs.pop_back();
  if (node.attributes.get_string("coordinate_transformation_mode", "") != "tf_half_pixel_for_nn") return;
  // (x + 0.5) / scale rounded down is (x + 0.5) / scale - 0.5 rounded to the nearest, halves up.
  if (node.attributes.get_string("mode", "nearest") != "nearest" ||
      node.attributes.get_string("nearest_mode", "") != "floor")
    lift.refuse("nearest_mode floor with tf_half_pixel_for_nn", "another mode");
  node.attributes.set("coordinate_transformation_mode", std::string("half_pixel"));
  node.attributes.set("nearest_mode", std::string("round_prefer_ceil"));
}

void roi_align_16(LiftContext&, Node& node) {
  node.attributes.set("coordinate_transformation_mode", std::string("output_half_pixel"));
}

// Before 9 everything had a leading batch axis: it becomes a Scan over it, whose body contains the Scan of the
// sequence.
void scan_9(LiftContext& lift, Node& node) {
  if (node.attributes.has("scan_input_axes")) return;  // the inner one, created below
  if (node.input(0) != kNoValue) lift.refuse("Scan without lengths of its own for each sequence", "'sequence_lens'");
  node.inputs.erase(node.inputs.begin());
  if (std::count(node.inputs.begin(), node.inputs.end(), kNoValue) > 0)
    lift.refuse("Scan with all of its operands", "one that is left out");
  const std::size_t operands = node.operands().size();
  const std::int64_t scanned = node.attributes.get_int("num_scan_inputs", 0);
  if (scanned < 1 || scanned > static_cast<std::int64_t>(operands))
    lift.refuse("as many scan inputs as Scan has operands, or fewer, and at least one", std::to_string(scanned));
  auto each = std::make_shared<Graph>();
  each->name = node.name + ".batch";
  Node inner = node;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    inner.inputs[i] = each->add_value(lift.graph()[node.inputs[i]].name);
    (i < operands ? each->inputs : each->captures).push_back(inner.inputs[i]);
  }
  for (ValueId& out : inner.outputs) out = each->add_value(out == kNoValue ? "unread" : lift.graph()[out].name);
  each->outputs = inner.outputs;
  inner.attributes.set("scan_input_directions", node.attributes.get_ints("directions"));
  inner.attributes.remove("directions");
  inner.attributes.set("scan_input_axes", std::vector<std::int64_t>(static_cast<std::size_t>(scanned), 0));
  const std::size_t scan =
      each->define(inner.outputs, "Scan", kOnnxDomain, inner.inputs, inner.attributes, node.name + ".sequence");
  each->edit(scan)->capture_count = inner.capture_count;
  node.attributes = {{"num_scan_inputs", static_cast<std::int64_t>(operands)},
                     {"scan_input_axes", std::vector<std::int64_t>(operands, 0)},
                     {"body", std::shared_ptr<const Graph>(std::move(each))}};
}

void slice_10(LiftContext& lift, Node& node) {
  ints_to_input<1>(lift, node, "starts");
  ints_to_input<2>(lift, node, "ends");
  ints_to_input<3>(lift, node, "axes");
}

void split_13(LiftContext& lift, Node& node) { ints_to_input<1>(lift, node, "split"); }

void split_18(LiftContext&, Node& node) {
  if (node.input(1) == kNoValue) node.attributes.set("num_outputs", static_cast<std::int64_t>(node.outputs.size()));
}

void top_k_10(LiftContext& lift, Node& node) {
  set_input(node, 1, lift.constant("k", Tensor::of<std::int64_t>({node.attributes.get_int("k", 0)})));
  node.attributes.remove("k");
}

void upsample_9(LiftContext& lift, Node& node) {
  set_input(node, 1, lift.constant("scales", Tensor::of(node.attributes.get_floats("scales"))));
  node.attributes.remove("scales");
}

void upsample_10(LiftContext&, Node& node) { node.op = "Resize"; }

constexpr LiftRule kRules[] = {
    {"BatchNormalization", 9, batch_normalization_9},
    {"BatchNormalization", 14, batch_normalization_14},
    {"Clip", 11, clip_11},
    {"DFT", 20, dft_20},
    {"Dropout", 10, dropout_10},
    {"Dropout", 12, dropout_12},
    {"GridSample", 20, grid_sample_20},
    {"GroupNormalization", 21, group_normalization_21},
    {"Hardmax", 13, normalize_from_axis},
    {"LogSoftmax", 13, normalize_from_axis},
    {"Pad", 11, pad_11},
    {"ReduceL1", 18, axes_to_input},
    {"ReduceL2", 18, axes_to_input},
    {"ReduceLogSum", 18, axes_to_input},
    {"ReduceLogSumExp", 18, axes_to_input},
    {"ReduceMax", 18, axes_to_input},
    {"ReduceMean", 18, axes_to_input},
    {"ReduceMin", 18, axes_to_input},
    {"ReduceProd", 18, axes_to_input},
    {"ReduceSum", 13, axes_to_input},
    {"ReduceSumSquare", 18, axes_to_input},
    {"Scan", 9, scan_9},
    {"Scatter", 11, rename_scatter},
    {"SimplifiedLayerNormalization", kOnnxOpset + 1, rename_simplified},
    {"Slice", 10, slice_10},
    {"Softmax", 13, normalize_from_axis},
    {"Split", 13, split_13},
    {"Split", 18, split_18},
    {"Squeeze", 13, axes_to_input},
    {"TopK", 10, top_k_10},
    {"Unsqueeze", 13, axes_to_input},
    {"Upsample", 9, upsample_9},
    {"Upsample", 10, upsample_10},  // becomes the Resize of version 10, for the rules below
    {"Resize", 11, resize_11},
    {"Resize", 13, resize_13},
    {"RoiAlign", 16, roi_align_16},
};

}  // namespace

std::span<const LiftRule> lift_rules() {
  static const std::vector<LiftRule> rules = [] {
    std::vector<LiftRule> all = early_lift_rules();
    all.insert(all.end(), std::begin(kRules), std::end(kRules));
    return all;
  }();
  return rules;
}

}  // namespace halfstep
