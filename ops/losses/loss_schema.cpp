#include <string>

#include <fmt/format.h>

#include "ops/schema_util.h"
#include "ops/schemas.h"

namespace halfstep::ops {
namespace {

void add_loss_attributes(onnx::OpSchema& schema) {
  schema.Attr("ignore_index", "Label of ignored points.", onnx::AttributeProto::INT, onnx::OPTIONAL_VALUE)
      .Attr("reduction", "none, sum or mean (weighted, over the points that are not ignored).",
            onnx::AttributeProto::STRING, std::string("mean"))
      .TypeConstraint("I", {"tensor(int32)", "tensor(int64)"}, "Type of the labels.");
  constrain_floats(schema, "TL", "Type of the loss.");
  constrain_floats(schema, "T", "Type of scores and weights.");
}

/// Nodes that compute `hot` (1 at each point's label, with the type and shape of the value named `like`) and `factor`
/// (the gradient at each point, [N, 1, ...]).
std::string labels_text(const onnx::FunctionBodyBuildContext& call, const char* like, const char* labels,
                        bool has_weights) {
  const std::string reduction = string_of(call, "reduction", "mean");
  std::string text = fmt::format(
      "classes = Shape<start = 1, end = 2>({0})\n"
      "off_on = Constant<value_floats = [0.0, 1.0]>()\n"
      "off_on_t = CastLike(off_on, {0})\n"
      "hot = OneHot<axis = 1>({1}, classes, off_on_t)\n"
      "axis = Constant<value_ints = [1]>()\n"
      "labels1 = Unsqueeze({1}, axis)\n",
      like, labels);
  if (call.getAttribute("ignore_index"))
    text += fmt::format(
        "ignored = Constant<value_int = {}>()\n"
        "ignored_t = CastLike(ignored, labels1)\n"
        "skipped = Equal(labels1, ignored_t)\n"
        "counted = Not(skipped)\n"
        "valid = CastLike(counted, {})\n",
        int_of(call, "ignore_index", 0), like);
  else
    text += "valid = ReduceSum(hot, axis)\n";
  text += has_weights ? fmt::format(
                            "rank_of = Shape({0})\n"
                            "rank = Size(rank_of)\n"
                            "two = Constant<value_int = 2>()\n"
                            "tail = Sub(rank, two)\n"
                            "tail1 = Unsqueeze(tail, zero_axis)\n"
                            "ones = ConstantOfShape<value = int64[1] {{1}}>(tail1)\n"
                            "head = Constant<value_ints = [1, -1]>()\n"
                            "per_class = Concat<axis = 0>(head, ones)\n"
                            "w = Reshape(weights, per_class)\n"
                            "hot_w = Mul(hot, w)\n"
                            "picked = ReduceSum(hot_w, axis)\n"
                            "weight = Mul(picked, valid)\n",
                            like)
                      : std::string("weight = Identity(valid)\n");
  text += fmt::format("loss_t = CastLike(dloss, {})\n", like);
  if (reduction == "none")
    text += "scale = Unsqueeze(loss_t, axis)\n";
  else if (reduction == "sum")
    text += "scale = Identity(loss_t)\n";
  else
    text +=
        "total = ReduceSum<keepdims = 0>(weight)\n"
        "none = Constant<value_float = 0.0>()\n"
        "none_t = CastLike(none, total)\n"
        "is_none = Equal(total, none_t)\n"
        "one = Constant<value_float = 1.0>()\n"
        "one_t = CastLike(one, total)\n"
        "divisor = Where(is_none, one_t, total)\n"
        "scale = Div(loss_t, divisor)\n";
  const std::string zero_axis = "zero_axis = Constant<value_ints = [0]>()\n";
  return zero_axis + text + "factor = Mul(scale, weight)\n";
}

std::string softmax_cross_entropy_grad_body(const onnx::FunctionBodyBuildContext& call) {
  return labels_text(call, "log_prob", "labels", call.hasInput(3)) +
         "prob = Exp(log_prob)\n"
         "difference = Sub(prob, hot)\n"
         "dlogits = Mul(difference, factor)";
}

std::string negative_log_likelihood_loss_grad_body(const onnx::FunctionBodyBuildContext& call) {
  const std::int64_t to = int_of(call, "to", 0);
  return fmt::format(
             "shape = Constant<value_ints = {}>()\n"
             "zero_f = ConstantOfShape(shape)\n"
             "zeros = {}\n",
             text_of(ints_of(call, "input_shape")),
             to != 0 ? "Cast<to : int = @to>(zero_f)" : "CastLike(zero_f, dloss)") +
         labels_text(call, "zeros", "labels", call.hasInput(2)) +
         "up = Mul(hot, factor)\n"
         "dinput = Neg(up)";
}

}  // namespace

void softmax_cross_entropy_grad_schema(onnx::OpSchema& schema) {
  add_loss_attributes(schema);
  schema.Input(0, "dloss", "Gradient with respect to the loss: a scalar, or of labels' shape for reduction none.", "TL")
      .Input(1, "log_prob", "Log-probabilities [N, C, D1, ...].", "T")
      .Input(2, "labels", "Classes [N, D1, ...].", "I")
      .Input(3, "weights", "Weight of each class [C].", "T", onnx::OpSchema::Optional)
      .Output(0, "dlogits", "Gradient with respect to the scores.", "T")
      .TypeAndShapeInferenceFunction(outputs_like({1}));
  set_function_body(schema, softmax_cross_entropy_grad_body);
}

void negative_log_likelihood_loss_grad_schema(onnx::OpSchema& schema) {
  add_loss_attributes(schema);
  add_to_attribute(schema);
  constrain_floats(schema, "TO", "Type of the result.");
  schema.Attr("input_shape", "Shape of the log-probabilities [N, C, D1, ...].", onnx::AttributeProto::INTS)
      .Input(0, "dloss", "Gradient with respect to the loss: a scalar, or of labels' shape for reduction none.", "TL")
      .Input(1, "labels", "Classes [N, D1, ...].", "I")
      .Input(2, "weights", "Weight of each class [C].", "T", onnx::OpSchema::Optional)
      .Output(0, "dinput", "Gradient with respect to the log-probabilities.", "TO")
      .TypeAndShapeInferenceFunction(output_of_shape("input_shape"));
  set_function_body(schema, negative_log_likelihood_loss_grad_body);
}

}  // namespace halfstep::ops
