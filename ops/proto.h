// Attributes, tensors and types as ONNX protobuf messages. The only use of these messages below onnx_io.
#pragma once

#include <string>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Throws Error for a subgraph (onnx_io writes those).
onnx::AttributeProto attribute_to_proto(const std::string& name, const Attribute& value);
/// Stores elements in raw_data (string_data for strings).
onnx::TensorProto tensor_to_proto(const Tensor& tensor, const std::string& name = {});
/// Reads every encoding except external data: raw_data and the typed fields, including packed 4- and 2-bit types.
/// Throws Error if the number of elements or bytes does not match the shape.
Tensor tensor_from_proto(const onnx::TensorProto& proto);
onnx::TypeProto type_to_proto(DType dtype, const Shape& shape);

/// The extents as they are; negative ones are unknown.
Shape shape_from_proto(const onnx::TensorProto& proto);
/// Unranked without a shape. Extents that are not numbers of at least 0 are unknown.
Shape shape_from_proto(const onnx::TypeProto_Tensor& proto);

}  // namespace halfstep
