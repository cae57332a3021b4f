#include "conversion/joints.h"

#include <algorithm>
#include <string_view>

#include <onnx/defs/schema.h>

#include <halfstep/ops/op_traits.h>

namespace halfstep::conversion {
namespace {

constexpr int kScanWithoutBatches = 9;  // before, Scan had an additional axis and operand

std::size_t index(int i) { return static_cast<std::size_t>(i); }

bool allows(const onnx::OpSchema& schema, DType half) {
  const std::string_view wanted = half == DType::f16 ? "tensor(float16)" : "tensor(bfloat16)";
  const auto& types = schema.outputs().front().GetTypes();
  return std::any_of(types.begin(), types.end(), [&](const std::string* type) { return *type == wanted; });
}

std::size_t states_of(const ViewNode& node) {
  if (traits_of(node).control_flow == ControlFlow::loop)
    return node.inputs.size() - std::min<std::size_t>(2, node.inputs.size());
  for (const auto& attribute : node.proto->attribute())
    if (attribute.name() == "num_scan_inputs")
      return node.inputs.size() - std::min(node.inputs.size(), static_cast<std::size_t>(attribute.i()));
  return node.inputs.size();
}

}  // namespace

std::vector<Joint> joints_of(const ModelView& view, const ViewNode& node, DType half) {
  const ControlFlow kind = traits_of(node).control_flow;
  const bool loop = kind == ControlFlow::loop, scan = kind == ControlFlow::scan;
  if (node.bodies.empty() || kind == ControlFlow::none) return {};
  const onnx::OpSchema* schema = view.schema_of(node);
  if (!schema || !allows(*schema, half) || (scan && schema->since_version() < kScanWithoutBatches)) return {};
  const auto is_wide = [&](ValueId v) { return v != kNoValue && view.values[v].is_wide(); };

  const std::size_t states = kind == ControlFlow::branches ? 0 : states_of(node);
  const std::size_t before = loop ? 1 : 0;  // the first output of a Loop's body is its condition
  std::vector<Joint> joints;
  for (std::size_t k = states; k < node.outputs.size(); ++k) {
    Joint joint{.output = static_cast<int>(k)};
    bool wide = is_wide(node.outputs[k]);
    for (int body : node.bodies) {
      const auto& outputs = view.scopes[index(body)].outputs;
      wide = wide && k + before < outputs.size() && is_wide(outputs[k + before]);
      joint.body_outputs.push_back({body, k + before});
    }
    if (wide) joints.push_back(std::move(joint));
  }
  for (std::size_t k = states; scan && k < node.inputs.size(); ++k) {
    const auto& inputs = view.scopes[index(node.bodies[0])].inputs;
    if (k < inputs.size() && is_wide(node.inputs[k]) && is_wide(inputs[k]))
      joints.push_back({.operand = static_cast<int>(k), .body_input = inputs[k]});
  }
  return joints;
}

}  // namespace halfstep::conversion
