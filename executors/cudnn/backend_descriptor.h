// Descriptors of cuDNN's backend API, of which operation graphs and their plans are made. Nothing here needs a device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "executors/cudnn/resources.h"

namespace halfstep::cudnn {

/// One descriptor. Attributes are set, then it is finalized, then others may refer to it; it must outlive them.
class BackendDescriptor {
 public:
  explicit BackendDescriptor(cudnnBackendDescriptorType_t type);

  cudnnBackendDescriptor_t get() const { return handle_.get(); }

  // Each throws Error (failure) where cuDNN refuses.
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values);
  void set(cudnnBackendAttributeName_t name, std::int64_t value);
  void set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values);
  void set(cudnnBackendAttributeName_t name, float value);
  void set(cudnnBackendAttributeName_t name, bool value);
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value);
  void set(cudnnBackendAttributeName_t name, const BackendDescriptor& value);
  void set(cudnnBackendAttributeName_t name, std::span<const cudnnBackendDescriptor_t> values);
  void finalize();
  /// Whether cuDNN takes it as it is.
  bool try_finalize();

  /// Nothing where cuDNN does not tell.
  std::optional<std::int64_t> number(cudnnBackendAttributeName_t name) const;
  /// Enumerators, as their numbers; at most `most`. Nothing where cuDNN does not tell.
  std::optional<std::vector<int>> enumerators(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                              std::int64_t most) const;
  /// Descriptors of a type; those that the attribute holds are copied into them, at most `most` (0: as many as cuDNN
  /// says there are). None where it does not tell.
  std::vector<BackendDescriptor> descriptors(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                                             std::int64_t most = 0) const;

 private:
  Owned<cudnnBackendDescriptor_t, cudnnBackendDestroyDescriptor> handle_;
};

/// A device of which only the properties are known: cuDNN's JSON of them.
BackendDescriptor device_properties(const std::string& json);

}  // namespace halfstep::cudnn
