#include "executors/cudnn/store.h"

#include "graph/error.h"

namespace halfstep::cudnn {
namespace {

std::string type_text(DType dtype, const Shape& shape) { return std::string(name_of(dtype)) + shape.to_string(); }

void require_same_type(std::string_view name, DType dtype, const Shape& shape, const Tensor& given) {
  if (dtype == given.dtype() && shape == given.shape()) return;
  throw_input_error("state '" + std::string(name) + "' as " + type_text(dtype, shape),
                    type_text(given.dtype(), given.shape()), "use the state of the same model");
}

}  // namespace

std::vector<std::string> DeviceStore::names() const {
  std::vector<std::string> result;
  for (const auto& [name, slot] : slots_) result.push_back(name);
  return result;
}

bool DeviceStore::has(std::string_view name) const { return slots_.find(name) != slots_.end(); }

const DeviceStore::Slot& DeviceStore::slot(std::string_view name) const {
  const auto it = slots_.find(name);
  if (it == slots_.end())
    throw_input_error("the name of a state", "'" + std::string(name) + "'", "see StateStore::names");
  return it->second;
}

void DeviceStore::copy(const Slot& slot, const Tensor& value) const {
  const cudaStream_t stream = libraries_->stream.get();
  check(cudaMemcpyAsync(slot.memory.get(), value.raw(), value.bytes(), cudaMemcpyHostToDevice, stream),
        "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

Tensor DeviceStore::read(std::string_view name) const {
  const Slot& from = slot(name);
  Tensor value(from.dtype, from.shape);
  const cudaStream_t stream = libraries_->stream.get();
  check(cudaMemcpyAsync(value.raw(), from.memory.get(), value.bytes(), cudaMemcpyDeviceToHost, stream),
        "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return value;
}

void DeviceStore::write(std::string_view name, const Tensor& value) {
  const Slot& to = slot(name);
  require_same_type(name, to.dtype, to.shape, value);
  copy(to, value);
}

void* DeviceStore::bind(const std::string& name, const Tensor& initial) {
  const auto it = slots_.find(name);
  if (it != slots_.end()) {
    require_same_type(name, it->second.dtype, it->second.shape, initial);
    return it->second.memory.get();
  }
  Slot made{DeviceBuffer(initial.bytes()), initial.dtype(), initial.shape()};
  copy(made, initial);
  return slots_.emplace(name, std::move(made)).first->second.memory.get();
}

}  // namespace halfstep::cudnn
