// Attributes, tensors and types as ONNX protobuf messages. The one place where the two meet below onnx_io.
#pragma once

#include <string>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Throws Error for a subgraph (onnx_io writes those).
onnx::AttributeProto attribute_to_proto(const std::string& name, const Attribute& value);
/// Elements go to raw_data (string_data for strings).
onnx::TensorProto tensor_to_proto(const Tensor& tensor, const std::string& name = {});
/// Every encoding but external data: raw_data and the typed fields, packed 4- and 2-bit types included.
/// Throws Error when the number of elements or bytes does not fit the shape.
Tensor tensor_from_proto(const onnx::TensorProto& proto);
onnx::TypeProto type_to_proto(DType dtype, const Shape& shape);

}  // namespace halfstep
