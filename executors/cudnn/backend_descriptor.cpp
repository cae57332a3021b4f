#include "executors/cudnn/backend_descriptor.h"

#include <algorithm>

#include "executors/cudnn/pending_failure.h"

namespace halfstep::cudnn {

BackendDescriptor::BackendDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t made = nullptr;
  check(cudnnBackendCreateDescriptor(type, &made), "cudnnBackendCreateDescriptor");
  handle_ = decltype(handle_)(made);
}

void BackendDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                            const void* values) {
  check(cudnnBackendSetAttribute(get(), name, type, count, values), "cudnnBackendSetAttribute");
}
void BackendDescriptor::set(cudnnBackendAttributeName_t name, std::int64_t value) {
  set(name, CUDNN_TYPE_INT64, 1, &value);
}
void BackendDescriptor::set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
  set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
}
void BackendDescriptor::set(cudnnBackendAttributeName_t name, float value) { set(name, CUDNN_TYPE_FLOAT, 1, &value); }
void BackendDescriptor::set(cudnnBackendAttributeName_t name, bool value) { set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
void BackendDescriptor::set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
  set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}
void BackendDescriptor::set(cudnnBackendAttributeName_t name, const BackendDescriptor& value) {
  const cudnnBackendDescriptor_t handle = value.get();
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &handle);
}
void BackendDescriptor::set(cudnnBackendAttributeName_t name, std::span<const cudnnBackendDescriptor_t> values) {
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(values.size()), values.data());
}

void BackendDescriptor::finalize() { check(cudnnBackendFinalize(get()), "cudnnBackendFinalize"); }
bool BackendDescriptor::try_finalize() {
  if (cudnnBackendFinalize(get()) == CUDNN_STATUS_SUCCESS) return true;
  forget_failure();
  return false;
}

std::optional<std::int64_t> BackendDescriptor::number(cudnnBackendAttributeName_t name) const {
  std::int64_t value = 0, count = 0;
  if (cudnnBackendGetAttribute(get(), name, CUDNN_TYPE_INT64, 1, &count, &value) != CUDNN_STATUS_SUCCESS || count != 1)
    return std::nullopt;
  return value;
}

std::optional<std::vector<int>> BackendDescriptor::enumerators(cudnnBackendAttributeName_t name,
                                                               cudnnBackendAttributeType_t type,
                                                               std::int64_t most) const {
  static_assert(sizeof(cudnnBackendNumericalNote_t) == sizeof(int) &&
                sizeof(cudnnBackendBehaviorNote_t) == sizeof(int));
  std::vector<int> values(static_cast<std::size_t>(most));
  std::int64_t count = 0;
  if (cudnnBackendGetAttribute(get(), name, type, most, &count, values.data()) != CUDNN_STATUS_SUCCESS)
    return std::nullopt;
  values.resize(static_cast<std::size_t>(std::min(count, most)));
  return values;
}

std::vector<BackendDescriptor> BackendDescriptor::descriptors(cudnnBackendAttributeName_t name,
                                                              cudnnBackendDescriptorType_t type,
                                                              std::int64_t most) const {
  const auto get = [&](std::int64_t room, std::int64_t& count, cudnnBackendDescriptor_t* to) {
    return cudnnBackendGetAttribute(this->get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, room, &count, to) ==
           CUDNN_STATUS_SUCCESS;
  };
  if (most == 0 && !get(0, most, nullptr)) return {};
  std::vector<BackendDescriptor> made;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (std::int64_t i = 0; i < most; ++i) handles.push_back(made.emplace_back(type).get());
  std::int64_t count = 0;
  if (most == 0 || !get(most, count, handles.data())) return {};
  made.erase(made.begin() + std::min(count, most), made.end());
  return made;
}

BackendDescriptor device_properties(const std::string& json) {
  BackendDescriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(json.size()),
                 json.data());
  properties.finalize();
  return properties;
}

}  // namespace halfstep::cudnn
