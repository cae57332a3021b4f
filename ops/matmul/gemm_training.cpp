// Products with what a training step wants beside them. Each is made after differentiation, where an executor has it.
#include "ops/matmul/gemm_training.h"

#include <fmt/format.h>

#include "ops/elementwise/formula.h"
#include "ops/epilogue_schema.h"
#include "ops/gradient_schema.h"
#include "ops/matmul/product.h"
#include "ops/type_attributes.h"
#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

std::vector<double> values_of(const StackProduct& product, const KernelCall& call) {
  return product.values(to_doubles(call.in[0]), to_doubles(call.in[1]), alpha_of(call.node.attributes));
}

void gemm_activation(KernelCall& call) {
  const StackProduct product = matrix_product_of(call);
  std::vector<double> z = values_of(product, call);
  if (call.has_in(2)) {
    const std::vector<double> c = to_doubles(call.in[2]);
    if (c.size() != static_cast<std::size_t>(product.b.columns))
      throw_input_error("a bias of one element for each column", call.in[2].shape().to_string(),
                        "check the node's operand C");
    for (std::size_t i = 0; i < z.size(); ++i) z[i] += c[i % c.size()];
  }
  const Epilogue last = epilogue_of(call.node.attributes);
  std::vector<double> y = z;
  for (double& value : y) value = last(value);
  const DType dtype = call.in[0].dtype();
  store(ensure_out(call, 0, dtype, product.shape()), y);
  if (call.has_out(1)) store(ensure_out(call, 1, dtype, product.shape()), z);
}

void gemm_activation_grad(KernelCall& call) {
  const StackProduct product = matrix_product_of(call);
  std::vector<double> y = values_of(product, call);
  const std::vector<double> z = to_doubles(call.in[2]);
  const std::string activation = call.node.attributes.get_string("activation", "");
  const FormulaDef* slope = find_formula(activation + "Grad", kOwnDomain, call.node.attributes);
  if (!slope || slope->parameters > 0 || z.size() != y.size())
    throw_input_error("an activation without bounds, and its operand for each element of the product",
                      fmt::format("'{}' of {}", activation, call.in[2].shape().to_string()), "check the node");
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = evaluate(slope->formula, {y[i], z[i]});
  store(ensure_out(call, 0, call.in[0].dtype(), product.shape()), y);
}

bool sums_a(const Attributes& attributes) { return attributes.get_string("operand", "B") == "A"; }

void gemm_sums(KernelCall& call) {
  const StackProduct product = matrix_product_of(call);
  const DType dtype = to_type(call.node, call.in[0].dtype());
  store(ensure_out(call, 0, dtype, product.shape()), values_of(product, call));
  const bool is_a = sums_a(call.node.attributes);
  const MatrixStack& operand = is_a ? product.a : product.b;
  const std::vector<double> matrix = operand.matrix(to_doubles(call.in[is_a ? 0 : 1]), 0);
  std::vector<double> sums(static_cast<std::size_t>(is_a ? operand.rows : operand.columns));
  for (std::int64_t row = 0; row < operand.rows; ++row)
    for (std::int64_t column = 0; column < operand.columns; ++column)
      sums[static_cast<std::size_t>(is_a ? row : column)] += matrix[row * operand.columns + column];
  store(ensure_out(call, 1, dtype, Shape{static_cast<std::int64_t>(sums.size())}), sums);
}

// Schemas -------------------------------------------------------------------------------------------------------------

void infer_activation(onnx::InferenceContext& ctx) {
  infer_matrix_product(ctx);
  if (ctx.getNumOutputs() > 1 && onnx::hasNInputShapes(ctx, 2))
    onnx::updateOutputShape(ctx, 1, ctx.getOutputType(0)->tensor_type().shape());
}

void infer_sums(onnx::InferenceContext& ctx) {
  infer_matrix_product(ctx);
  if (ctx.getNumOutputs() < 2 || !onnx::hasNInputShapes(ctx, 2)) return;
  const bool is_a = onnx::getAttribute(ctx, "operand", std::string("B")) == "A";
  onnx::TensorShapeProto sums;
  *sums.add_dim() = ctx.getOutputType(0)->tensor_type().shape().dim(is_a ? 0 : 1);
  onnx::updateOutputShape(ctx, 1, sums);
}

void add_product(onnx::OpSchema& schema) {
  add_product_attributes(schema);
  schema.Input(0, "A", "Matrix [M, K].", "T")
      .Input(1, "B", "Matrix [K, N].", "T")
      .TypeAndShapeInferenceFunction(infer_matrix_product);
  constrain_floats(schema, "T", "Type of the operands.");
}

constexpr const char* kProductText = "Gemm<alpha : float = @alpha, transA : int = @transA, transB : int = @transB>";

void gemm_activation_schema(onnx::OpSchema& schema) {
  add_product(schema);
  add_epilogue_attributes(schema);
  schema.Input(2, "C", "[N]", "T", onnx::OpSchema::Optional)
      .Output(0, "Y", "activation(Z), [M, N].", "T")
      .Output(1, "Z", "alpha A B + C, [M, N].", "T", onnx::OpSchema::Optional)
      .TypeAndShapeInferenceFunction(infer_activation);
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    const char* operands = call.hasInput(2) ? "(A, B, C)" : "(A, B)";
    return fmt::format("Z = {}{}\n", kProductText, operands) + epilogue_text(epilogue_of(call), "Y", "Z");
  });
}

constexpr OpenNaN kSlope = {.with_infinity = true,
                            .reason = "a library's slope of the activation may be NaN where Z is infinite"};

void gemm_activation_grad_schema(onnx::OpSchema& schema) {
  add_product(schema);
  add_epilogue_attributes(schema);
  schema.Input(2, "Z", "The activation's operand, [M, N].", "T")
      .Output(0, "Y", "alpha A B times the activation's slope at Z, [M, N].", "T");
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    if (string_of(call, "activation", "") != "Gelu") return std::string();
    return fmt::format("X = Identity(Z)\ndY = {}(A, B)\n", kProductText) + gelu_grad_body(call) + "Y = Identity(dX)";
  });
}

void gemm_sums_schema(onnx::OpSchema& schema) {
  add_product(schema);
  add_to_attribute(schema);
  schema.Attr("operand", "The operand that is summed, \"A\" or \"B\".", onnx::AttributeProto::STRING, std::string("B"));
  constrain_floats(schema, "TO", "Type of the results.");
  schema.Output(0, "Y", "alpha A B, [M, N].", "TO")
      .Output(1, "S", "The operand's sums over K: [M] of A, [N] of B.", "TO")
      .TypeAndShapeInferenceFunction(infer_sums);
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    const bool is_a = string_of(call, "operand", "B") == "A";
    const char* cast = int_of(call, "to", 0) != 0 ? "Cast<to : int = @to>" : "Identity";
    const std::int64_t axis = int_of(call, is_a ? "transA" : "transB", 0) != 0 ? (is_a ? 0 : 1) : (is_a ? 1 : 0);
    return fmt::format(
        "Aw = {0}(A)\nBw = {0}(B)\nY = {1}(Aw, Bw)\n"
        "axis = Constant<value_ints = [{2}]>()\nS = ReduceSum<keepdims = 0>({3}w, axis)",
        cast, kProductText, axis, is_a ? "A" : "B");
  });
}

}  // namespace

std::span<const OpDef> gemm_training_ops() {
  static const OpDef rows[] = {
      {.name = "GemmActivation",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = gemm_activation,
       .cases = {{"(float[3,4] a, float[4,8] b, float[8] c) => (float[3,8] y, float[3,8] z) "
                  "{ y, z = ai.halfstep.GemmActivation<activation = \"Gelu\", approximate = \"tanh\">(a, b, c) }"},
                 {"(float[4,3] a, float[5,4] b) => (float[3,5] y, float[3,5] z) "
                  "{ y, z = ai.halfstep.GemmActivation<transA = 1, transB = 1, activation = \"Gelu\", "
                  "approximate = \"tanh\", alpha = 0.5>(a, b) }"}},
       .schema = gemm_activation_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "GemmActivationGrad",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = gemm_activation_grad,
       .cases = {{"(float[3,4] a, float[8,4] b, float[3,8] z) => (float[3,8] y) "
                  "{ y = ai.halfstep.GemmActivationGrad<transB = 1, activation = \"Gelu\", approximate = \"tanh\">"
                  "(a, b, z) }"},
                 {"(float[3,4] a, float[4,5] b, float[3,5] z) => (float[3,5] y) "
                  "{ y = ai.halfstep.GemmActivationGrad<activation = \"Gelu\", approximate = \"tanh\">(a, b, z) }"}},
       .open_nan = kSlope,
       .schema = gemm_activation_grad_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "GemmSums",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = gemm_sums,
       .cases = {{"(float[6,3] a, float[6,5] b) => (float[3,5] y, float[5] s) "
                  "{ y, s = ai.halfstep.GemmSums<transA = 1>(a, b) }"},
                 {"(float[6,3] a, float[6,5] b) => (float[3,5] y, float[3] s) "
                  "{ y, s = ai.halfstep.GemmSums<transA = 1, operand = \"A\">(a, b) }"}},
       .schema = gemm_sums_schema,
       .note = "made after differentiation: no gradient"},
  };
  return rows;
}

}  // namespace halfstep::ops
