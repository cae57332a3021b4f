#include "onnx_io/untie.h"

#include <unordered_set>

#include "graph/error.h"
#include "onnx_io/convert.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/source_model.h"
#include "ops/proto.h"

namespace halfstep {
namespace {

// Since IR version 4 an initializer need not be a graph input too.
constexpr std::int64_t kInitializersStandAlone = 4;

std::unordered_set<std::string> names_in(onnx::GraphProto& graph) {
  std::unordered_set<std::string> names;
  for_each_graph(graph, [&](const onnx::GraphProto& any) {
    for (const auto& tensor : any.initializer()) names.insert(tensor.name());
    for (const auto& input : any.input()) names.insert(input.name());
  });
  for_each_node(graph, [&](const onnx::NodeProto& node) { names.insert(node.output().begin(), node.output().end()); });
  return names;
}

void untie_one(onnx::ModelProto& model, const std::string& name, std::unordered_set<std::string>& taken) {
  onnx::GraphProto& graph = *model.mutable_graph();
  int at = 0;
  while (at < graph.initializer_size() && graph.initializer(at).name() != name) ++at;
  if (at == graph.initializer_size())
    throw_input_error("an initializer of the model's main graph to untie", "'" + name + "'",
                      "see halfstep inspect --trainable");
  std::int64_t readers = 0;
  for (onnx::NodeProto& node : *graph.mutable_node()) {
    if (node.op_type() == "Identity" && canonical_domain(node.domain()).empty()) continue;
    for (std::string& input : *node.mutable_input()) {
      if (input != name || ++readers == 1) continue;
      std::string own = name + '.' + std::to_string(readers);
      while (!taken.insert(own).second) own += '_';
      onnx::TensorProto tensor = graph.initializer(at);
      tensor.set_name(own);
      if (model.ir_version() < kInitializersStandAlone) {
        onnx::ValueInfoProto& info = *graph.add_input();
        info.set_name(own);
        *info.mutable_type() =
            type_to_proto(static_cast<DType>(tensor.data_type()),
                          Shape(std::vector<std::int64_t>(tensor.dims().begin(), tensor.dims().end())));
      }
      *graph.add_initializer() = std::move(tensor);
      input = own;
    }
  }
}

}  // namespace

LoadedModel untie(const LoadedModel& model, const std::vector<std::string>& names) {
  if (names.empty()) return model;
  onnx::ModelProto changed = model.source->model;
  std::unordered_set<std::string> taken = names_in(*changed.mutable_graph());
  for (const std::string& name : names) untie_one(changed, name, taken);
  return load_model_from_bytes(changed.SerializeAsString());
}

}  // namespace halfstep
