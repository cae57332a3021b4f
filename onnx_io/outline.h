// What a model file has in it, whether or not halfstep can run it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "onnx_io/unsupported.h"
#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/shape.h>

namespace HALFSTEP_API halfstep {

struct ModelOutline {
  struct Value {
    std::string name, type;  ///< "f32"; of what is no tensor its kind: "sequence"
    Shape shape;
  };
  std::vector<Value> inputs, outputs;
  /// Nodes by operator, with its domain where that is not ai.onnx, subgraphs included; without Constant.
  std::map<std::string, std::int64_t> operators;
  std::int64_t tensors = 0, elements = 0;  ///< of initializers
  UnsupportedOperators unsupported;
};

/// Reads the message alone: no external data, and nothing is checked. Throws Error(input) when the file is no ONNX
/// model.
ModelOutline outline_of(const std::filesystem::path& path);

}  // namespace halfstep
