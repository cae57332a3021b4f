// The contents of a model file, whether or not halfstep supports it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "onnx_io/unsupported.h"
#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

struct ModelOutline {
  struct Value {
    std::string name, type;  ///< "f32"; if it is not a tensor, its kind: "sequence"
    Shape shape;
  };
  std::vector<Value> inputs, outputs;
  /// Number of nodes by operator, with its domain if not ai.onnx, including subgraphs; without Constant.
  std::map<std::string, std::int64_t> operators;
  std::int64_t tensors = 0, elements = 0;  ///< of initializers
  UnsupportedOperators unsupported;
};

/// Reads only the message: no external data, and without checks. Throws Error(input) if the file is not an ONNX model.
ModelOutline outline_of(const std::filesystem::path& path);

/// Of a loaded model. Subgraphs count as their node.
ModelOutline outline_of(const Graph& model);

}  // namespace halfstep
