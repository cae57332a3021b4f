// The model message that a Graph was read from, kept so that saving changes only the parameters. Internal to onnx_io.
//
// Elements of large initializers are not in the message (mark_detached): they are the tensors of the graph's constants,
// so that there is only one copy of them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/graph.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep {

class SourceModel {
 public:
  onnx::ModelProto model;  ///< as in the file
  /// The same with its local functions inlined, if it has any: some parameters may have names only there.
  std::optional<onnx::ModelProto> inlined;
  /// The elements of marked tensors, of either message, by index. Undefined: released, because others replace them (see
  /// without_values).
  std::vector<Tensor> outside;

  /// Elements of an initializer. Throws Error(failure) if they were released.
  Tensor read(const onnx::TensorProto& initializer) const;
};

/// Initializers of the main graph of at least so many bytes are outside.
inline constexpr std::size_t kOutsideBytes = 4096;

/// `from_proto` with initializers of the main graph provided by `read`.
Graph from_proto(const onnx::ModelProto& model, const std::function<Tensor(const onnx::TensorProto&)>& read);

/// Reads the external data of a message, large tensors to `outside`. Returns the files.
std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      std::vector<Tensor>& outside);
/// `load_model` from the message on; the elements of its marked tensors are `outside`.
LoadedModel load_detached(onnx::ModelProto model, std::vector<Tensor> outside, const LoadOptions& options = {});
/// Moves large tensors of the message out of it.
void move_outside(onnx::ModelProto& model, std::vector<Tensor>& outside);

}  // namespace halfstep
