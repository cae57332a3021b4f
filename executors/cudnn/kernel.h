// One node compiled for the device.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include <cuda_runtime_api.h>

#include "executors/cudnn/resources.h"
#include "graph/graph.h"

namespace halfstep::cudnn {

/// Addresses of one launch, all on the device and 64-byte aligned; null where an operand is absent.
struct Launch {
  cudaStream_t stream = nullptr;
  std::vector<const void*> in;
  std::vector<void*> out;
  void* scratch = nullptr;

  template <class T>
  const T* input(std::size_t i) const {
    return i < in.size() ? static_cast<const T*>(in[i]) : nullptr;
  }
  template <class T>
  T* output(std::size_t i) const {
    return i < out.size() ? static_cast<T*>(out[i]) : nullptr;
  }
};

struct DeviceKernel {
  std::string name;  ///< as `halfstep inspect --plan` prints it
  /// Puts the work into the stream. Allocates nothing, waits for nothing: it may be captured into a CUDA graph.
  std::function<void(const Launch&)> launch;
  std::size_t scratch_bytes = 0;
  /// For output i the input it may share memory with, when all of that input has been read by then; -1, or missing at
  /// the end, for none.
  std::vector<int> overwrites = {};
};

/// Why a maker does not take a node; reads on from "because".
struct Refusal {
  std::string reason;
};
using Made = std::variant<DeviceKernel, Refusal>;

/// What a maker looks at. All shapes are static.
struct Site {
  const Graph& graph;
  const Node& node;
  const Libraries& libraries;

  bool has_in(std::size_t i) const { return node.input(i) != kNoValue; }
  bool has_out(std::size_t i) const { return node.output(i) != kNoValue; }
  const Value& in(std::size_t i) const { return graph[node.input(i)]; }
  const Value& out(std::size_t i) const { return graph[node.output(i)]; }
};
using Maker = Made (*)(const Site&);

}  // namespace halfstep::cudnn
