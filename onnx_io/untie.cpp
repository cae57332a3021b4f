#include "onnx_io/untie.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>
#include <utility>

#include "onnx_io/convert.h"
#include "onnx_io/detached.h"
#include "onnx_io/outside.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/source_model.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

std::unordered_set<std::string> names_in(onnx::GraphProto& graph) {
  std::unordered_set<std::string> names;
  for_each_graph(graph, [&](const onnx::GraphProto& any) {
    for (const auto& tensor : any.initializer()) names.insert(tensor.name());
    for (const auto& input : any.input()) names.insert(input.name());
  });
  for_each_node(graph, [&](const onnx::NodeProto& node) { names.insert(node.output().begin(), node.output().end()); });
  return names;
}

template <class Fields, class IsIt>
int find(const Fields& fields, const IsIt& is_it) {
  const auto at = std::find_if(fields.begin(), fields.end(), is_it);
  return at == fields.end() ? -1 : static_cast<int>(at - fields.begin());
}

// Elements outside as well: saving finds those of each by their index.
void copy_initializer(SourceModel& source, int at, const std::string& name) {
  onnx::TensorProto tensor = source.model.graph().initializer(at);
  tensor.set_name(name);
  if (DetachedModel::index_of(tensor) >= 0) {
    source.outside.push_back(source.read(tensor).clone());
    mark_detached(tensor, source.outside.size() - 1);
  }
  add_initializer(source.model, std::move(tensor));
}

onnx::NodeProto copy_of(const onnx::NodeProto& constant, const std::string& name) {
  onnx::NodeProto copy = constant;
  copy.set_output(0, name);
  if (!copy.name().empty()) copy.set_name(name);
  return copy;
}

void untie_one(SourceModel& source, const std::string& name, std::unordered_set<std::string>& taken) {
  onnx::GraphProto& graph = *source.model.mutable_graph();
  const int initializer = find(graph.initializer(), [&](const auto& tensor) { return tensor.name() == name; });
  const int constant = find(graph.node(), [&](const onnx::NodeProto& node) {
    return is_op(node, "Constant") && node.output_size() == 1 && node.output(0) == name;
  });
  if (initializer < 0 && constant < 0)
    throw_input_error("an initializer or Constant node of the model's main graph to untie", "'" + name + "'",
                      "see halfstep inspect --parameters");
  std::int64_t readers = 0;
  std::vector<onnx::NodeProto> copies;
  for (onnx::NodeProto& node : *graph.mutable_node()) {
    if (is_op(node, "Identity")) continue;
    for (std::string& input : *node.mutable_input()) {
      if (input != name || ++readers == 1) continue;
      std::string own = name + '.' + std::to_string(readers);
      while (!taken.insert(own).second) own += '_';
      if (initializer >= 0)
        copy_initializer(source, initializer, own);
      else
        copies.push_back(copy_of(graph.node(constant), own));
      input = own;
    }
  }
  if (copies.empty()) return;
  // Before their readers: next to the node that they are copies of.
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
  for (int i = 0; i < graph.node_size(); ++i) {
    *nodes.Add() = graph.node(i);
    if (i == constant)
      for (onnx::NodeProto& copy : copies) *nodes.Add() = std::move(copy);
  }
  *graph.mutable_node() = std::move(nodes);
}

}  // namespace

bool separate_statistics(SourceModel& source) {
  const onnx::ModelProto& inlined = source.inlined ? *source.inlined : source.model;
  std::map<std::string, int> readers;
  for (const onnx::NodeProto& node : inlined.graph().node())
    if (!is_op(node, "Identity"))
      for (const std::string& input : node.input()) ++readers[input];
  std::set<std::string> constants, shared;
  for (const auto& tensor : source.model.graph().initializer()) constants.insert(tensor.name());
  for (const onnx::NodeProto& node : source.model.graph().node())
    if (is_op(node, "Constant") && node.output_size() == 1) constants.insert(node.output(0));
  for (const onnx::NodeProto& node : inlined.graph().node())
    if (is_op(node, "BatchNormalization"))
      for (const int i : {3, 4})
        if (i < node.input_size() && readers[node.input(i)] > 1 && constants.contains(node.input(i)))
          shared.insert(node.input(i));
  if (shared.empty()) return false;
  std::unordered_set<std::string> taken = names_in(*source.model.mutable_graph());
  for (const std::string& name : shared) untie_one(source, name, taken);
  return true;
}

LoadedModel untie(const LoadedModel& model, const std::vector<std::string>& names) {
  if (names.empty()) return model;
  SourceModel changed{.model = model.source->model, .inlined = {}, .outside = model.source->outside};
  std::unordered_set<std::string> taken = names_in(*changed.model.mutable_graph());
  for (const std::string& name : names) untie_one(changed, name, taken);
  LoadedModel result = load_detached(std::move(changed.model), std::move(changed.outside));
  result.data_files = model.data_files;
  return result;
}

}  // namespace halfstep
