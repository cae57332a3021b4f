#include "ops/matmul/product.h"

#include <utility>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

Shape batch_of(const Shape& shape) {
  if (shape.rank() < 2) throw_input_error("an operand of at least 2 axes", shape.to_string(), "reshape it first");
  return Shape(std::vector<std::int64_t>(shape.begin(), shape.end() - 2));
}

/// y += a b for row-major matrices [rows, inner] and [inner, columns].
template <class T>
void multiply(const T* a, const T* b, T* y, std::int64_t rows, std::int64_t inner, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < inner; ++k) {
      const T factor = a[r * inner + k];
      for (std::int64_t c = 0; c < columns; ++c) y[r * columns + c] += factor * b[k * columns + c];
    }
}

}  // namespace

MatrixStack::MatrixStack(const Shape& shape, bool transposed)
    : batch(batch_of(shape)), rows(shape.dim(-2)), columns(shape.dim(-1)), transposed(transposed) {
  if (transposed) std::swap(rows, columns);
}

StackProduct::StackProduct(MatrixStack left, MatrixStack right) : a(std::move(left)), b(std::move(right)) {
  if (a.columns != b.rows)
    throw_input_error("matrices with equal inner extents",
                      fmt::format("[{}, {}] times [{}, {}]", a.rows, a.columns, b.rows, b.columns),
                      "check the shapes of the model's weights");
  batch = broadcast(a.batch, b.batch);
}

Shape StackProduct::shape() const {
  std::vector<std::int64_t> dims = batch.dims();
  dims.insert(dims.end(), {a.rows, b.columns});
  return Shape(std::move(dims));
}

template <class T>
std::vector<T> StackProduct::values(const std::vector<T>& left, const std::vector<T>& right, T alpha) const {
  std::vector<T> y(static_cast<std::size_t>(shape().count()));
  if (y.empty()) return y;
  const BroadcastOffsets a_index(a.batch, batch), b_index(b.batch, batch);
  for (std::int64_t i = 0; i < batch.count(); ++i)
    multiply(a.matrix(left, a_index(i)).data(), b.matrix(right, b_index(i)).data(), y.data() + i * a.rows * b.columns,
             a.rows, a.columns, b.columns);
  if (alpha != T{1})
    for (T& value : y) value *= alpha;
  return y;
}

template std::vector<double> StackProduct::values(const std::vector<double>&, const std::vector<double>&, double) const;
template std::vector<std::uint64_t> StackProduct::values(const std::vector<std::uint64_t>&,
                                                         const std::vector<std::uint64_t>&, std::uint64_t) const;

StackProduct product_of(const KernelCall& call) {
  const Attributes& attributes = call.node.attributes;
  return {MatrixStack(call.in[0].shape(), is_a_transposed(attributes)),
          MatrixStack(call.in[1].shape(), is_b_transposed(attributes))};
}

StackProduct matrix_product_of(const KernelCall& call) {
  const Shape &a = call.in[0].shape(), &b = call.in[1].shape();
  if (a.rank() != 2 || b.rank() != 2)
    throw_input_error("two matrices", a.to_string() + " and " + b.to_string(), "check the node's operands");
  return product_of(call);
}

double alpha_of(const Attributes& attributes) { return attributes.get_float("alpha", 1); }
bool is_a_transposed(const Attributes& attributes) { return attributes.get_int("transA", 0) != 0; }
bool is_b_transposed(const Attributes& attributes) { return attributes.get_int("transB", 0) != 0; }

void add_product_attributes(onnx::OpSchema& schema) {
  schema.Attr("transA", "Whether A is transposed (its last two axes).", onnx::AttributeProto::INT, std::int64_t{0})
      .Attr("transB", "Whether B is transposed (its last two axes).", onnx::AttributeProto::INT, std::int64_t{0})
      .Attr("alpha", "Factor of the product.", onnx::AttributeProto::FLOAT, 1.0f);
}

void infer_product(onnx::InferenceContext& ctx) {
  for (std::size_t out = 0; out < ctx.getNumOutputs(); ++out) infer_type_from_to(ctx, out);
  if (!onnx::hasNInputShapes(ctx, 2)) return;
  const onnx::TensorShapeProto &a = onnx::getInputShape(ctx, 0), &b = onnx::getInputShape(ctx, 1);
  const int ra = a.dim_size(), rb = b.dim_size();
  if (ra < 2 || rb < 2) fail_shape_inference("both operands must have at least two axes");
  const bool ta = onnx::getAttribute(ctx, "transA", std::int64_t{0}) != 0;
  const bool tb = onnx::getAttribute(ctx, "transB", std::int64_t{0}) != 0;
  const onnx::Dim &inner_a = a.dim(ra - (ta ? 2 : 1)), &inner_b = b.dim(rb - (tb ? 1 : 2));
  if (inner_a.has_dim_value() && inner_b.has_dim_value() && inner_a.dim_value() != inner_b.dim_value())
    fail_shape_inference("inner extents differ: ", inner_a.dim_value(), " and ", inner_b.dim_value());
  onnx::TensorShapeProto batch_a, batch_b, shape;
  for (int i = 0; i < ra - 2; ++i) *batch_a.add_dim() = a.dim(i);
  for (int i = 0; i < rb - 2; ++i) *batch_b.add_dim() = b.dim(i);
  onnx::bidirectionalBroadcastShapeInference(batch_a, batch_b, shape);
  *shape.add_dim() = a.dim(ra - (ta ? 1 : 2));
  *shape.add_dim() = b.dim(rb - (tb ? 2 : 1));
  onnx::updateOutputShape(ctx, 0, shape);
}

void infer_matrix_product(onnx::InferenceContext& ctx) {
  for (std::size_t in = 0; in < 2; ++in)
    if (onnx::hasInputShape(ctx, in) && onnx::getInputShape(ctx, in).dim_size() != 2)
      fail_shape_inference("both operands must be matrices");
  infer_product(ctx);
}

}  // namespace halfstep::ops
