#include <algorithm>
#include <deque>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "ops/control_flow/control_flow.h"
#include "ops/gradient_shape.h"
#include "ops/inference_guard.h"
#include "ops/movement/interpolation.h"
#include "ops/onnx_message.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

// Presents one node of a Graph to a schema's inference function.
class Context final : public onnx::InferenceContext {
 public:
  Context(const Graph& graph, const Node& node) {
    for (const auto& [name, value] : node.attributes)
      if (!std::holds_alternative<std::shared_ptr<const Graph>>(value))
        attributes_.emplace(name, attribute_to_proto(name, value));
    for (ValueId in : node.operands()) {
      Input& input = inputs_.emplace_back();
      if (in == kNoValue) continue;
      const Value& value = graph[in];
      input.present = true;
      if (value.dtype != DType::undefined) input.type = type_to_proto(value.dtype, value.shape);
      // Only small integer constants determine shapes; copying others would be wasteful.
      if (value.is_constant() && value.constant.bytes() <= 4096 && value.dtype != DType::string) {
        input.data = tensor_to_proto(value.constant, value.name);
        input.has_data = true;
      }
    }
    outputs_.resize(node.outputs.size());
  }

  const onnx::AttributeProto* getAttribute(const std::string& name) const override {
    auto it = attributes_.find(name);
    return it == attributes_.end() ? nullptr : &it->second;
  }
  size_t getNumInputs() const override { return inputs_.size(); }
  const onnx::TypeProto* getInputType(size_t i) const override {
    return i < inputs_.size() && inputs_[i].present && inputs_[i].type.value_case() != onnx::TypeProto::VALUE_NOT_SET
               ? &inputs_[i].type
               : nullptr;
  }
  const onnx::TensorProto* getInputData(size_t i) const override {
    return i < inputs_.size() && inputs_[i].has_data ? &inputs_[i].data : nullptr;
  }
  size_t getNumOutputs() const override { return outputs_.size(); }
  onnx::TypeProto* getOutputType(size_t i) override { return &outputs_.at(i); }
  onnx::GraphInferencer* getGraphAttributeInferencer(const std::string&) override { return nullptr; }
  const onnx::SparseTensorProto* getInputSparseData(size_t) const override { return nullptr; }
  const onnx::TensorShapeProto* getSymbolicInput(size_t) const override { return nullptr; }

 private:
  struct Input {
    bool present = false, has_data = false;
    onnx::TypeProto type;
    onnx::TensorProto data;
  };
  std::unordered_map<std::string, onnx::AttributeProto> attributes_;
  std::deque<Input> inputs_;
  std::deque<onnx::TypeProto> outputs_;
};

const onnx::OpSchema* find_schema(const Graph& graph, const Node& node) {
  register_schemas();
  auto it = graph.opsets.find(node.domain);
  const std::int64_t version = it != graph.opsets.end() ? it->second : node.domain.empty() ? kOnnxOpset : kOwnOpset;
  return onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), node.domain);
}

std::string describe(const Graph& graph, const Node& node) {
  std::string text = fmt::format("{} '{}' on (", node.op, node.name);
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (i) text += ", ";
    if (node.inputs[i] == kNoValue) continue;
    const Value& value = graph[node.inputs[i]];
    text += fmt::format("{}{}", name_of(value.dtype), value.shape.to_string());
  }
  return text + ")";
}

using TypeParameters = std::unordered_map<std::string, DType>;

// The error in the operands; `types` gets the types of the schema's type parameters. Kernels rely on both: required
// operands are present, and operands with the same type parameter have one type; and on bool where nothing else is
// allowed, because bytes of other types are not valid bools.
std::string wrong_operands(const Graph& graph, const Node& node, const onnx::OpSchema& schema, TypeParameters& types) {
  const std::span<const ValueId> operands = node.operands();
  const auto& formals = schema.inputs();
  if (operands.size() < static_cast<std::size_t>(schema.min_input()))
    return fmt::format("{} operands at least", schema.min_input());
  if (operands.size() > static_cast<std::size_t>(schema.max_input()))
    return fmt::format("{} operands at most", schema.max_input());
  for (std::size_t i = 0; i < operands.size() && !formals.empty(); ++i) {
    const auto& formal = formals[std::min(i, formals.size() - 1)];
    const bool of_one_type = formal.GetOption() != onnx::OpSchema::Variadic || formal.GetIsHomogeneous();
    if (operands[i] == kNoValue) {
      if (formal.GetOption() != onnx::OpSchema::Optional && of_one_type)
        return fmt::format("operand {} ({})", i, formal.GetName());
      continue;
    }
    const DType dtype = graph[operands[i]].dtype;
    if (dtype == DType::undefined || !of_one_type) continue;
    const auto& allowed = formal.GetTypes();
    if (dtype != DType::boolean && allowed.size() == 1 && **allowed.begin() == "tensor(bool)")
      return fmt::format("bool for operand {} ({})", i, formal.GetName());
    const auto [known, is_new] = types.emplace(formal.GetTypeStr(), dtype);
    if (known->second != dtype)
      return fmt::format("{} for operand {} ({}), as others of type {} have", name_of(known->second), i,
                         formal.GetName(), formal.GetTypeStr());
  }
  return {};
}

// By its type parameter, which the inference of some schemas (RMSNormalization) ignores; undefined: not determined by
// it.
DType type_of_result(const onnx::OpSchema& schema, std::size_t i, const TypeParameters& types) {
  const auto& formals = schema.outputs();
  if (formals.empty()) return DType::undefined;
  const auto& formal = formals[std::min(i, formals.size() - 1)];
  const bool of_one_type = formal.GetOption() != onnx::OpSchema::Variadic || formal.GetIsHomogeneous();
  const auto found = types.find(formal.GetTypeStr());
  return of_one_type && found != types.end() ? found->second : DType::undefined;
}

void overrule_shape(Graph& graph, const Node& node) {
  const OpDef* row = find_op(node.op, node.domain);
  if (!row || !row->result_shape || node.output(0) == kNoValue) return;
  std::vector<Shape> shapes;
  for (ValueId in : node.inputs) {
    if (in == kNoValue || !graph[in].shape.is_ranked()) return;
    shapes.push_back(graph[in].shape);
  }
  graph[node.outputs[0]].shape = row->result_shape(node, shapes);
}

// The constant operand's value; undefined if it is absent, nothing if it is computed.
std::optional<Tensor> known_operand(const Graph& graph, ValueId id) {
  if (id == kNoValue) return Tensor();
  if (!graph[id].is_constant()) return std::nullopt;
  return graph[id].constant;
}

// ONNX's inference multiplies extents by scales in f64, runtimes and the kernels in f32: 10 * 0.7 is 7.
void overrule_resize(Graph& graph, const Node& node) {
  if (!node.is("Resize") || node.output(0) == kNoValue) return;
  const Shape& input = graph[node.inputs[0]].shape;
  const auto roi = known_operand(graph, node.input(1)), scales = known_operand(graph, node.input(2)),
             sizes = known_operand(graph, node.input(3));
  if (!input.is_ranked() || !scales || !sizes) return;
  graph[node.outputs[0]].shape = ops::resized_shape(node.attributes, input, *scales, *sizes);
  if (input.is_static() && graph[node.outputs[0]].shape.count() > 0 && roi)
    ops::check_resizing(node.attributes, input, *roi, *scales, *sizes);
}

// A plug-in's row provides the information that schemas provide for other operators.
void infer_by_row(Graph& graph, const Node& node, const OpDef& row) {
  std::vector<TensorType> operands;
  for (const ValueId in : node.operands())
    operands.push_back(in == kNoValue ? TensorType() : TensorType{graph[in].dtype, graph[in].shape});
  std::vector<TensorType> results;
  try {
    results = row.infer(node, operands);
  } catch (const std::exception& e) {
    throw_input_error("operands that fit the operator", describe(graph, node) + ": " + e.what(),
                      "check the shapes and types fed to it");
  }
  if (results.size() < node.outputs.size())
    throw_input_error(fmt::format("{} results at most", results.size()), describe(graph, node),
                      "check the number of the node's outputs");
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    graph[node.outputs[i]].dtype = results[i].dtype;
    graph[node.outputs[i]].shape = std::move(results[i].shape);
  }
}

}  // namespace

void infer_node(Graph& graph, const Node& node) {
  if (is_control_flow(node)) {
    Node copy = node;
    return infer_control_flow(graph, copy);
  }
  const OpDef* row = node.domain.empty() ? nullptr : find_op(node.op, node.domain);
  if (row && row->infer) return infer_by_row(graph, node, *row);
  const onnx::OpSchema* schema = find_schema(graph, node);
  if (!schema)
    throw_input_error("an operator with a schema", describe(graph, node),
                      "check the operator's name, domain and version");
  TypeParameters types;
  if (const std::string wanted = wrong_operands(graph, node, *schema, types); !wanted.empty())
    throw_input_error(wanted, describe(graph, node), "check the operands fed to it");
  Context context(graph, node);
  if (node.domain.empty())
    check_before_inference(
        node.op, node.outputs.size(), [&](const std::string& name) { return context.getAttribute(name); },
        [&] { return describe(graph, node); });
  try {
    if (schema->has_type_and_shape_inference_function()) schema->GetTypeAndShapeInferenceFunction()(context);
  } catch (const std::exception& e) {
    throw_input_error("operands that fit the operator", describe(graph, node) + ": " + plain_onnx_message(e.what()),
                      "check the shapes and types fed to it");
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    const onnx::TypeProto& type = *context.getOutputType(i);
    Value& value = graph[node.outputs[i]];
    if (type.tensor_type().elem_type() != 0) value.dtype = static_cast<DType>(type.tensor_type().elem_type());
    if (const DType dtype = type_of_result(*schema, i, types); dtype != DType::undefined) value.dtype = dtype;
    if (type.value_case() != onnx::TypeProto::kTensorType) continue;
    value.shape = shape_from_proto(type.tensor_type());
    if (std::any_of(value.shape.begin(), value.shape.end(), [](std::int64_t d) { return d < Shape::kUnknown; }))
      throw_input_error("operands that leave something of the result",
                        fmt::format("{}: a result of shape {}", describe(graph, node), value.shape.to_string()),
                        "check the shapes fed to it");
  }
  overrule_shape(graph, node);
  overrule_resize(graph, node);
  ops::check_gradient_shapes(graph, node);
}

void check_inferred(const Tensor& result, DType dtype, const Shape& shape) {
  if (result.dtype() != dtype || result.shape() != shape)
    throw_input_error(fmt::format("a result of {}{}, as was inferred", name_of(dtype), shape.to_string()),
                      fmt::format("{}{}", name_of(result.dtype()), result.shape().to_string()),
                      "check the shapes and types fed to this operator");
}

void infer_graph(Graph& graph) {
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Graph::Edit node = graph.edit(n);
    is_control_flow(*node) ? infer_control_flow(graph, *node) : infer_node(graph, *node);
  }
}

}  // namespace halfstep
