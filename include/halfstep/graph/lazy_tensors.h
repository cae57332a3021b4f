// Tensors by name, each read on demand, so that no copy of all of them is held in memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

struct LazyTensors {
  std::vector<TensorInfo> types;                        ///< ordered by name, each once
  std::function<Tensor(const std::string& name)> read;  ///< reads one of these, with the given type and shape

  /// Tensors in memory. They must outlive the result.
  static LazyTensors of(const NamedTensors& tensors) {
    LazyTensors result;
    for (const auto& [name, tensor] : tensors) result.types.push_back({name, tensor.dtype(), tensor.shape()});
    result.read = [&tensors](const std::string& name) { return tensors.at(name); };
    return result;
  }
};

}  // namespace halfstep
