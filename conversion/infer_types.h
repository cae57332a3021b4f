// Types of a node's outputs, by its schema. Internal to conversion.
#pragma once

#include <vector>

#include <onnx/onnx_pb.h>

namespace onnx {
class OpSchema;
}

namespace halfstep::conversion {

/// Types of the outputs from those of the inputs (nullptr: absent; VALUE_NOT_SET: unknown), without shapes. `bodies`
/// are the types of the outputs of each subgraph attribute, in the order of the attributes. An output stays
/// VALUE_NOT_SET if the schema does not determine it.
std::vector<onnx::TypeProto> infer_output_types(const onnx::OpSchema& schema, const onnx::NodeProto& node,
                                                const std::vector<const onnx::TypeProto*>& inputs,
                                                const std::vector<std::vector<onnx::TypeProto>>& bodies);

/// The type without the shapes of its tensors.
onnx::TypeProto without_shapes(onnx::TypeProto type);

}  // namespace halfstep::conversion
