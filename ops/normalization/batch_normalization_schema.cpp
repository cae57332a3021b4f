#include <cmath>

#include <fmt/format.h>

#include "ops/epilogue_schema.h"
#include "ops/schema_util.h"
#include "ops/schemas.h"

namespace halfstep::ops {
namespace {

/// `g` = the gradient of `dy` before the activation of `normalized`, in the type of scale.
std::string gradient_before_activation(const onnx::FunctionBodyBuildContext& call) {
  const Epilogue last = epilogue_of(call);
  if (!last) return "g = Identity(dy)\n";
  std::string text =
      "b = Reshape(B, per_channel)\n"
      "scaled = Mul(normalized, s)\n"
      "n = Add(scaled, b)\n" +
      constant_text("zero", 0, "scale");
  if (last.kind == Epilogue::Kind::relu) {
    text += "stops = LessOrEqual(n, zero)\n";
  } else {
    text += bounds_text(last, "scale");
    text += std::isfinite(last.min) ? "below = Less(n, low)\n" : "below = Less(n, n)\n";
    text += std::isfinite(last.max) ? "above = Greater(n, high)\n" : "above = Less(n, n)\n";
    text += "stops = Or(below, above)\n";
  }
  return text + "g = Where(stops, zero, dy)\n";
}

std::string batch_normalization_grad_body(const onnx::FunctionBodyBuildContext& call) {
  const onnx::TypeProto* type = call.getInputType(1);
  if (!type || !onnx::hasShape(*type)) return {};
  const int rank = type->tensor_type().shape().dim_size();
  if (rank < 2) return {};
  const bool training = int_of(call, "training_mode", 0) != 0;
  std::vector<std::int64_t> axes = {0}, channels(static_cast<std::size_t>(rank), 1);
  for (int axis = 2; axis < rank; ++axis) axes.push_back(axis);
  channels[1] = -1;

  std::string text = fmt::format(
      "x = CastLike(X, scale)\n"
      "dy = CastLike(dY, scale)\n"
      "axes = Constant<value_ints = {}>()\n"
      "per_channel = Constant<value_ints = {}>()\n"
      "s = Reshape(scale, per_channel)\n",
      text_of(axes), text_of(channels));
  text += constant_text("epsilon", float_of(call, "epsilon", 1e-5f), "scale");
  text += training ? "m = ReduceMean(x, axes)\n"
                     "d = Sub(x, m)\n"
                     "squares = Mul(d, d)\n"
                     "v = ReduceMean(squares, axes)\n"
                   : "mean_s = CastLike(mean, scale)\n"
                     "m = Reshape(mean_s, per_channel)\n"
                     "d = Sub(x, m)\n"
                     "var_s = CastLike(var, scale)\n"
                     "v = Reshape(var_s, per_channel)\n";
  text +=
      "ve = Add(v, epsilon)\n"
      "deviation = Sqrt(ve)\n"
      "normalized = Div(d, deviation)\n" +
      gradient_before_activation(call) +
      "gn = Mul(g, normalized)\n"
      "dbias = ReduceSum<keepdims = 0>(g, axes)\n"
      "dscale = ReduceSum<keepdims = 0>(gn, axes)\n"
      "factor = Div(s, deviation)\n";
  text += training ? "mean_g = ReduceMean(g, axes)\n"
                     "mean_gn = ReduceMean(gn, axes)\n"
                     "along = Mul(normalized, mean_gn)\n"
                     "centred = Sub(g, mean_g)\n"
                     "dn = Sub(centred, along)\n"
                   : "dn = Identity(g)\n";
  return text +
         "dx = Mul(factor, dn)\n"
         "dX = CastLike(dx, X)";
}

std::string fused_batch_normalization_body(const onnx::FunctionBodyBuildContext& call) {
  const bool training = int_of(call, "training_mode", 0) != 0;
  std::string text = fmt::format(
      "N{} = BatchNormalization<epsilon : float = @epsilon, momentum : float = @momentum, "
      "training_mode : int = @training_mode>(X, scale, B, input_mean, input_var)\n",
      training ? ", running_mean, running_var" : "");
  if (!call.hasInput(5)) return text + epilogue_text(epilogue_of(call), "Y", "N");
  return text + "S = Add(N, residual)\n" + epilogue_text(epilogue_of(call), "Y", "S");
}

}  // namespace

void fused_batch_normalization_schema(onnx::OpSchema& schema) {
  schema.Attr("epsilon", "As BatchNormalization.", onnx::AttributeProto::FLOAT, 1e-5f)
      .Attr("momentum", "As BatchNormalization.", onnx::AttributeProto::FLOAT, 0.9f)
      .Attr("training_mode", "As BatchNormalization.", onnx::AttributeProto::INT, std::int64_t{0});
  add_epilogue_attributes(schema);
  constrain_floats(schema, "T", "Type of X and Y.");
  constrain_floats(schema, "T1", "Type of scale and B.");
  constrain_floats(schema, "T2", "Type of the statistics.");
  schema.Input(0, "X", "[N, C, D1, ...]", "T")
      .Input(1, "scale", "[C]", "T1")
      .Input(2, "B", "[C]", "T1")
      .Input(3, "input_mean", "[C]", "T2")
      .Input(4, "input_var", "[C]", "T2")
      .Input(5, "residual", "Added before the activation; of Y's shape.", "T", onnx::OpSchema::Optional)
      .Output(0, "Y", "activation(BatchNormalization(X, ...) + residual)", "T")
      .Output(1, "running_mean", "As BatchNormalization.", "T2", onnx::OpSchema::Optional)
      .Output(2, "running_var", "As BatchNormalization.", "T2", onnx::OpSchema::Optional)
      .TypeAndShapeInferenceFunction(outputs_like({0, 3, 4}));
  set_function_body(schema, fused_batch_normalization_body);
}

void batch_normalization_grad_schema(onnx::OpSchema& schema) {
  schema.Attr("epsilon", "Added to the variance.", onnx::AttributeProto::FLOAT, 1e-5f)
      .Attr("training_mode", "1: the statistics are those of X; 0: mean and var.", onnx::AttributeProto::INT,
            std::int64_t{0});
  add_epilogue_attributes(schema);
  constrain_floats(schema, "T", "Type of dY, X and dX.");
  constrain_floats(schema, "T1", "Type of scale, B and their gradients.");
  constrain_floats(schema, "T2", "Type of mean and var.");
  schema.Input(0, "dY", "Gradient with respect to the output of the normalization, or of its activation.", "T")
      .Input(1, "X", "[N, C, D1, ...]", "T")
      .Input(2, "scale", "[C]", "T1")
      .Input(3, "mean", "[C]; with training_mode 0", "T2", onnx::OpSchema::Optional)
      .Input(4, "var", "[C], biased; with training_mode 0", "T2", onnx::OpSchema::Optional)
      .Input(5, "B", "[C]; with an activation", "T1", onnx::OpSchema::Optional)
      .Output(0, "dX", "Gradient with respect to X.", "T")
      .Output(1, "dscale", "Gradient with respect to scale.", "T1")
      .Output(2, "dbias", "Gradient with respect to the bias.", "T1")
      .TypeAndShapeInferenceFunction(outputs_like({1, 2, 2}));
  set_function_body(schema, batch_normalization_grad_body);
}

}  // namespace halfstep::ops
