#include "onnx_io/opset.h"

#include <algorithm>
#include <span>

#include <onnx/defs/data_type_utils.h>
#include <onnx/defs/schema.h>

#include "onnx_io/lift.h"
#include "ops/proto.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

const onnx::OpSchema* schema_of(const Node& node, std::int64_t version) {
  return onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), node.domain);
}

bool takes_type(const onnx::OpSchema::FormalParameter& parameter, const Value& value) {
  if (value.dtype == DType::undefined) return true;
  const auto type = onnx::Utils::DataTypeUtils::ToType(type_to_proto(value.dtype, Shape::unranked()));
  return parameter.GetTypes().contains(type);
}

bool takes_types(const Graph& graph, std::span<const ValueId> values,
                 const std::vector<onnx::OpSchema::FormalParameter>& parameters) {
  if (parameters.empty()) return values.empty();
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] != kNoValue && !takes_type(parameters[std::min(i, parameters.size() - 1)], graph[values[i]]))
      return false;
  return true;
}

// An attribute that is not set must have had the same default.
bool same_defaults(const Node& node, const onnx::OpSchema& old_schema, const onnx::OpSchema& newest) {
  for (const auto& [name, attribute] : newest.attributes()) {
    if (node.attributes.has(name)) {
      if (!old_schema.attributes().contains(name)) return false;
      continue;
    }
    auto before = old_schema.attributes().find(name);
    if (before == old_schema.attributes().end()) continue;
    if (before->second.required ||
        before->second.default_value.SerializeAsString() != attribute.default_value.SerializeAsString())
      return false;
  }
  return true;
}

// Whether `node`, in its newest form, is valid in `version` of ai.onnx with the same meaning.
bool fits(const Graph& graph, const Node& node, std::int64_t version) {
  const onnx::OpSchema* old_schema = schema_of(node, version);
  const onnx::OpSchema* newest = schema_of(node, kOnnxOpset);
  if (!old_schema || !newest || old_schema->deprecated()) return false;
  if (old_schema == newest) return true;
  for (const LiftRule& rule : lift_rules())
    if (node.op == rule.op && version < rule.below) return false;
  const auto inputs = static_cast<int>(node.operands().size()), outputs = static_cast<int>(node.outputs.size());
  return inputs >= old_schema->min_input() && inputs <= old_schema->max_input() &&
         outputs <= old_schema->max_output() && same_defaults(node, *old_schema, *newest) &&
         takes_types(graph, node.operands(), old_schema->inputs()) &&
         takes_types(graph, node.outputs, old_schema->outputs());
}

}  // namespace

std::int64_t lowest_opset(const Graph& graph) {
  register_schemas();
  std::int64_t lowest = kOldestWrittenOpset;
  for (const Node& node : graph.nodes) {
    while (node.domain.empty() && lowest < kOnnxOpset && !fits(graph, node, lowest)) ++lowest;
    for (const auto& [_, attribute] : node.attributes)
      if (const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&attribute))
        lowest = std::max(lowest, lowest_opset(**subgraph));
  }
  return lowest;
}

std::int64_t ir_version_of(std::int64_t opset) {
  // The first opset of each IR version, from the versioning table of the ONNX documentation.
  constexpr std::pair<std::int64_t, std::int64_t> kFirstOpsets[] = {{7, 13},  {8, 15},  {9, 19},  {10, 21},
                                                                    {11, 23}, {12, 24}, {13, 25}, {14, 28}};
  std::int64_t ir = kFirstOpsets[0].first;
  for (const auto& [version, first] : kFirstOpsets)
    if (opset >= first) ir = version;
  return ir;
}

}  // namespace halfstep
