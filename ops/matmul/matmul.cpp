// MatMul, Gemm, and their forms with transposes, an activation and an output type.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "ops/epilogue_schema.h"
#include "ops/families.h"
#include "ops/magnitude.h"
#include "ops/matmul/product.h"
#include "ops/onnx_row.h"
#include "ops/type_attributes.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

// Kernels -------------------------------------------------------------------------------------------------------------

/// The shape of an operand of MatMul after a vector is converted to a matrix: a row on the left, a column on the right.
Shape left_matrix(const Shape& s) { return s.rank() == 1 ? Shape{1, s[0]} : s; }
Shape right_matrix(const Shape& s) { return s.rank() == 1 ? Shape{s[0], 1} : s; }

/// Removes the axes that were added to vectors from a product's shape.
Shape without_vector_axes(const Shape& product, bool left_is_vector, bool right_is_vector) {
  std::vector<std::int64_t> dims = product.dims();
  if (right_is_vector) dims.pop_back();
  if (left_is_vector) dims.erase(dims.end() - (right_is_vector ? 1 : 2));
  return Shape(std::move(dims));
}

void matmul_kernel(KernelCall& call) {
  const Tensor &a = call.in[0], &b = call.in[1];
  for (const Tensor* operand : {&a, &b})
    if (operand->shape().rank() < 1)
      throw_input_error("an operand of at least 1 axis", operand->shape().to_string(), "reshape it first");
  const StackProduct product({left_matrix(a.shape()), false}, {right_matrix(b.shape()), false});
  Tensor& y = ensure_out(call, 0, a.dtype(),
                         without_vector_axes(product.shape(), a.shape().rank() == 1, b.shape().rank() == 1));
  if (is_float(a.dtype())) {
    store(y, product.values(to_doubles(a), to_doubles(b), 1.0));
    return;
  }
  // Integers wrap: the low bits of an unsigned product equal those of the signed one.
  store(y, product.values(load<std::uint64_t>(a), load<std::uint64_t>(b), std::uint64_t{1}));
}

void fused_matmul_kernel(KernelCall& call) {
  const Tensor &a = call.in[0], &b = call.in[1];
  const StackProduct product = product_of(call);
  store(ensure_out(call, 0, to_type(call.node, a.dtype()), product.shape()),
        product.values(to_doubles(a), to_doubles(b), alpha_of(call.node.attributes)));
}

/// y += beta C, with C broadcast to y's shape.
template <class T>
void add_operand(std::vector<T>& y, const Shape& shape, const std::vector<T>& c, const Shape& c_shape, T beta) {
  if (broadcast(c_shape, shape) != shape)
    throw_input_error("an operand C that broadcasts to " + shape.to_string(), c_shape.to_string(),
                      "check the shape of the bias");
  const BroadcastOffsets c_index(c_shape, shape);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += beta * c[c_index(static_cast<std::int64_t>(i))];
}

// Gemm, and FusedGemm (which has additional attributes).
void gemm_kernel(KernelCall& call) {
  const Tensor &a = call.in[0], &b = call.in[1];
  const StackProduct product = matrix_product_of(call);
  const Shape shape = product.shape();
  const Attributes& attributes = call.node.attributes;
  const double alpha = alpha_of(attributes), beta = attributes.get_float("beta", 1);
  const auto is_number = [](double factor) { return std::fabs(factor) < 0x1p63 && factor == std::trunc(factor); };
  if (!is_float(a.dtype()) && is_number(alpha) && is_number(beta)) {
    // As in MatMul.
    const auto wrapped = [](double factor) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(factor)); };
    auto y = product.values(load<std::uint64_t>(a), load<std::uint64_t>(b), wrapped(alpha));
    if (call.has_in(2)) add_operand(y, shape, load<std::uint64_t>(call.in[2]), call.in[2].shape(), wrapped(beta));
    store(ensure_out(call, 0, a.dtype(), shape), y);
    return;
  }
  std::vector<double> y = product.values(to_doubles(a), to_doubles(b), alpha);
  if (call.has_in(2)) add_operand(y, shape, to_doubles(call.in[2]), call.in[2].shape(), beta);
  if (const Epilogue last = epilogue_of(attributes))
    for (double& value : y) value = last(value);
  store(ensure_out(call, 0, to_type(call.node, a.dtype()), shape), y);
}

// Gradients -----------------------------------------------------------------------------------------------------------

/// A product of two values as a node of ai.halfstep, each operand transposed or not.
Expr product(std::string_view op, Expr a, bool transpose_a, Expr b, bool transpose_b, float alpha = 1) {
  Attributes attributes;
  if (transpose_a) attributes.set("transA", std::int64_t{1});
  if (transpose_b) attributes.set("transB", std::int64_t{1});
  if (alpha != 1) attributes.set("alpha", alpha);
  return a.builder().own(op, {a, b}, std::move(attributes));
}

/// Gradients of `alpha op(A) op(B)`, with optional transposition op, with respect to A and B (still with broadcast
/// batch axes).
std::vector<Expr> product_gradients(GradientContext& g, std::string_view op, Expr a, bool ta, Expr b, bool tb, Expr dy,
                                    float alpha) {
  Expr da, db;
  if (g.wants(0)) da = ta ? product(op, b, tb, dy, true, alpha) : product(op, dy, false, b, !tb, alpha);
  if (g.wants(1)) db = tb ? product(op, dy, true, a, ta, alpha) : product(op, a, !ta, dy, false, alpha);
  return {da, db};
}

std::vector<Expr> matmul_gradient(GradientContext& g) {
  Builder& b = g.b;
  const Expr a = g.in(0), w = g.in(1);
  Shape as = left_matrix(a.shape()), ws = right_matrix(w.shape());
  Shape dys = StackProduct({as, false}, {ws, false}).shape();
  // For a single matrix on the right, the batch axes on the left are additional rows.
  const bool flat = ws.rank() == 2;
  if (flat) {
    as = Shape{as.count(0, as.rank() - 1), as.dim(-1)};
    dys = Shape{as[0], ws[1]};
  }
  std::vector<Expr> d = product_gradients(g, flat ? "FusedGemm" : "FusedMatMul", b.reshape(a, as), false,
                                          b.reshape(w, ws), false, b.reshape(g.dy(), dys), 1);
  if (d[0]) d[0] = b.reshape(b.sum_to(d[0], as), a.shape());
  if (d[1]) d[1] = b.reshape(b.sum_to(d[1], ws), w.shape());
  return d;
}

std::vector<Expr> fused_matmul_gradient(GradientContext& g) {
  const Attributes& attributes = g.node.attributes;
  return product_gradients(g, "FusedMatMul", g.in(0), is_a_transposed(attributes), g.in(1), is_b_transposed(attributes),
                           g.b.cast(g.dy(), g.in(0).dtype()), attributes.get_float("alpha", 1));
}

std::vector<Expr> gemm_gradient(GradientContext& g) {
  const Attributes& attributes = g.node.attributes;
  std::vector<Expr> d = product_gradients(g, "FusedGemm", g.in(0), is_a_transposed(attributes), g.in(1),
                                          is_b_transposed(attributes), g.dy(), attributes.get_float("alpha", 1));
  const float beta = attributes.get_float("beta", 1);
  if (g.in(2) && g.wants(2)) d.push_back(beta == 1 ? g.dy() : g.dy() * beta);
  return d;
}

// Schemas -------------------------------------------------------------------------------------------------------------

/// Casts `names` (each to NAMEw) to the result's type if that is wider, so that nothing is rounded twice.
std::string widened(const onnx::FunctionBodyBuildContext& call, std::initializer_list<const char*> names) {
  const bool widen =
      int_of(call, "to", 0) == static_cast<int>(DType::f32) || int_of(call, "to", 0) == static_cast<int>(DType::f64);
  std::string text;
  for (const char* name : names)
    text +=
        widen ? fmt::format("{0}w = Cast<to : int = @to>({0})\n", name) : fmt::format("{0}w = Identity({0})\n", name);
  return text;
}

/// Transposition of the last two axes of `from` (of `rank` axes) into `to`, or a plain copy.
std::string transposed_text(const char* to, const char* from, int rank, bool transpose) {
  if (!transpose) return fmt::format("{} = Identity({})\n", to, from);
  std::vector<std::int64_t> perm(static_cast<std::size_t>(rank));
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return fmt::format("{} = Transpose<perm = {}>({})\n", to, text_of(perm), from);
}

std::string fused_matmul_body(const onnx::FunctionBodyBuildContext& call) {
  std::string text = widened(call, {"A", "B"});
  for (int i = 0; i < 2; ++i) {
    const onnx::TypeProto* type = call.getInputType(i);
    const int rank = type && onnx::hasShape(*type) ? type->tensor_type().shape().dim_size() : 0;
    if (rank < 2) return {};
    text += i == 0 ? transposed_text("At", "Aw", rank, int_of(call, "transA", 0) != 0)
                   : transposed_text("Bt", "Bw", rank, int_of(call, "transB", 0) != 0);
  }
  const onnx::AttributeProto* alpha = call.getAttribute("alpha");
  text += fmt::format("P = MatMul(At, Bt)\nalpha = Constant<value_float = {:e}>()\n", alpha ? alpha->f() : 1.0f);
  text += "factor = CastLike(alpha, P)\nS = Mul(P, factor)\n";
  return text + (int_of(call, "to", 0) != 0 ? "Y = Cast<to : int = @to>(S)" : "Y = Identity(S)");
}

void fused_matmul_schema(onnx::OpSchema& schema) {
  add_product_attributes(schema);
  add_to_attribute(schema);
  constrain_floats(schema, "T", "Type of the operands.");
  constrain_floats(schema, "TO", "Type of the result.");
  schema.Input(0, "A", "Matrices [..., M, K].", "T")
      .Input(1, "B", "Matrices [..., K, N].", "T")
      .Output(0, "Y", "alpha A B, [..., M, N].", "TO")
      .TypeAndShapeInferenceFunction(infer_product);
  set_function_body(schema, fused_matmul_body);
}

std::string fused_gemm_body(const onnx::FunctionBodyBuildContext& call) {
  std::string text = widened(call, {"A", "B"});
  if (call.hasInput(2)) text += "Cw = CastLike(C, Aw)\n";
  text += fmt::format(
      "P = Gemm<alpha : float = @alpha, beta : float = @beta, transA : int = @transA, "
      "transB : int = @transB>(Aw, Bw{})\n",
      call.hasInput(2) ? ", Cw" : "");
  text += epilogue_text(epilogue_of(call), "R", "P");
  return text + (int_of(call, "to", 0) != 0 ? "Y = Cast<to : int = @to>(R)" : "Y = Identity(R)");
}

void fused_gemm_schema(onnx::OpSchema& schema) {
  add_product_attributes(schema);
  add_to_attribute(schema);
  add_epilogue_attributes(schema);
  schema.Attr("beta", "Factor of C.", onnx::AttributeProto::FLOAT, 1.0f);
  constrain_floats(schema, "T", "Type of the operands.");
  constrain_floats(schema, "TC", "Type of C: that of the operands or of the result.");
  constrain_floats(schema, "TO", "Type of the result.");
  schema.Input(0, "A", "Matrix [M, K].", "T")
      .Input(1, "B", "Matrix [K, N].", "T")
      .Input(2, "C", "Broadcast to [M, N].", "TC", onnx::OpSchema::Optional)
      .Output(0, "Y", "activation(alpha A B + beta C), [M, N].", "TO")
      .TypeAndShapeInferenceFunction(infer_matrix_product);
  set_function_body(schema, fused_gemm_body);
}

// Table ---------------------------------------------------------------------------------------------------------------

const std::vector<OpCase> kMatMulCases = {
    {"(float[3,4] a, float[4,5] b) => (float[3,5] y) { y = MatMul(a, b) }"},
    {"(float[2,3,4] a, float[4,5] b) => (float[2,3,5] y) { y = MatMul(a, b) }"},
    {"(float[2,1,3,4] a, float[3,4,2] b) => (float[2,3,3,2] y) { y = MatMul(a, b) }"},
    {"(float[3,4] a, float[2,4,1] b) => (float[2,3,1] y) { y = MatMul(a, b) }"},
    {"(float[4] a, float[4] b) => (float y) { y = MatMul(a, b) }"},
    {"(float[4] a, float[2,4,3] b) => (float[2,3] y) { y = MatMul(a, b) }"},
    {"(float[2,3,4] a, float[4] b) => (float[2,3] y) { y = MatMul(a, b) }"},
    {"(float[0,4] a, float[4,3] b) => (float[0,3] y) { y = MatMul(a, b) }"},
};

const std::vector<OpCase> kGemmCases = {
    {"(float[3,4] a, float[4,5] b) => (float[3,5] y) { y = Gemm(a, b) }"},
    {"(float[3,4] a, float[5,4] b, float[5] c) => (float[3,5] y) { y = Gemm<transB = 1>(a, b, c) }"},
    {"(float[4,3] a, float[4,5] b, float[3,1] c) => (float[3,5] y) "
     "{ y = Gemm<transA = 1, alpha = 0.5, beta = 2.0>(a, b, c) }"},
    {"(float[4,3] a, float[5,4] b, float[3,5] c) => (float[3,5] y) "
     "{ y = Gemm<transA = 1, transB = 1, alpha = -1.5>(a, b, c) }"},
    {"(float[3,4] a, float[4,1] b, float c) => (float[3,1] y) { y = Gemm<beta = 0.25>(a, b, c) }"},
    {"(float[0,4] a, float[5,4] b, float[5] c) => (float[0,5] y) { y = Gemm<transB = 1>(a, b, c) }"},
};

const std::vector<OpCase> kFusedGemmCases = {
    {"(float[3,4] a, float[4,5] b) => (float[3,5] y) { y = ai.halfstep.FusedGemm(a, b) }"},
    {"(float[3,4] a, float[5,4] b, float[5] c) => (float[3,5] y) "
     "{ y = ai.halfstep.FusedGemm<transB = 1, activation = \"Relu\">(a, b, c) }"},
    {"(float[4,3] a, float[5,4] b, float[3,1] c) => (float[3,5] y) "
     "{ y = ai.halfstep.FusedGemm<transA = 1, transB = 1, alpha = 0.5, beta = -1.0>(a, b, c) }"},
    {"(float[0,4] a, float[4,5] b) => (float[0,5] y) { y = ai.halfstep.FusedGemm(a, b) }"},
    {"(float[3,4] a, float[4,5] b, float[5] c) => (float[3,5] y) "
     "{ y = ai.halfstep.FusedGemm<activation = \"Gelu\">(a, b, c) }"},
    {"(float[3,4] a, float[4,5] b) => (float[3,5] y) "
     "{ y = ai.halfstep.FusedGemm<activation = \"Gelu\", approximate = \"tanh\">(a, b) }"},
    {"(float[3,4] a, float[4,5] b) => (float[3,5] y) "
     "{ y = ai.halfstep.FusedGemm<activation = \"Clip\", min = 0.5, max = 2.0>(a, b) }"},
};

const std::vector<OpCase> kFusedMatMulCases = {
    {"(float[2,3,4] a, float[2,4,5] b) => (float[2,3,5] y) { y = ai.halfstep.FusedMatMul(a, b) }"},
    {"(float[2,4,3] a, float[1,4,5] b) => (float[2,3,5] y) { y = ai.halfstep.FusedMatMul<transA = 1>(a, b) }"},
    {"(float[3,4] a, float[2,5,4] b) => (float[2,3,5] y) "
     "{ y = ai.halfstep.FusedMatMul<transB = 1, alpha = 0.125>(a, b) }"},
    {"(float[2,1,4,3] a, float[3,5,4] b) => (float[2,3,3,5] y) "
     "{ y = ai.halfstep.FusedMatMul<transA = 1, transB = 1, alpha = -2.0>(a, b) }"},
};

}  // namespace

std::span<const OpDef> matmul_ops() {
  using enum OperandRole;
  static const OpDef rows[] = {
      onnx_row("MatMul", PrecisionClass::half,
               {.features = FeatureAxis::last, .operands = {weight, weight}, .magnitude = magnitude::matrix_product},
               matmul_kernel, matmul_gradient, kMatMulCases),
      onnx_row("Gemm", PrecisionClass::half,
               {.features = FeatureAxis::second, .operands = {weight, weight, bias}, .magnitude = magnitude::gemm},
               gemm_kernel, gemm_gradient, kGemmCases,
               "integers wrap; with an alpha or beta that is no integer they are computed in f64: exact below 2^53"),
      {.name = "FusedGemm",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = gemm_kernel,
       .cases = kFusedGemmCases,
       .schema = fused_gemm_schema,
       .note = "made after differentiation: no gradient"},
      {.name = "FusedMatMul",
       .domain = kOwnDomain,
       .precision = PrecisionClass::half,
       .reference = fused_matmul_kernel,
       .gradient = fused_matmul_gradient,
       .cases = kFusedMatMulCases,
       .schema = fused_matmul_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
