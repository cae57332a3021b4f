// Shared parts of the schemas of ai.halfstep. Only included by families that define operators.
#pragma once

#include <string>
#include <vector>

#include <onnx/defs/function.h>
#include <onnx/defs/schema.h>
#include <onnx/defs/shape_inference.h>

namespace halfstep::ops {

/// "tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)".
std::vector<std::string> float_tensor_types();

/// Type constraint `name`: any of the four float types.
void constrain_floats(onnx::OpSchema& schema, const char* name, const char* description);

/// Attribute `to`: a DType number, 0 for the type of the first input.
void add_to_attribute(onnx::OpSchema& schema);

/// Element type of output `output` from the attribute `to`; that of the first input without one.
void infer_type_from_to(onnx::InferenceContext& ctx, std::size_t output = 0);

/// Gives output `out` the element type and, if it is known, the shape of input `in`.
void propagate(onnx::InferenceContext& ctx, std::size_t in, std::size_t out);

/// Inference of outputs of which each has the type and shape of the input in its place in the list.
onnx::InferenceFunction outputs_like(std::vector<std::size_t> inputs);

/// Inference of one output with the shape in this attribute, and the type of `infer_type_from_to`.
onnx::InferenceFunction output_of_shape(const char* attribute);

/// Extents of input `i` if all are known, otherwise empty (as for a scalar, for which it is not called).
std::vector<std::int64_t> static_shape_of(const onnx::TypeProto* type);

/// Sets the shape of output `output`.
void set_output_shape(onnx::InferenceContext& ctx, std::size_t output, const std::vector<std::int64_t>& dims);

/// Nodes in ONNX's text form that express one call of the operator by standard operators; empty if this call cannot be
/// expressed. Names are those of the schema's inputs and outputs; `@name` refers to an attribute.
using FunctionText = std::string (*)(const onnx::FunctionBodyBuildContext& call);

/// Makes `text` the function body of the operator.
void set_function_body(onnx::OpSchema& schema, FunctionText text);

// Attributes of the call for which a function body is built.
std::int64_t int_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute, std::int64_t fallback);
float float_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute, float fallback);
std::string string_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute,
                      const std::string& fallback);
std::vector<std::int64_t> ints_of(const onnx::FunctionBodyBuildContext& call, const std::string& attribute);

/// "[1, 2, 3]", a list in ONNX's text form.
std::string text_of(const std::vector<std::int64_t>& values);

}  // namespace halfstep::ops
