#include "ops/normalization/layer_normalization_grad.h"

#include <cmath>

#include <fmt/format.h>

#include "ops/normalization/one_row.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

void layer_normalization_grad_kernel(KernelCall& call) {
  const Tensor &dy = call.in[0], &x = call.in[1], &scale = call.in[2];
  const std::int64_t length = x.shape().rank() ? x.shape()[x.shape().rank() - 1] : 0;
  if (dy.shape() != x.shape() || x.shape().rank() == 0 || !is_one_row(scale.shape(), x.shape(), x.shape().rank() - 1))
    throw_input_error("dY of X's shape, and a scale for every element of a row",
                      dy.shape().to_string() + ", " + x.shape().to_string() + " and " + scale.shape().to_string(),
                      "check LayerNormalizationGrad's operands");
  const auto n = static_cast<std::size_t>(length);
  const double epsilon = call.node.attributes.get_float("epsilon", 1e-5f), count = static_cast<double>(length);
  const std::vector<double> d = to_doubles(dy), from = to_doubles(x), s = to_doubles(scale);
  std::vector<double> dx(from.size()), dscale(n), dbias(n), normal(n);
  for (std::size_t first = 0; n > 0 && first < from.size(); first += n) {
    double mean = 0, squares = 0, sum = 0, product = 0;
    for (std::size_t i = 0; i < n; ++i) mean += from[first + i] / count;
    for (std::size_t i = 0; i < n; ++i) squares += (from[first + i] - mean) * (from[first + i] - mean);
    const double inverse = 1 / std::sqrt(squares / count + epsilon);
    for (std::size_t i = 0; i < n; ++i) {
      normal[i] = (from[first + i] - mean) * inverse;
      const double g = d[first + i] * s[i];
      sum += g / count;
      product += g * normal[i] / count;
      dscale[i] += d[first + i] * normal[i];
      dbias[i] += d[first + i];
    }
    for (std::size_t i = 0; i < n; ++i) dx[first + i] = inverse * (d[first + i] * s[i] - sum - normal[i] * product);
  }
  store(ensure_out(call, 0, x.dtype(), x.shape()), dx);
  if (call.has_out(1)) store(ensure_out(call, 1, scale.dtype(), scale.shape()), dscale);
  if (call.has_out(2)) store(ensure_out(call, 2, scale.dtype(), scale.shape()), dbias);
}

void layer_normalization_grad_schema(onnx::OpSchema& schema) {
  schema.SetDoc("Gradient of LayerNormalization over the last axis.")
      .Attr("epsilon", "Added to the variance.", onnx::AttributeProto::FLOAT, 1e-5f);
  constrain_floats(schema, "T", "Type of all tensors.");
  schema.Input(0, "dY", "Gradient with respect to the normalization's output.", "T")
      .Input(1, "X", "[..., n]", "T")
      .Input(2, "scale", "[n]", "T")
      .Output(0, "dX", "Gradient with respect to X.", "T")
      .Output(1, "dscale", "Gradient with respect to scale.", "T")
      .Output(2, "dbias", "Gradient with respect to the bias.", "T")
      .TypeAndShapeInferenceFunction(outputs_like({1, 2, 2}));
  set_function_body(schema, [](const onnx::FunctionBodyBuildContext& call) {
    // A Constant needs a value if the call uses the default epsilon.
    return fmt::format("epsilon = Constant<value_float = {:e}>()\n", float_of(call, "epsilon", 1e-5f)) +
           R"(f = Cast<to = 1>(X)
              d = Cast<to = 1>(dY)
              s = Cast<to = 1>(scale)
              last = Constant<value_ints = [-1]>()
              first = Constant<value_ints = [0]>()
              mean = ReduceMean(f, last)
              deviation = Sub(f, mean)
              squares = Mul(deviation, deviation)
              variance = ReduceMean(squares, last)
              shifted = Add(variance, epsilon)
              root = Sqrt(shifted)
              normal = Div(deviation, root)
              g = Mul(d, s)
              mean_g = ReduceMean(g, last)
              g_normal = Mul(g, normal)
              mean_g_normal = ReduceMean(g_normal, last)
              along = Mul(normal, mean_g_normal)
              centered = Sub(g, mean_g)
              tangent = Sub(centered, along)
              dx = Div(tangent, root)
              dX = CastLike(dx, X)
              length = Shape(scale)
              rows = Concat<axis = 0>(last, length)
              d_normal = Mul(d, normal)
              d_normal_rows = Reshape(d_normal, rows)
              ds = ReduceSum<keepdims = 0>(d_normal_rows, first)
              dscale = CastLike(ds, scale)
              d_rows = Reshape(d, rows)
              db = ReduceSum<keepdims = 0>(d_rows, first)
              dbias = CastLike(db, scale))";
  });
}

/// For one or two elements, the gradient is a difference of nearly equal terms that is not zero only due to epsilon: in
/// f64 it is exact, in f32 it is the rounding error of its much larger terms.
bool normalizes_several(const Graph& graph, const Node& node) {
  const std::int64_t numbers = graph[node.inputs[1]].shape.dim(-1);
  return numbers != 1 && numbers != 2;
}

}  // namespace

std::span<const OpDef> layer_normalization_grad_ops() {
  static const std::vector<OpDef> rows = {
      {.name = "LayerNormalizationGrad",
       .domain = kOwnDomain,
       .precision = PrecisionClass::follow,
       .reference = layer_normalization_grad_kernel,
       .cases = {{"(float[3,5] dy, float[3,5] x, float[5] s) => (float[3,5] dx, float[5] ds, float[5] db) "
                  "{ dx, ds, db = ai.halfstep.LayerNormalizationGrad(dy, x, s) }"},
                 {"(float[2,3,7] dy, float[2,3,7] x, float[7] s) => (float[2,3,7] dx, float[7] ds, float[7] db) "
                  "{ dx, ds, db = ai.halfstep.LayerNormalizationGrad<epsilon = 0.01>(dy, x, s) }"}},
       .variations = {.fits = normalizes_several},
       .schema = layer_normalization_grad_schema}};
  return rows;
}

}  // namespace halfstep::ops
