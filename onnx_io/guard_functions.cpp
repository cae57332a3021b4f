#include "onnx_io/guard_functions.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include "onnx_io/convert.h"
#include "ops/inference_guard.h"

namespace halfstep {
namespace {

std::string describe(const onnx::NodeProto& node) { return node.op_type() + " '" + node.name() + "'"; }

template <class Owner, class Visit>
void visit_nodes(const Owner& owner, const Visit& visit) {
  for (const onnx::NodeProto& node : owner.node()) {
    visit(node);
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) visit_nodes(attribute.g(), visit);
      for (const auto& graph : attribute.graphs()) visit_nodes(graph, visit);
    }
  }
}

template <class Visit>
void visit_all(const onnx::ModelProto& model, const Visit& visit) {
  visit_nodes(model.graph(), visit);
  for (const auto& function : model.functions()) visit_nodes(function, visit);
}

/// An attribute of an operator that functions set by a reference to one of theirs.
struct Use {
  std::string op, attribute;
  std::size_t outputs;
  auto operator<=>(const Use&) const = default;
};

class References {
 public:
  explicit References(const onnx::ModelProto& model) {
    for (bool grown = true; grown;) {
      grown = false;
      visit_all(model, [&](const onnx::NodeProto& node) {
        for (const auto& attribute : node.attribute()) {
          if (attribute.ref_attr_name().empty()) continue;
          std::set<Use>& uses = uses_[attribute.ref_attr_name()];
          const std::size_t before = uses.size();
          uses.insert({node.op_type(), attribute.name(), static_cast<std::size_t>(node.output_size())});
          // If the node is a call itself, the uses of the attribute in its function.
          if (const auto passed = uses_.find(attribute.name()); passed != uses_.end())
            uses.insert(passed->second.begin(), passed->second.end());
          grown = grown || uses.size() != before;
        }
      });
    }
  }

  /// `given` under its name, for all attributes that it may be set to.
  void check(const onnx::AttributeProto& given, const std::string& where) const {
    const auto uses = uses_.find(given.name());
    if (uses == uses_.end()) return;
    for (const Use& use : uses->second)
      check_before_inference(
          use.op, use.outputs, [&](const std::string& name) { return name == use.attribute ? &given : nullptr; },
          [&] { return where; });
  }

 private:
  std::map<std::string, std::set<Use>> uses_;
};

}  // namespace

void check_all_before_inference(const onnx::ModelProto& model) {
  const References references(model);
  std::set<std::pair<std::string, std::string>> functions;
  for (const auto& function : model.functions()) {
    functions.emplace(function.domain(), function.name());
    for (const auto& given : function.attribute_proto()) references.check(given, "function '" + function.name() + "'");
  }
  visit_all(model, [&](const onnx::NodeProto& node) {
    if (functions.contains({node.domain(), node.op_type()})) {
      for (const auto& given : node.attribute()) references.check(given, describe(node));
    } else if (canonical_domain(node.domain()).empty()) {
      check_before_inference(
          node.op_type(), static_cast<std::size_t>(node.output_size()),
          [&](const std::string& name) -> const onnx::AttributeProto* {
            for (const auto& attribute : node.attribute())
              if (attribute.name() == name) return &attribute;
            return nullptr;
          },
          [&] { return describe(node); });
    }
  });
}

}  // namespace halfstep
