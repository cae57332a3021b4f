#include "ops/elementwise/chain.h"

#include <fmt/format.h>

#include "ops/control_flow/control_flow.h"
#include "ops/interpreter.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

const Graph& body_of_chain(const Node& node) {
  const Graph& body = body_of(node, kChainBody);
  const std::size_t operands = node.operands().size();
  if (node.capture_count > 0 || body.inputs.size() != operands || body.outputs.size() < node.outputs.size())
    throw_input_error(
        fmt::format("a body of {} inputs and {} outputs that reads nothing else", operands, node.outputs.size()),
        fmt::format("{} and {}, and {} values read from outside, in {} '{}'", body.inputs.size(), body.outputs.size(),
                    node.capture_count, node.op, node.name),
        "check what wrote the model");
  return body;
}

void infer_body(Graph& body, std::span<const TensorType> operands) {
  for (std::size_t i = 0; i < operands.size(); ++i) {
    body[body.inputs[i]].dtype = operands[i].dtype;
    body[body.inputs[i]].shape = operands[i].shape;
  }
  infer_graph(body);
}

std::vector<TensorType> infer_chain(const Node& node, std::span<const TensorType> operands) {
  Graph body = body_of_chain(node);
  infer_body(body, operands);
  std::vector<TensorType> results;
  for (const ValueId out : body.outputs) results.push_back({body[out].dtype, body[out].shape});
  return results;
}

void run_chain(KernelCall& call) {
  const std::vector<Tensor> results = Interpreter(body_of_chain(call.node)).run(call.in, {});
  for (std::size_t i = 0; i < call.out.size(); ++i)
    if (call.has_out(i)) copy_elements(results[i], ensure_out(call, i, results[i].dtype(), results[i].shape()));
}

// The body, as the function has it that stands for the node elsewhere.
bool write_function(const onnx::FunctionBodyBuildContext& call, const onnx::OpSchema& self,
                    onnx::FunctionProto& function) {
  const onnx::AttributeProto* attribute = call.getAttribute(std::string(kChainBody));
  if (!attribute) return false;
  const onnx::GraphProto& body = attribute->g();
  function.set_name(self.Name());
  function.set_domain(self.domain());
  for (const auto& input : body.input()) function.add_input(input.name());
  for (const auto& output : body.output()) function.add_output(output.name());
  for (const auto& constant : body.initializer()) {
    onnx::NodeProto& node = *function.add_node();
    node.set_op_type("Constant");
    node.add_output(constant.name());
    onnx::AttributeProto& value = *node.add_attribute();
    value.set_name("value");
    value.set_type(onnx::AttributeProto::TENSOR);
    *value.mutable_t() = constant;
  }
  function.mutable_node()->MergeFrom(body.node());
  const auto import = [&](std::string_view domain, std::int64_t version) {
    onnx::OperatorSetIdProto& opset = *function.add_opset_import();
    opset.set_domain(std::string(domain));
    opset.set_version(version);
  };
  import(kOnnxDomain, kOnnxOpset);
  import(kOwnDomain, kOwnOpset);
  return true;
}

void chain_schema(onnx::OpSchema& schema) {
  schema.SetDoc("Elementwise operators computed in one kernel; intermediate results are not stored.")
      .Attr(std::string(kChainBody), "Gives the results from the operands; their shapes are broadcast to one.",
            onnx::AttributeProto::GRAPH)
      .TypeConstraint("V", onnx::OpSchema::all_tensor_types_ir4(), "Any type.")
      .Input(0, "operands", "The body's inputs.", "V", onnx::OpSchema::Variadic, /*is_homogeneous=*/false)
      .Output(0, "results", "The body's outputs.", "V", onnx::OpSchema::Variadic, /*is_homogeneous=*/false)
      .SetContextDependentFunctionBodyBuilder(write_function);
}

const std::vector<OpCase> kCases = {
    {"(float[2,3] a, float[3] b) => (float[2,3] y) { y = ai.halfstep.ElementwiseChain<body = "
     "c (float[2,3] p, float[3] q) => (float[2,3] r) { s = Add(p, q) r = Relu(s) }>(a, b) }"},
    // A result that is read on; columns; a condition of its own; an operand that is read at the end.
    {"(float[2,4,3] a, float[4,1] b, float[2,4,3] c) => (float[2,4,3] y, float[2,4,3] z) { y, z = "
     "ai.halfstep.ElementwiseChain<body = d (float[2,4,3] p, float[4,1] q, float[2,4,3] r) => (float[2,4,3] s, "
     "float[2,4,3] t) { s = Mul(p, q) u = Sigmoid(s) g = Less(u, r) v = Where(g, u, p) t = Sub(v, r) }>(a, b, c) }"},
    // All of it scalar.
    {"(float a, float b) => (float y) { y = ai.halfstep.ElementwiseChain<body = "
     "c (float p, float q) => (float r) { s = Mul(p, q) t = Exp(s) r = Add(t, q) }>(a, b) }"},
    // Through other types.
    {"(float[3,5] a) => (float[3,5] y) { y = ai.halfstep.ElementwiseChain<body = c (float[3,5] p) => (float[3,5] r) "
     "{ h = Cast<to = 16>(p) g = Mul(h, h) i = Cast<to = 10>(g) n = Neg(i) r = Cast<to = 1>(n) }>(a) }"},
    {"(float[0,3] a, float[3] b) => (float[0,3] y) { y = ai.halfstep.ElementwiseChain<body = c (float[0,3] p, float[3] "
     "q) => (float[0,3] r) { s = Add(p, q) r = Neg(s) }>(a, b) }"},
};

}  // namespace

Graph typed_chain_body(const Graph& graph, const Node& chain) {
  Graph body = body_of_chain(chain);
  std::vector<TensorType> operands;
  bool is_typed = true;
  for (std::size_t i = 0; i < body.inputs.size(); ++i) {
    const Value &outside = graph[chain.inputs[i]], &inside = body[body.inputs[i]];
    operands.push_back({outside.dtype, outside.shape});
    is_typed = is_typed && outside.dtype == inside.dtype && outside.shape == inside.shape;
  }
  for (const Node& node : body.nodes)
    for (const ValueId out : node.outputs)
      is_typed = is_typed && out != kNoValue && body[out].dtype != DType::undefined && body[out].shape.is_static();
  if (!is_typed) infer_body(body, operands);
  return body;
}

std::vector<OpDef> chain_rows() {
  return {{.name = kChain,
           .domain = kOwnDomain,
           .precision = PrecisionClass::neutral,
           .traits = {.elementwise = Elementwise::broadcast},
           .reference = run_chain,
           .cases = kCases,
           .schema = chain_schema,
           .infer = infer_chain,
           .note = "written last, by executors that compute it in one pass over memory"}};
}

}  // namespace halfstep::ops
