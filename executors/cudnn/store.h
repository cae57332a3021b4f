// The states of a run in device memory, row-major.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "executors/cudnn/resources.h"
#include "executors/executor.h"

namespace halfstep::cudnn {

class DeviceStore final : public StateStore {
 public:
  explicit DeviceStore(std::shared_ptr<const Libraries> libraries) : libraries_(std::move(libraries)) {}

  std::vector<std::string> names() const override;
  bool has(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void write(std::string_view name, const Tensor& value) override;

  /// The state's memory; `initial` is copied into it when the state is new.
  /// Throws Error when it is there with another dtype or shape.
  void* bind(const std::string& name, const Tensor& initial);

 private:
  struct Slot {
    DeviceBuffer memory;
    DType dtype;
    Shape shape;
  };
  const Slot& slot(std::string_view name) const;
  void copy(const Slot& slot, const Tensor& value) const;

  std::shared_ptr<const Libraries> libraries_;
  std::map<std::string, Slot, std::less<>> slots_;
};

}  // namespace halfstep::cudnn
