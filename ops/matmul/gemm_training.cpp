// Products with what a training step wants beside them. Each is made after differentiation, where an executor has it.
#include "ops/matmul/gemm_training.h"

#include <fmt/format.h>

#include "ops/elementwise/formula.h"
#include "ops/epilogue_schema.h"
#include "ops/gradient_schema.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

/// op(A) op(B), of two matrices.
struct Product {
  bool transposed_a, transposed_b;
  std::int64_t rows = 0, inner = 0, columns = 0;

  explicit Product(const KernelCall& call)
      : transposed_a(call.node.attributes.get_int("transA", 0) != 0),
        transposed_b(call.node.attributes.get_int("transB", 0) != 0) {
    const Shape &a = call.in[0].shape(), &b = call.in[1].shape();
    if (a.rank() != 2 || b.rank() != 2 || a[transposed_a ? 0 : 1] != b[transposed_b ? 1 : 0])
      throw_input_error("two matrices whose inner extents are equal", a.to_string() + " and " + b.to_string(),
                        "check the node's operands");
    rows = a[transposed_a ? 1 : 0];
    inner = a[transposed_a ? 0 : 1];
    columns = b[transposed_b ? 0 : 1];
  }
  std::size_t a(std::int64_t i, std::int64_t k) const { return transposed_a ? k * rows + i : i * inner + k; }
  std::size_t b(std::int64_t k, std::int64_t j) const { return transposed_b ? j * inner + k : k * columns + j; }

  std::vector<double> values(const KernelCall& call) const {
    const std::vector<double> left = to_doubles(call.in[0]), right = to_doubles(call.in[1]);
    const double alpha = call.node.attributes.get_float("alpha", 1);
    std::vector<double> y(static_cast<std::size_t>(rows * columns));
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < inner; ++k) sum += left[a(i, k)] * right[b(k, j)];
        y[i * columns + j] = alpha * sum;
      }
    return y;
  }
};

void gemm_activation(KernelCall& call) {
  const Product product(call);
  const Shape shape{product.rows, product.columns};
  std::vector<double> z = product.values(call);
  if (call.has_in(2)) {
    const std::vector<double> c = to_doubles(call.in[2]);
    if (c.size() != static_cast<std::size_t>(product.columns))
      throw_input_error("a bias of one element for each column", call.in[2].shape().to_string(),
                        "check the node's operand C");
    for (std::size_t i = 0; i < z.size(); ++i) z[i] += c[i % c.size()];
  }
  const Epilogue last = epilogue_of(call.node.attributes);
  std::vector<double> y = z;
  for (double& value : y) value = last(value);
  const DType dtype = call.in[0].dtype();
  store(ensure_out(call, 0, dtype, shape), y);
  if (call.has_out(1)) store(ensure_out(call, 1, dtype, shape), z);
}

void gemm_activation_grad(KernelCall& call) {
  const Product product(call);
  std::vector<double> y = product.values(call);
  const std::vector<double> z = to_doubles(call.in[2]);
  const std::string activation = call.node.attributes.get_string("activation", "");
  const FormulaDef* slope = find_formula(activation + "Grad", kOwnDomain, call.node.attributes);
  if (!slope || slope->parameters > 0 || z.size() != y.size())
    throw_input_error("an activation without bounds, and its operand for each element of the product",
                      fmt::format("'{}' of {}", activation, call.in[2].shape().to_string()), "check the node");
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = evaluate(slope->formula, {y[i], z[i]});
  store(ensure_out(call, 0, call.in[0].dtype(), Shape{product.rows, product.columns}), y);
}

bool sums_a(const Attributes& attributes) { return attributes.get_string("operand", "B") == "A"; }

void gemm_sums(KernelCall& call) {
  const Product product(call);
  const Attributes& attributes = call.node.attributes;
  const std::int64_t to = attributes.get_int("to", 0);
  const DType dtype = to == 0 ? call.in[0].dtype() : static_cast<DType>(to);
  store(ensure_out(call, 0, dtype, Shape{product.rows, product.columns}), product.values(call));
  const bool is_a = sums_a(attributes);
  const std::vector<double> operand = to_doubles(call.in[is_a ? 0 : 1]);
  std::vector<double> sums(static_cast<std::size_t>(is_a ? product.rows : product.columns));
  for (std::size_t i = 0; i < sums.size(); ++i)
    for (std::int64_t k = 0; k < product.inner; ++k) {
      const auto at = static_cast<std::int64_t>(i);
      sums[i] += operand[is_a ? product.a(at, k) : product.b(k, at)];
    }
  store(ensure_out(call, 1, dtype, Shape{static_cast<std::int64_t>(sums.size())}), sums);
}

// Schemas -------------------------------------------------------------------------------------------------------------

void infer_product(onnx::InferenceContext& ctx) {
  for (std::size_t out = 0; out < ctx.getNumOutputs(); ++out) infer_type_from_to(ctx, out);
  if (!onnx::hasNInputShapes(ctx, 2)) return;
  const onnx::TensorShapeProto &a = onnx::getInputShape(ctx, 0), &b = onnx::getInputShape(ctx, 1);
  if (a.dim_size() != 2 || b.dim_size() != 2) fail_shape_inference("both operands must be matrices");
  onnx::TensorShapeProto shape;
  *shape.add_dim() = a.dim(onnx::getAttribute(ctx, "transA", std::int64_t{0}) != 0 ? 1 : 0);
  *shape.add_dim() = b.dim(onnx::getAttribute(ctx, "transB", std::int64_t{0}) != 0 ? 0 : 1);
  onnx::updateOutputShape(ctx, 0, shape);
  if (ctx.getNumOutputs() > 1) onnx::updateOutputShape(ctx, 1, shape);
}

void infer_sums(onnx::InferenceContext& ctx) {
  infer_product(ctx);
  if (ctx.getNumOutputs() < 2 || !onnx::hasNInputShapes(ctx, 2)) return;
  const bool is_a = onnx::getAttribute(ctx, "operand", std::string("B")) == "A";
  const onnx::TensorShapeProto product = ctx.getOutputType(0)->tensor_type().shape();
  onnx::TensorShapeProto* sums = ctx.getOutputType(1)->mutable_tensor_type()->mutable_shape();
  sums->clear_dim();
  *sums->add_dim() = product.dim(is_a ? 0 : 1);
}

void add_product(onnx::OpSchema& schema) {
  schema.Attr("transA", "Whether A is transposed.", onnx::AttributeProto::INT, std::int64_t{0})
      .Attr("transB", "Whether B is transposed.", onnx::AttributeProto::INT, std::int64_t{0})
      .Attr("alpha", "Factor of the product.", onnx::AttributeProto::FLOAT, 1.0f)
      .Input(0, "A", "Matrix [M, K].", "T")
      .Input(1, "B", "Matrix [K, N].", "T")
      .TypeAndShapeInferenceFunction(infer_product);
  constrain_floats(schema, "T", "Type of the operands.");
}

constexpr const char* kProductText = "Gemm<alpha : float = @alpha, transA : int = @transA, transB : int = @transB>";

void gemm_activation_schema(onnx::OpSchema& schema) {
  add_product(schema);
  add_epilogue_attributes(schema);
  schema.Input(2, "C", "[N]", "T", onnx::OpSchema::Optional)
      .Output(0, "Y", "activation(Z), [M, N].", "T")
      .Output(1, "Z", "alpha A B + C, [M, N].", "T", onnx::OpSchema::Optional);
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
                  "{ y, z = ai.halfstep.GemmActivation<activation = \"Gelu\", approximate = \"tanh\">(a, b, c) }",
                  -2, 2, false},
                 {"(float[4,3] a, float[5,4] b) => (float[3,5] y, float[3,5] z) "
                  "{ y, z = ai.halfstep.GemmActivation<transA = 1, transB = 1, activation = \"Gelu\", "
                  "approximate = \"tanh\", alpha = 0.5>(a, b) }",
                  -2, 2, false}},
       .schema = gemm_activation_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "GemmActivationGrad",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = gemm_activation_grad,
       .cases = {{"(float[3,4] a, float[8,4] b, float[3,8] z) => (float[3,8] y) "
                  "{ y = ai.halfstep.GemmActivationGrad<transB = 1, activation = \"Gelu\", approximate = \"tanh\">"
                  "(a, b, z) }",
                  -2, 2, false},
                 {"(float[3,4] a, float[4,5] b, float[3,5] z) => (float[3,5] y) "
                  "{ y = ai.halfstep.GemmActivationGrad<activation = \"Gelu\", approximate = \"tanh\">(a, b, z) }",
                  -2, 2, false}},
       .open_nan = kSlope,
       .schema = gemm_activation_grad_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "GemmSums",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = gemm_sums,
       .cases = {{"(float[6,3] a, float[6,5] b) => (float[3,5] y, float[5] s) "
                  "{ y, s = ai.halfstep.GemmSums<transA = 1>(a, b) }",
                  -2, 2, false},
                 {"(float[6,3] a, float[6,5] b) => (float[3,5] y, float[3] s) "
                  "{ y, s = ai.halfstep.GemmSums<transA = 1, operand = \"A\">(a, b) }",
                  -2, 2, false}},
       .schema = gemm_sums_schema,
       .note = "made after differentiation: no gradient"},
  };
  return rows;
}

}  // namespace halfstep::ops
