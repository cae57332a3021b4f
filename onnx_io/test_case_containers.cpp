#include "onnx_io/test_case_containers.h"

#include <algorithm>
#include <set>
#include <string>

#include <fmt/format.h>
#include <onnx/onnx-data.pb.h>

#include "onnx_io/container_inputs.h"
#include "onnx_io/containers.h"
#include "onnx_io/convert.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/test_case_file.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using Type = onnx::TypeProto;

std::vector<Tensor> elements_of(const onnx::SequenceProto& sequence) {
  if (sequence.elem_type() != onnx::SequenceProto::TENSOR && sequence.elem_type() != onnx::SequenceProto::UNDEFINED)
    throw_input_error("a sequence of dense tensors", fmt::format("one of kind {}", sequence.elem_type()),
                      "leave the case out");
  std::vector<Tensor> elements;
  for (const onnx::TensorProto& element : sequence.tensor_values()) elements.push_back(tensor_from_proto(element));
  return elements;
}

std::vector<Tensor> content_of(const onnx::OptionalProto& optional) {
  switch (optional.elem_type()) {
    case onnx::OptionalProto::UNDEFINED:
      return {};
    case onnx::OptionalProto::TENSOR:
      return {tensor_from_proto(optional.tensor_value())};
    case onnx::OptionalProto::SEQUENCE:
      return elements_of(optional.sequence_value());
    default:
      throw_input_error("an optional tensor or sequence", fmt::format("one of kind {}", optional.elem_type()),
                        "leave the case out");
  }
}

bool is_index_type(const Type& type) {
  const auto dtype = static_cast<DType>(type.tensor_type().elem_type());
  return type.has_tensor_type() && (dtype == DType::boolean || is_integer(dtype));
}

std::vector<Tensor> read_value(const fs::path& path, const Type& type) {
  if (type.has_optional_type()) return content_of(read_case_file<onnx::OptionalProto>(path, "an optional value"));
  if (type.has_sequence_type()) return elements_of(read_case_file<onnx::SequenceProto>(path, "a sequence"));
  return {tensor_from_proto(read_case_file<onnx::TensorProto>(path, "a tensor"))};
}

// Calls `visit` with each input that has a file, and its file.
template <class Visit>
void for_each_input(const onnx::GraphProto& graph, const fs::path& data_set, const Visit& visit) {
  std::set<std::string> initialized;
  for (const onnx::TensorProto& initializer : graph.initializer()) initialized.insert(initializer.name());
  int files = 0;
  for (const onnx::ValueInfoProto& input : graph.input())
    if (!initialized.contains(input.name())) visit(input, data_set / fmt::format("input_{}.pb", files++));
}

void append(std::vector<Tensor>& all, const std::vector<Tensor>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace

std::vector<Tensor> read_container_inputs(const onnx::ModelProto& model, const fs::path& data_set) {
  std::vector<Tensor> tensors;
  for_each_input(model.graph(), data_set, [&](const onnx::ValueInfoProto& input, const fs::path& path) {
    if (!is_index_type(input.type())) append(tensors, read_value(path, input.type()));
  });
  return tensors;
}

std::vector<Tensor> read_container_outputs(const onnx::ModelProto& model, const fs::path& data_set) {
  std::vector<Tensor> tensors;
  for (int i = 0; i < model.graph().output_size(); ++i)
    append(tensors, read_value(data_set / fmt::format("output_{}.pb", i), model.graph().output(i).type()));
  return tensors;
}

bool has_containers(onnx::ModelProto& model) {
  const auto& outputs = model.graph().output();
  bool found = has_container_inputs(model) || std::any_of(outputs.begin(), outputs.end(), is_container);
  for_each_node(*model.mutable_graph(), [&](const onnx::NodeProto& node) {
    found = found || (canonical_domain(node.domain()).empty() && is_container_operator(node.op_type()));
  });
  return found;
}

void fix_containers(onnx::ModelProto& model, const fs::path& data_set) {
  LoadOptions options;
  const onnx::ModelProto source = model;
  onnx::GraphProto& graph = *model.mutable_graph();
  graph.clear_input();
  for_each_input(source.graph(), data_set, [&](const onnx::ValueInfoProto& input, const fs::path& path) {
    if (is_index_type(input.type())) {
      onnx::TensorProto& constant = *graph.add_initializer();
      constant = read_case_file<onnx::TensorProto>(path, "a tensor");
      constant.set_name(input.name());
      return;
    }
    *graph.add_input() = input;
    const bool is_optional = input.type().has_optional_type();
    const Type& held = is_optional ? input.type().optional_type().elem_type() : input.type();
    if (is_optional &&
        read_case_file<onnx::OptionalProto>(path, "an optional value").elem_type() == onnx::OptionalProto::UNDEFINED)
      options.absent_inputs.insert(input.name());
    else if (held.has_sequence_type())
      options.sequence_lengths[input.name()] = static_cast<std::int64_t>(read_value(path, input.type()).size());
  });
  spread_container_inputs(model, options);
  // A sequence need not specify the shapes of its elements, but an input must.
  const std::vector<Tensor> tensors = read_container_inputs(source, data_set);
  for (int i = 0; i < graph.input_size(); ++i)
    if (auto& type = *graph.mutable_input(i)->mutable_type()->mutable_tensor_type(); !type.has_shape()) {
      type.mutable_shape();
      for (std::int64_t extent : tensors.at(static_cast<std::size_t>(i)).shape().dims())
        type.mutable_shape()->add_dim()->set_dim_value(extent);
    }
}

}  // namespace halfstep
