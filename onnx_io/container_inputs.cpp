#include "onnx_io/container_inputs.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using Type = onnx::TypeProto;

class Spreader {
 public:
  Spreader(onnx::GraphProto& graph, const LoadOptions& options) : graph_(graph), options_(options) {}

  void run() {
    check_names();
    const auto inputs = std::exchange(*graph_.mutable_input(), {});
    for (const onnx::ValueInfoProto& input : inputs) spread(input);
    // Nodes that create the containers precede those that read them.
    made_.MergeFrom(graph_.node());
    graph_.mutable_node()->Swap(&made_);
  }

 private:
  void check_names() const {
    const auto& inputs = graph_.input();
    auto require = [&](const std::string& name, const char* kind, bool (Type::*has)() const) {
      if (std::none_of(inputs.begin(), inputs.end(),
                       [&](const auto& input) { return input.name() == name && (input.type().*has)(); }))
        throw_input_error(fmt::format("the name of an input that is {}", kind), "'" + name + "'",
                          "halfstep inspect lists the inputs");
    };
    for (const auto& [name, length] : options_.sequence_lengths) {
      const bool is_optional = std::any_of(inputs.begin(), inputs.end(), [&name = name](const auto& input) {
        return input.name() == name && input.type().optional_type().elem_type().has_sequence_type();
      });
      if (!is_optional) require(name, "a sequence", &Type::has_sequence_type);
      if (length < 0) throw_input_error("a length of at least 0", fmt::format("{} for '{}'", length, name), "give it");
    }
    for (const std::string& name : options_.absent_inputs) require(name, "an optional value", &Type::has_optional_type);
  }

  onnx::NodeProto& make(const std::string& op, const std::string& name) {
    onnx::NodeProto& node = *made_.Add();
    node.set_op_type(op);
    node.set_name(name);
    node.add_output(name);
    return node;
  }

  void spread(const onnx::ValueInfoProto& input) {
    const bool is_optional = input.type().has_optional_type();
    const Type& type = is_optional ? input.type().optional_type().elem_type() : input.type();
    if (is_optional && options_.absent_inputs.contains(input.name())) {
      make("Optional", input.name());
    } else if (type.has_sequence_type()) {
      spread_sequence(input.name(), type.sequence_type().elem_type());
    } else {
      onnx::ValueInfoProto& kept = *graph_.add_input();
      kept = input;
      const Type copy = type;
      *kept.mutable_type() = copy;
    }
  }

  void spread_sequence(const std::string& name, const Type& element) {
    const auto length = options_.sequence_lengths.find(name);
    if (length == options_.sequence_lengths.end())
      throw_input_error("the number of elements of every sequence among the model's inputs", "none for '" + name + "'",
                        "give it in LoadOptions::sequence_lengths, or export the model with tensors in place of lists");
    onnx::NodeProto& node = make(length->second == 0 ? "SequenceEmpty" : "SequenceConstruct", name);
    for (std::int64_t i = 0; i < length->second; ++i) {
      onnx::ValueInfoProto& each = *graph_.add_input();
      each.set_name(fmt::format("{}.{}", name, i));
      *each.mutable_type() = element;
      node.add_input(each.name());
    }
  }

  onnx::GraphProto& graph_;
  const LoadOptions& options_;
  google::protobuf::RepeatedPtrField<onnx::NodeProto> made_;
};

}  // namespace

bool is_container(const onnx::ValueInfoProto& value) {
  return value.type().has_sequence_type() || value.type().has_optional_type();
}

bool has_container_inputs(const onnx::ModelProto& model) {
  return std::any_of(model.graph().input().begin(), model.graph().input().end(), is_container);
}

void spread_container_inputs(onnx::ModelProto& model, const LoadOptions& options) {
  Spreader(*model.mutable_graph(), options).run();
}

}  // namespace halfstep
