// The states of a run in host memory, row-major: what executors without layouts of their own use.
#pragma once

#include <map>
#include <string>

#include "executors/executor.h"

namespace halfstep {

class HostStore final : public StateStore {
 public:
  std::vector<std::string> names() const override;
  bool has(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void write(std::string_view name, const Tensor& value) override;

  /// The state's own memory; `initial` is copied into it when the state is new.
  /// Throws Error when it is there with another dtype or shape.
  Tensor bind(const std::string& name, const Tensor& initial);

 private:
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace halfstep
