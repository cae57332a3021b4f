#include "ops/optimizer_schema.h"

#include <fmt/format.h>

#include "ops/optimizer.h"
#include "ops/schema_util.h"

namespace halfstep::ops {
namespace {

using onnx::AttributeProto;
using onnx::OpSchema;

/// Gives every output of an optimizer the type and shape of the tensor it replaces. `groups` lists of tensors follow
/// the scalars: parameters, gradients (which nothing replaces), and the optimizer's own.
void infer_step(onnx::InferenceContext& ctx, std::size_t groups) {
  const std::size_t tensors = ctx.getNumInputs() - std::min(ctx.getNumInputs(), kOptimizerScalars);
  const std::size_t parameters = tensors / groups;
  if (parameters == 0 || parameters * groups != tensors)
    fail_shape_inference("expected ", groups, " tensors for each parameter after the scalars, got ", tensors,
                         " in all");
  if (ctx.getNumOutputs() != parameters * (groups - 1))
    fail_shape_inference("expected ", parameters * (groups - 1), " outputs, got ", ctx.getNumOutputs());
  for (std::size_t out = 0; out < ctx.getNumOutputs(); ++out) {
    const std::size_t in = kOptimizerScalars + out + (out < parameters ? 0 : parameters);
    onnx::propagateElemTypeFromInputToOutput(ctx, in, out);
    if (onnx::hasInputShape(ctx, in)) onnx::propagateShapeFromInputToOutput(ctx, in, out);
  }
}

void add_step_operands(OpSchema& schema, const char* inputs, const char* outputs) {
  constrain_floats(schema, "S", "Type of the learning rate.");
  constrain_floats(schema, "F", "Type of the gradients' factor.");
  constrain_floats(schema, "V", "Type of the tensors.");
  schema.TypeConstraint("I", {"tensor(int64)"}, "Type of the step.")
      .TypeConstraint("B", {"tensor(bool)"}, "Type of apply.")
      .Input(0, "lr", "Learning rate, a scalar.", "S")
      .Input(1, "step", "Number of this step, from 1, a scalar.", "I")
      .Input(2, "apply", "Whether anything changes; when false the outputs equal the inputs bit for bit.", "B")
      .Input(3, "grad_factor", "What the gradients are multiplied with first, a scalar.", "F")
      .Input(4, "operands", inputs, "V", OpSchema::Variadic, false)
      .Output(0, "results", outputs, "V", OpSchema::Variadic, false);
}

std::string loss_scale_update_body(const onnx::FunctionBodyBuildContext& call) {
  auto number = [&call](const char* name, const char* attribute, float fallback) {
    const AttributeProto* found = call.getAttribute(attribute);
    return fmt::format("{0}_f = Constant<value_float = {1:e}>()\n{0} = CastLike({0}_f, scale)\n", name,
                       found ? found->f() : fallback);
  };
  return number("growth", "growth_factor", 2) + number("backoff", "backoff_factor", 0.5f) + number("least", "min", 1) +
         number("most", "max", 16777216) +
         fmt::format("interval = Constant<value_int = {}>()\n", int_of(call, "growth_interval", 2000)) +
         "zero = Constant<value_int = 0>()\n"
         "one = Constant<value_int = 1>()\n"
         "count = Add(good_steps, one)\n"
         "reached = GreaterOrEqual(count, interval)\n"
         "grown = Mul(scale, growth)\n"
         "after_good = Where(reached, grown, scale)\n"
         "after_bad = Mul(scale, backoff)\n"
         "free_scale = Where(finite, after_good, after_bad)\n"
         "capped = Min(free_scale, most)\n"
         "new_scale = Max(capped, least)\n"
         "count_good = Where(reached, zero, count)\n"
         "new_good_steps = Where(finite, count_good, zero)";
}

}  // namespace

void global_norm_schema(OpSchema& schema) {
  constrain_floats(schema, "V", "Type of the gradients.");
  schema.TypeConstraint("F", {"tensor(float)"}, "Type of the norm.")
      .TypeConstraint("B", {"tensor(bool)"}, "Type of finite.")
      .Input(0, "gradients", "Tensors of any shapes.", "V", OpSchema::Variadic, false)
      .Output(0, "norm", "Square root of the sum of the squares of all elements, a scalar.", "F")
      .Output(1, "finite", "Whether every element is finite, a scalar.", "B", OpSchema::Optional)
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        onnx::updateOutputElemType(ctx, 0, onnx::TensorProto::FLOAT);
        set_output_shape(ctx, 0, {});
        if (ctx.getNumOutputs() < 2) return;
        onnx::updateOutputElemType(ctx, 1, onnx::TensorProto::BOOL);
        set_output_shape(ctx, 1, {});
      });
}

void loss_scale_update_schema(OpSchema& schema) {
  constrain_floats(schema, "T", "Type of the scale.");
  schema.Attr("growth_factor", "Factor after growth_interval good steps.", AttributeProto::FLOAT, 2.0f)
      .Attr("backoff_factor", "Factor after a step with a non-finite gradient.", AttributeProto::FLOAT, 0.5f)
      .Attr("growth_interval", "Good steps between two growths.", AttributeProto::INT, std::int64_t{2000})
      .Attr("min", "Least scale.", AttributeProto::FLOAT, 1.0f)
      .Attr("max", "Largest scale.", AttributeProto::FLOAT, 16777216.0f)
      .TypeConstraint("I", {"tensor(int64)"}, "Type of the counter.")
      .TypeConstraint("B", {"tensor(bool)"}, "Type of finite.")
      .Input(0, "scale", "The loss scale, a scalar.", "T")
      .Input(1, "good_steps", "Good steps since the scale last changed, a scalar.", "I")
      .Input(2, "finite", "Whether all gradients of this step were finite, a scalar.", "B")
      .Output(0, "new_scale", "The loss scale of the next step.", "T")
      .Output(1, "new_good_steps", "Good steps since the scale last changed.", "I")
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        for (std::size_t i = 0; i < ctx.getNumOutputs(); ++i) {
          onnx::propagateElemTypeFromInputToOutput(ctx, i, i);
          if (onnx::hasInputShape(ctx, i)) onnx::propagateShapeFromInputToOutput(ctx, i, i);
        }
      });
  set_function_body(schema, loss_scale_update_body);
}

void adam_step_schema(OpSchema& schema) {
  add_step_operands(schema, "Parameters, gradients, first and second moments: N tensors each.",
                    "Parameters, first and second moments after the step: N tensors each.");
  schema.Attr("beta1", "Decay of the first moment.", AttributeProto::FLOAT, 0.9f)
      .Attr("beta2", "Decay of the second moment.", AttributeProto::FLOAT, 0.999f)
      .Attr("epsilon", "Added to the root of the second moment.", AttributeProto::FLOAT, 1e-8f)
      .Attr("weight_decay", "Weight decay.", AttributeProto::FLOAT, 0.0f)
      .Attr("decoupled", "1: the decay shrinks the parameters (AdamW); 0: it is added to the gradients (Adam).",
            AttributeProto::INT, std::int64_t{0})
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) { infer_step(ctx, 4); });
}

void sgd_step_schema(OpSchema& schema) {
  add_step_operands(schema, "Parameters, gradients and, when momentum is not 0, buffers: N tensors each.",
                    "Parameters and, when momentum is not 0, buffers after the step: N tensors each.");
  schema.Attr("momentum", "Decay of the buffers.", AttributeProto::FLOAT, 0.0f)
      .Attr("dampening", "What is held back of each gradient on its way into the buffer.", AttributeProto::FLOAT, 0.0f)
      .Attr("nesterov", "Whether the step looks ahead along the buffer.", AttributeProto::INT, std::int64_t{0})
      .Attr("weight_decay", "Weight decay, added to the gradients.", AttributeProto::FLOAT, 0.0f)
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        const AttributeProto* momentum = ctx.getAttribute("momentum");
        infer_step(ctx, momentum && momentum->f() != 0 ? 3 : 2);
      });
}

}  // namespace halfstep::ops
