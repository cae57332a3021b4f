#include <algorithm>

#include <fmt/format.h>

#include "graph/may_be_equal.h"
#include "ops/schema_util.h"
#include "ops/schemas.h"
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::ops {
namespace {

using onnx::AttributeProto;
using onnx::OpSchema;

Shape shape_of_input(onnx::InferenceContext& ctx, std::size_t i) {
  if (!onnx::hasInputShape(ctx, i)) return Shape::unranked();
  std::vector<std::int64_t> dims;
  for (const auto& dim : ctx.getInputType(i)->tensor_type().shape().dim())
    dims.push_back(dim.has_dim_value() ? dim.dim_value() : Shape::kUnknown);
  return Shape(dims);
}

/// Kernels read one element of each of the first `count` operands.
void check_scalars(onnx::InferenceContext& ctx, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const Shape shape = shape_of_input(ctx, i);
    if (shape.is_ranked() && shape.is_static() && shape.count() != 1)
      fail_shape_inference("operand ", i, " must be a scalar, not of shape ", shape.to_string());
  }
}

void check_shape(onnx::InferenceContext& ctx, std::size_t i, const Shape& wanted) {
  const Shape shape = shape_of_input(ctx, i);
  if (!may_be_equal(shape, wanted))
    fail_shape_inference("operand ", i, " must have shape ", wanted.to_string(), ", not ", shape.to_string());
}

/// Gives every output of an optimizer the type and shape of the tensor it replaces.
void infer_step(onnx::InferenceContext& ctx, const OptimizerDef& row) {
  const StepOperands operands(ctx.getNumInputs(), ctx.getNumOutputs());
  const std::size_t n = operands.parameters;
  if (n == 0) fail_shape_inference("expected parameters and their gradients after the scalars");
  Hyperparameters h(row);
  for (const Hyperparameter& p : row.hyperparameters)
    if (const AttributeProto* given = ctx.getAttribute(std::string(p.name)))
      h.set(p.name, p.is_switch ? static_cast<double>(given->i()) : given->f());
  check_scalars(ctx, StepOperands::kScalars);
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < n; ++i) shapes.push_back(shape_of_input(ctx, operands.parameter(i)));
  for (std::size_t i = 0; i < n; ++i) check_shape(ctx, operands.gradient(i), shapes[i]);
  if (std::ranges::all_of(shapes, &Shape::is_ranked)) {
    const SlotPlaces places = slot_places(row, h, shapes);
    std::size_t wanted = n;
    for (const auto& of_one : places)
      wanted += static_cast<std::size_t>(std::ranges::count_if(of_one, [](const auto& p) { return p.has_value(); }));
    if (ctx.getNumOutputs() != wanted)
      fail_shape_inference("expected ", wanted, " outputs for ", n, " parameters, got ", ctx.getNumOutputs());
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t slot = 0; slot < row.slots.size(); ++slot)
        if (places[i][slot])
          check_shape(ctx, operands.first_slot() + *places[i][slot], *row.slots[slot].shape(h, shapes[i]));
  }
  for (std::size_t out = 0; out < ctx.getNumOutputs(); ++out) propagate(ctx, operands.replaced(out), out);
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
      .Attr("growth_interval", "Good steps before each increase.", AttributeProto::INT, std::int64_t{2000})
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
        check_scalars(ctx, 3);
        for (std::size_t i = 0; i < ctx.getNumOutputs(); ++i) propagate(ctx, i, i);
      });
  set_function_body(schema, loss_scale_update_body);
}

void optimizer_step_schema(OpSchema& schema) {
  const OptimizerDef& row = *std::ranges::find(optimizers(), schema.Name(), &OptimizerDef::op);
  constrain_floats(schema, "S", "Type of the learning rate.");
  constrain_floats(schema, "F", "Type of the gradients' factor.");
  constrain_floats(schema, "V", "Type of the tensors.");
  std::string slots;
  for (const OptimizerSlot& slot : row.slots) slots += fmt::format("; then, where there is one, the {}", slot.meaning);
  schema.SetDoc(std::string(row.source))
      .TypeConstraint("I", {"tensor(int64)"}, "Type of the step.")
      .TypeConstraint("B", {"tensor(bool)"}, "Type of apply.")
      .Input(0, "lr", "Learning rate, a scalar.", "S")
      .Input(1, "step", "Number of this step, from 1, a scalar.", "I")
      .Input(2, "apply", "Whether the update is applied; if false, the outputs equal the inputs bit for bit.", "B")
      .Input(3, "grad_factor", "Factor of the gradients, a scalar.", "F")
      .Input(4, "operands", "Parameters; gradients" + slots + ".", "V", OpSchema::Variadic, false)
      .Output(0, "results", "The next parameters" + slots + ".", "V", OpSchema::Variadic, false);
  for (const Hyperparameter& h : row.hyperparameters)
    if (h.is_switch)
      schema.Attr(std::string(h.name), std::string(h.meaning), AttributeProto::INT, std::int64_t{h.fallback != 0});
    else
      schema.Attr(std::string(h.name), std::string(h.meaning), AttributeProto::FLOAT, static_cast<float>(h.fallback));
  schema.TypeAndShapeInferenceFunction([&row](onnx::InferenceContext& ctx) { infer_step(ctx, row); });
}

}  // namespace halfstep::ops
