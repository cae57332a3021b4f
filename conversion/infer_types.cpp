#include "conversion/infer_types.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>

#include <onnx/defs/schema.h>
#include <onnx/defs/shape_inference.h>

#include "ops/inference_guard.h"

namespace halfstep::conversion {
namespace {

using onnx::TypeProto;

bool is_known(const TypeProto* type) { return type && type->value_case() != TypeProto::VALUE_NOT_SET; }

// A subgraph with known types.
class KnownBody : public onnx::GraphInferencer {
 public:
  explicit KnownBody(const std::vector<TypeProto>& outputs) {
    for (const TypeProto& type : outputs) outputs_.push_back(&type);
  }
  std::vector<const TypeProto*> doInferencing(const std::vector<const TypeProto*>&,
                                              const std::vector<const onnx::TensorProto*>&) override {
    return outputs_;
  }

 private:
  std::vector<const TypeProto*> outputs_;
};

class TypesOnly : public onnx::InferenceContext {
 public:
  TypesOnly(const onnx::NodeProto& node, const std::vector<const TypeProto*>& inputs,
            const std::vector<std::vector<TypeProto>>& bodies)
      : inputs_(inputs), outputs_(static_cast<std::size_t>(node.output_size())) {
    std::size_t body = 0;
    for (const auto& attribute : node.attribute()) {
      attributes_[attribute.name()] = &attribute;
      if (attribute.has_g() && body < bodies.size())
        bodies_[attribute.name()] = std::make_unique<KnownBody>(bodies[body++]);
    }
  }

  const onnx::AttributeProto* getAttribute(const std::string& name) const override {
    auto it = attributes_.find(name);
    return it == attributes_.end() ? nullptr : it->second;
  }
  std::size_t getNumInputs() const override { return inputs_.size(); }
  const TypeProto* getInputType(std::size_t i) const override {
    return i < inputs_.size() && is_known(inputs_[i]) ? inputs_[i] : nullptr;
  }
  bool hasInput(std::size_t i) const override { return i < inputs_.size() && inputs_[i]; }
  const onnx::TensorProto* getInputData(std::size_t) const override { return nullptr; }
  std::size_t getNumOutputs() const override { return outputs_.size(); }
  TypeProto* getOutputType(std::size_t i) override { return &outputs_.at(i); }
  onnx::GraphInferencer* getGraphAttributeInferencer(const std::string& name) override {
    auto it = bodies_.find(name);
    return it == bodies_.end() ? nullptr : it->second.get();
  }
  const onnx::SparseTensorProto* getInputSparseData(std::size_t) const override { return nullptr; }
  const onnx::TensorShapeProto* getSymbolicInput(std::size_t) const override { return nullptr; }

  std::vector<TypeProto> take() { return std::move(outputs_); }

 private:
  const std::vector<const TypeProto*>& inputs_;
  std::vector<TypeProto> outputs_;
  std::unordered_map<std::string, const onnx::AttributeProto*> attributes_;
  std::unordered_map<std::string, std::unique_ptr<KnownBody>> bodies_;
};

template <class Parameters>
const onnx::OpSchema::FormalParameter* parameter(const Parameters& formal, std::size_t k) {
  return formal.empty() ? nullptr : &formal[std::min(k, formal.size() - 1)];
}

// The type of an operand with the same type variable.
const TypeProto* type_by_variable(const onnx::OpSchema& schema, const std::vector<const TypeProto*>& inputs,
                                  const std::string& variable) {
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const auto* formal = parameter(schema.inputs(), k);
    if (is_known(inputs[k]) && formal && formal->GetIsHomogeneous() && formal->GetTypeStr() == variable)
      return inputs[k];
  }
  return nullptr;
}

}  // namespace

TypeProto without_shapes(TypeProto type) {
  switch (type.value_case()) {
    case TypeProto::kTensorType:
      type.mutable_tensor_type()->clear_shape();
      break;
    case TypeProto::kSequenceType:
      *type.mutable_sequence_type()->mutable_elem_type() = without_shapes(type.sequence_type().elem_type());
      break;
    case TypeProto::kOptionalType:
      *type.mutable_optional_type()->mutable_elem_type() = without_shapes(type.optional_type().elem_type());
      break;
    default:
      break;
  }
  return type;
}

std::vector<TypeProto> infer_output_types(const onnx::OpSchema& schema, const onnx::NodeProto& node,
                                          const std::vector<const TypeProto*>& inputs,
                                          const std::vector<std::vector<TypeProto>>& bodies) {
  TypesOnly context(node, inputs, bodies);
  try {
    if (schema.domain().empty())
      check_before_inference(
          schema.Name(), context.getNumOutputs(), [&](const std::string& name) { return context.getAttribute(name); },
          [&] { return "'" + node.name() + "'"; });
    schema.GetTypeAndShapeInferenceFunction()(context);
  } catch (const std::exception&) {  // shapes, or types of unknown operators' results, are missing
  }
  std::vector<TypeProto> outputs = context.take();
  // Before opset 6, Cast had the name of its type as an attribute.
  if (schema.Name() == "Cast" && schema.since_version() < 6 && outputs.size() == 1)
    for (const auto& attribute : node.attribute())
      if (onnx::TensorProto::DataType type{}; onnx::TensorProto::DataType_Parse(attribute.s(), &type))
        outputs[0].mutable_tensor_type()->set_elem_type(type);
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    outputs[k] = without_shapes(std::move(outputs[k]));
    const auto* formal = parameter(schema.outputs(), k);
    const bool undefined = outputs[k].has_tensor_type() && outputs[k].tensor_type().elem_type() == 0;
    if ((is_known(&outputs[k]) && !undefined) || !formal) continue;
    outputs[k].Clear();
    if (const TypeProto* type = type_by_variable(schema, inputs, formal->GetTypeStr()); type)
      outputs[k] = *type;
    else if (formal->GetTypes().size() == 1)
      outputs[k] = onnx::Utils::DataTypeUtils::ToTypeProto(*formal->GetTypes().begin());
  }
  return outputs;
}

}  // namespace halfstep::conversion
