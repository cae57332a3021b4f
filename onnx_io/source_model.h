// The model message a Graph was read from, kept so that saving changes nothing but the parameters. Internal to onnx_io.
#pragma once

#include <optional>

#include <onnx/onnx_pb.h>

namespace halfstep {

class SourceModel {
 public:
  onnx::ModelProto model;  ///< as in the file, with all tensor data in the message
  /// The same with its local functions inlined, when it has any: some parameters may have names only there.
  std::optional<onnx::ModelProto> inlined;
};

}  // namespace halfstep
