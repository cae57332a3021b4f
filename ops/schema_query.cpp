#include "ops/schema_query.h"

#include <algorithm>

#include <onnx/defs/schema.h>

#include "ops/proto.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

const onnx::OpSchema* schema_of(std::string_view name, std::string_view domain, std::int64_t version) {
  register_schemas();
  return onnx::OpSchemaRegistry::Schema(std::string(name), static_cast<int>(version), std::string(domain));
}

std::int64_t newest_version(std::string_view domain) { return domain.empty() ? kOnnxOpset : kOwnOpset; }

}  // namespace

bool schema_takes(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    const onnx::OpSchema* schema = schema_of(node.op, node.domain, newest_version(node.domain));
    if (!schema || schema->inputs().empty()) continue;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) continue;
      const auto& formal = schema->inputs()[std::min(i, schema->inputs().size() - 1)];
      const onnx::TypeProto type = type_to_proto(graph[node.inputs[i]].dtype, {});
      if (!formal.GetTypes().contains(onnx::Utils::DataTypeUtils::ToType(type))) return false;
    }
  }
  return true;
}

std::set<std::int64_t> schema_versions(std::string_view name, std::string_view domain) {
  std::set<std::int64_t> versions;
  for (std::int64_t set = 1; set <= newest_version(domain); ++set) {
    const onnx::OpSchema* schema = schema_of(name, domain, set);
    if (schema && !schema->deprecated()) versions.insert(schema->SinceVersion());
  }
  return versions;
}

}  // namespace halfstep
