// A model message whose large tensors lie outside of it: in memory or in mapped files. So a model of any size can be
// looked at and changed, copies of the message are cheap, and nothing but what is looked at is read. Internal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <onnx/onnx_pb.h>

#include "onnx_io/external_data.h"
#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Smaller tensors stay in the message: they may be shapes and axes, which type inference looks at.
inline constexpr std::size_t kDetachedBytes = 1024;

struct DetachedModel {
  /// Detached tensors have name, type and dims only.
  onnx::ModelProto model;
  std::vector<Tensor> tensors;
  std::vector<bool> is_mapped;  ///< per tensor: it lies in a mapped file
  /// The model's file, and those beside it that it keeps tensors in; empty where it has none.
  std::filesystem::path path;
  std::vector<std::filesystem::path> data_files;
  std::vector<MappedData> mapped;  ///< these files
  /// What the model takes in all its files.
  std::uint64_t bytes = 0;

  /// Index in `tensors` of the elements of a tensor of the message; -1 when they are in the message.
  static std::ptrdiff_t index_of(const onnx::TensorProto& tensor);
  /// The elements, wherever they are.
  Tensor read(const onnx::TensorProto& tensor) const;
  /// Throws Error(failure) unless the mapped files have all their bytes still. What was read of the tensors is what the
  /// files held only if this holds afterwards.
  void check_intact() const;
  /// Elements that were read will not soon be again: where they lie in a mapped file, they leave memory.
  void forget(const onnx::TensorProto& tensor, std::size_t first_byte, std::size_t bytes) const;
};

/// Reads the message and maps its external data. Versions are checked, the model is not. Throws Error as load_model.
DetachedModel read_detached(const std::filesystem::path& path);
/// The same from a message, which must have all its data.
DetachedModel detach(onnx::ModelProto model);

/// Runs the ONNX checker on a message whose tensors may be detached. It is as it was afterwards. Throws Error(input).
void check_detached(onnx::ModelProto& model);

}  // namespace halfstep
