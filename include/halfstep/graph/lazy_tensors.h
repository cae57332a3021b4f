// Tensors by name, each read when it is due: so that there need not be memory for a copy of all of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

struct LazyTensors {
  std::vector<TensorInfo> types;                        ///< in the order of names, each once
  std::function<Tensor(const std::string& name)> read;  ///< of one of these, as its type says

  /// Tensors that are there. They must outlive the result.
  static LazyTensors of(const NamedTensors& tensors) {
    LazyTensors result;
    for (const auto& [name, tensor] : tensors) result.types.push_back({name, tensor.dtype(), tensor.shape()});
    result.read = [&tensors](const std::string& name) { return tensors.at(name); };
    return result;
  }
};

}  // namespace halfstep
