#include "onnx_io/unsupported.h"

#include <algorithm>
#include <set>

#include <onnx/defs/schema.h>

#include "onnx_io/containers.h"
#include "onnx_io/convert.h"
#include "onnx_io/lift.h"
#include "onnx_io/proto_walk.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {

void UnsupportedOperators::add(std::string_view domain, std::string_view op, std::string node) {
  nodes_[{std::string(domain), std::string(op)}].push_back(std::move(node));
}

void UnsupportedOperators::report() const {
  if (nodes_.empty()) return;
  constexpr std::size_t kNamesShown = 8;
  std::string found;
  for (const auto& [key, nodes] : nodes_) {
    if (!found.empty()) found += ", ";
    if (!key.first.empty()) found += key.first + ".";
    found += key.second + (nodes.size() == 1 ? " (node " : " (nodes ");
    for (std::size_t i = 0; i < std::min(nodes.size(), kNamesShown); ++i) found += (i ? ", '" : "'") + nodes[i] + "'";
    if (nodes.size() > kNamesShown) found += " and " + std::to_string(nodes.size() - kNamesShown) + " more";
    found += ")";
  }
  throw_input_error(std::string(kSupportedModel), "unsupported " + found,
                    "export the model without these operators; halfstep inspect lists the others, and halfstep convert "
                    "takes all");
}

bool is_supported(std::string_view op, std::string_view domain) {
  if (find_op(op, domain) || (domain.empty() && is_container_operator(op))) return true;
  if (!domain.empty() && domain != kOwnDomain) return false;
  // Operators that a lifting rule renames.
  static constexpr std::pair<std::string_view, std::string_view> kRenamed[] = {
      {"Upsample", "Resize"}, {"Scatter", "ScatterElements"}, {"SimplifiedLayerNormalization", "RMSNormalization"}};
  for (const auto& [old_name, new_name] : kRenamed)
    if (domain.empty() && op == old_name) return is_supported(new_name, domain);
  const int version = static_cast<int>(domain.empty() ? kOnnxOpset : kOwnOpset);
  const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Schema(std::string(op), version, std::string(domain));
  return schema && !schema->deprecated() && (schema->HasFunction() || schema->HasContextDependentFunction());
}

UnsupportedOperators unsupported_operators(onnx::ModelProto& model) {
  std::set<std::pair<std::string, std::string>> local;
  for (const onnx::FunctionProto& function : model.functions())
    local.emplace(canonical_domain(function.domain()), function.name());
  UnsupportedOperators unsupported;
  const auto look_at = [&](const onnx::NodeProto& node) {
    const std::string domain = canonical_domain(node.domain());
    if ((node.op_type() == "Constant" && domain.empty()) || local.contains({domain, node.op_type()}) ||
        is_supported(node.op_type(), domain))
      return;
    unsupported.add(domain, node.op_type(),
                    !node.name().empty() || node.output_size() == 0 ? node.name() : "giving " + node.output(0));
  };
  for_each_node(*model.mutable_graph(), look_at);
  for (onnx::FunctionProto& function : *model.mutable_functions()) for_each_node(function, look_at);
  return unsupported;
}

}  // namespace halfstep
