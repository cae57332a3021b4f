#include "ops/schema_util.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::vector<std::string> float_tensor_types() {
  return {"tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)"};
}

void constrain_floats(onnx::OpSchema& schema, const char* name, const char* description) {
  schema.TypeConstraint(name, float_tensor_types(), description);
}

void add_to_attribute(onnx::OpSchema& schema) {
  schema.Attr("to", "Element type of the result; 0 for that of the first input.", onnx::AttributeProto::INT,
              std::int64_t{0});
}

void infer_type_from_to(onnx::InferenceContext& ctx, std::size_t output) {
  const auto to = onnx::getAttribute(ctx, "to", std::int64_t{0});
  if (to == 0)
    onnx::propagateElemTypeFromInputToOutput(ctx, 0, output);
  else
    onnx::updateOutputElemType(ctx, output, static_cast<std::int32_t>(to));
}

void propagate(onnx::InferenceContext& ctx, std::size_t in, std::size_t out) {
  onnx::propagateElemTypeFromInputToOutput(ctx, in, out);
  if (onnx::hasInputShape(ctx, in)) onnx::propagateShapeFromInputToOutput(ctx, in, out);
}

onnx::InferenceFunction outputs_like(std::vector<std::size_t> inputs) {
  return [inputs = std::move(inputs)](onnx::InferenceContext& ctx) {
    for (std::size_t out = 0; out < std::min(inputs.size(), ctx.getNumOutputs()); ++out)
      propagate(ctx, inputs[out], out);
  };
}

onnx::InferenceFunction output_of_shape(const char* attribute) {
  return [attribute](onnx::InferenceContext& ctx) {
    infer_type_from_to(ctx);
    onnx::propagateShapeFromAttributeToOutput(ctx, attribute, 0);
  };
}

std::vector<std::int64_t> static_shape_of(const onnx::TypeProto* type) {
  std::vector<std::int64_t> dims;
  if (!type || !onnx::hasShape(*type)) return dims;
  for (const auto& dim : type->tensor_type().shape().dim()) {
    if (!dim.has_dim_value()) return {};
    dims.push_back(dim.dim_value());
  }
  return dims;
}

void set_output_shape(onnx::InferenceContext& ctx, std::size_t output, const std::vector<std::int64_t>& dims) {
  onnx::TensorShapeProto shape;
  for (std::int64_t extent : dims) shape.add_dim()->set_dim_value(extent);
  onnx::updateOutputShape(ctx, output, shape);
}

void set_function_body(onnx::OpSchema& schema, FunctionText text) {
  schema.SetContextDependentFunctionBodyBuilder(
      [text](const onnx::FunctionBodyBuildContext& call, const onnx::OpSchema& self, onnx::FunctionProto& function) {
        const std::string nodes = text(call);
        if (nodes.empty()) return false;
        onnx::FunctionBuilder builder(function);
        builder.Add(nodes.c_str());
        builder.AddOpset("", static_cast<int>(kOnnxOpset));
        self.BuildFunction(function);
        return true;
      });
}

std::int64_t int_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute, std::int64_t fallback) {
  const onnx::AttributeProto* found = call.getAttribute(attribute);
  return found ? found->i() : fallback;
}

float float_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute, float fallback) {
  const onnx::AttributeProto* found = call.getAttribute(attribute);
  return found ? found->f() : fallback;
}

std::string string_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute,
                      const std::string& fallback) {
  const onnx::AttributeProto* found = call.getAttribute(attribute);
  return found ? found->s() : fallback;
}

std::vector<std::int64_t> ints_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute) {
  const onnx::AttributeProto* found = call.getAttribute(attribute);
  if (!found) return {};
  return {found->ints().begin(), found->ints().end()};
}

std::string text_of(const std::vector<std::int64_t>& values) { return fmt::format("[{}]", fmt::join(values, ", ")); }

}  // namespace halfstep::ops
