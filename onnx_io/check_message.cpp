#include "onnx_io/check_message.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <onnx/checker.h>
#include <onnx/defs/schema.h>

#include "onnx_io/convert.h"

namespace halfstep {
namespace {

/// An operator that occurs in opsets in which it is deprecated or not yet defined, and the schema that it follows.
struct Stray {
  std::string_view op;
  const char* as;
  int version;
};
constexpr Stray kStrays[] = {{"GroupNormalization", "GroupNormalization", 21},
                             {"LayerNormalization", "LayerNormalization", 17},
                             {"SimplifiedLayerNormalization", "RMSNormalization", 23}};
constexpr int kFirstGroupNormalization = 18;

class WiderRegistry final : public onnx::ISchemaRegistry {
 public:
  const onnx::OpSchema* GetSchema(const std::string& op, int version, const std::string& domain) const override {
    const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Schema(op, version, domain);
    if ((schema && !schema->Deprecated()) || !domain.empty()) return schema;
    for (const Stray& stray : kStrays)
      if (op == stray.op && (op != "GroupNormalization" || version >= kFirstGroupNormalization))
        return onnx::OpSchemaRegistry::Schema(stray.as, stray.version, domain);
    return schema;
  }
};

// The checker requires a shape for each input and output, but does not use it.
class ShapesFilledIn {
 public:
  explicit ShapesFilledIn(onnx::GraphProto& graph) {
    for (auto* list : {graph.mutable_input(), graph.mutable_output()})
      for (onnx::ValueInfoProto& info : *list) {
        const bool has_type = info.has_type() && info.type().value_case() != onnx::TypeProto::VALUE_NOT_SET;
        if (!has_type && list == graph.mutable_output()) {
          untyped_.push_back(&info);
          info.mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
          info.mutable_type()->mutable_tensor_type()->mutable_shape();
        } else if (info.type().has_tensor_type() && !info.type().tensor_type().has_shape()) {
          unranked_.push_back(&info);
          info.mutable_type()->mutable_tensor_type()->mutable_shape();
        }
      }
  }
  ~ShapesFilledIn() {
    for (auto* info : untyped_) info->clear_type();
    for (auto* info : unranked_) info->mutable_type()->mutable_tensor_type()->clear_shape();
  }
  ShapesFilledIn(const ShapesFilledIn&) = delete;
  ShapesFilledIn& operator=(const ShapesFilledIn&) = delete;

 private:
  std::vector<onnx::ValueInfoProto*> untyped_, unranked_;
};

}  // namespace

void check_message(onnx::ModelProto& model) {
  const ShapesFilledIn filled(*model.mutable_graph());
  std::unordered_set<std::string> keys;
  for (const auto& entry : model.metadata_props())
    if (!keys.insert(entry.key()).second)
      throw std::runtime_error("The model has '" + entry.key() + "' twice in metadata_props.");
  std::unordered_map<std::string, int> imports;
  for (const auto& import : model.opset_import()) imports[import.domain()] = static_cast<int>(import.version());
  if (imports.empty()) throw std::runtime_error("The model names no operator set (opset_import).");
  const WiderRegistry registry;
  onnx::checker::CheckerContext context;
  context.set_schema_registry(&registry);
  context.set_ir_version(static_cast<int>(std::max(model.ir_version(), kInitializersStandAlone)));
  context.set_opset_imports(std::move(imports));
  const onnx::checker::LexicalScopeContext names;
  onnx::checker::check_graph(model.graph(), context, names);
  onnx::checker::check_model_local_functions(model, context, names);
}

}  // namespace halfstep
