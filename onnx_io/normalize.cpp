#include "onnx_io/normalize.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include <fmt/format.h>

#include "base/machine_memory.h"
#include "onnx_io/convert.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/sort_nodes.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using Imports = google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>;

void name_once(Imports& imports) {
  std::map<std::string, std::int64_t> versions;
  Imports kept;
  for (onnx::OperatorSetIdProto& import : imports) {
    if (canonical_domain(import.domain()) != import.domain()) import.set_domain("");
    const auto [known, is_new] = versions.emplace(import.domain(), import.version());
    if (is_new)
      kept.Add()->Swap(&import);
    else if (known->second != import.version())
      throw_input_error("one version of each operator set",
                        fmt::format("{} and {} of '{}'", known->second, import.version(),
                                    import.domain().empty() ? "ai.onnx" : import.domain()),
                        "export the model again");
  }
  imports.Swap(&kept);
}

[[noreturn]] void misfit(const std::string& name, const std::string& required, const std::string& found) {
  throw_input_error("a sparse tensor with " + required, fmt::format("{} in '{}'", found, name),
                    "export the model again, or store the tensor densely");
}

Shape shape_of(const onnx::SparseTensorProto& sparse) {
  return Shape(std::vector<std::int64_t>(sparse.dims().begin(), sparse.dims().end()));
}

// 0 unless it is a dense tensor of numbers.
std::size_t element_bits(const onnx::SparseTensorProto& sparse) {
  return bits_of(static_cast<DType>(sparse.values().data_type()));
}

/// Limit of the total memory of the dense tensors of a model.
class Budget {
 public:
  void take(const onnx::SparseTensorProto& sparse) {
    const std::string& name = sparse.values().name();
    const Shape shape = shape_of(sparse);
    const auto most = static_cast<std::int64_t>(left_ / std::max<std::size_t>(element_bits(sparse) / 8, 1));
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) {
      if (extent < 0) misfit(name, "extents of at least 0", std::to_string(extent));
      if (extent > 0 && count > most / extent)
        misfit(name, "elements that fit, beside those of the others, into a quarter of this machine's memory",
               shape.to_string());
      count *= extent;
    }
    left_ -= static_cast<std::size_t>(count) * (element_bits(sparse) / 8);
  }

 private:
  std::size_t left_ = machine_memory() / 4;
};

/// Calls `visit_graph(GraphProto&)` for every graph, and `visit_value(AttributeProto&)` for every sparse Constant.
template <class VisitGraph, class VisitValue>
void for_each_sparse(onnx::ModelProto& model, const VisitGraph& visit_graph, const VisitValue& visit_value) {
  const auto visit_node = [&](onnx::NodeProto& node) {
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) visit_graph(*attribute.mutable_g());
      for (auto& graph : *attribute.mutable_graphs()) visit_graph(graph);
      if (node.op_type() == "Constant" && attribute.name() == "sparse_value" && attribute.has_sparse_tensor())
        visit_value(attribute);
    }
  };
  visit_graph(*model.mutable_graph());
  for_each_node(*model.mutable_graph(), visit_node);
  for (auto& function : *model.mutable_functions()) for_each_node(function, visit_node);
}

// The position of each value, from one index per value or one per value and axis.
std::vector<std::int64_t> positions(const Tensor& indices, const Shape& shape, std::int64_t values, std::int64_t count,
                                    const std::string& name) {
  const Shape wanted_flat{values}, wanted_axes{values, static_cast<std::int64_t>(shape.rank())};
  if (values == 0) return {};
  if (indices.dtype() != DType::i64 || (indices.shape() != wanted_flat && indices.shape() != wanted_axes))
    misfit(name, fmt::format("i64 indices of shape {} or {}", wanted_flat.to_string(), wanted_axes.to_string()),
           fmt::format("{}{}", name_of(indices.dtype()), indices.shape().to_string()));
  const std::span<const std::int64_t> given = indices.span<std::int64_t>();
  // A flat index is an index into the list of all elements.
  const Shape grid = indices.shape() == wanted_flat ? Shape{count} : shape;
  std::vector<std::int64_t> result;
  for (auto index = given.begin(); index != given.end();) {
    std::int64_t position = 0;
    for (const std::int64_t extent : grid) {
      if (*index < 0 || *index >= extent)
        misfit(name, "indices inside of " + shape.to_string(), std::to_string(*index));
      position = position * extent + *index++;
    }
    if (!result.empty() && position <= result.back())
      misfit(name, "indices in ascending order", fmt::format("{} after {}", position, result.back()));
    result.push_back(position);
  }
  return result;
}

onnx::TensorProto dense(const onnx::SparseTensorProto& sparse,
                        const std::function<Tensor(const onnx::TensorProto&)>& read) {
  const std::string& name = sparse.values().name();
  const Tensor values = read(sparse.values());
  const Shape shape = shape_of(sparse);
  const std::size_t bits = element_bits(sparse);
  if (bits < 8 || values.shape().rank() != 1)
    misfit(name, "a list of numbers of at least 8 bits",
           fmt::format("{}{}", name_of(values.dtype()), values.shape().to_string()));
  const std::size_t size = bits / 8;
  const std::int64_t count = shape.count();
  const Tensor indices = sparse.has_indices() ? read(sparse.indices()) : Tensor::of(std::vector<std::int64_t>());
  const std::vector<std::int64_t> at = positions(indices, shape, values.count(), count, name);
  onnx::TensorProto result;
  result.set_name(name);
  result.set_doc_string(sparse.values().doc_string());
  result.set_data_type(sparse.values().data_type());
  *result.mutable_dims() = sparse.dims();
  std::string& bytes = *result.mutable_raw_data();
  bytes.assign(static_cast<std::size_t>(count) * size, '\0');
  const auto* from = static_cast<const char*>(values.raw());
  for (std::size_t i = 0; i < at.size(); ++i)
    std::memcpy(bytes.data() + static_cast<std::size_t>(at[i]) * size, from + i * size, size);
  return result;
}

}  // namespace

void normalize_message(onnx::ModelProto& model) {
  const auto spell = [](onnx::NodeProto& node) {
    if (canonical_domain(node.domain()) != node.domain()) node.set_domain("");
  };
  for_each_node(*model.mutable_graph(), spell);
  name_once(*model.mutable_opset_import());
  for (auto& function : *model.mutable_functions()) {
    for_each_node(function, spell);
    name_once(*function.mutable_opset_import());
    if (canonical_domain(function.domain()) != function.domain()) function.clear_domain();
  }
  if (model.graph().name().empty()) model.mutable_graph()->set_name("graph");
  sort_nodes(model);
}

void densify(onnx::ModelProto& model, const std::function<Tensor(const onnx::TensorProto&)>& read) {
  // All sizes are checked before the first allocation.
  Budget budget;
  for_each_sparse(
      model,
      [&](onnx::GraphProto& graph) {
        for (const auto& sparse : graph.sparse_initializer()) budget.take(sparse);
      },
      [&](onnx::AttributeProto& value) { budget.take(value.sparse_tensor()); });
  for_each_sparse(
      model,
      [&](onnx::GraphProto& graph) {
        for (const auto& sparse : graph.sparse_initializer()) *graph.add_initializer() = dense(sparse, read);
        graph.clear_sparse_initializer();
      },
      [&](onnx::AttributeProto& attribute) {
        onnx::TensorProto value = dense(attribute.sparse_tensor(), read);
        attribute.clear_sparse_tensor();
        attribute.set_name("value");
        attribute.set_type(onnx::AttributeProto::TENSOR);
        attribute.mutable_t()->Swap(&value);
      });
}

}  // namespace halfstep
