// A model message whose large tensors are stored outside of it: in memory or in mapped files. Thus a model of any size
// can be inspected and changed, copies of the message are cheap, and only accessed data is read. Internal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <onnx/onnx_pb.h>

#include "onnx_io/external_data.h"
#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Smaller tensors stay in the message, because they may be shapes and axes, which type inference reads.
inline constexpr std::size_t kDetachedBytes = 1024;

struct DetachedModel {
  /// Detached tensors have name, type and dims only.
  onnx::ModelProto model;
  std::vector<Tensor> tensors;
  std::vector<bool> is_mapped;  ///< per tensor: whether it is in a mapped file
  /// The model's file, and its external data files; empty if it has none.
  std::filesystem::path path;
  std::vector<std::filesystem::path> data_files;
  std::vector<MappedData> mapped;  ///< these files
  /// Total size of the model's files.
  std::uint64_t bytes = 0;

  /// Index in `tensors` of the elements of a tensor of the message; -1 if they are in the message.
  static std::ptrdiff_t index_of(const onnx::TensorProto& tensor);
  /// Size of these elements; 0 if they are in the message.
  static std::uint64_t bytes_of(const onnx::TensorProto& tensor);
  /// The elements, independent of where they are stored.
  Tensor read(const onnx::TensorProto& tensor) const;
  /// Throws Error(failure) unless the mapped files still have all their bytes. Elements read before are only valid if
  /// this succeeds afterwards.
  void check_intact() const;
  /// These elements will not be read again soon: if they are in a mapped file, their pages are released.
  void forget(const onnx::TensorProto& tensor, std::size_t first_byte, std::size_t bytes) const;
};

/// Reads the message and maps its external data. Checks versions, but not the model. Throws Error as load_model.
DetachedModel read_detached(const std::filesystem::path& path);
/// The same from a message, which must contain all its data.
DetachedModel detach(onnx::ModelProto model);

/// Runs the ONNX checker on a message whose tensors may be detached. Restores the message afterwards. Throws
/// Error(input).
void check_detached(onnx::ModelProto& model);

}  // namespace halfstep
