// Rows of operators of ai.onnx.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// The row of an operator that needs no other fields.
inline OpDef onnx_row(std::string_view name, PrecisionClass precision, const OpTraits& traits,
                      ReferenceKernel reference, GradientRule gradient, std::vector<OpCase> cases,
                      std::string_view note = {}) {
  return {.name = name,
          .precision = precision,
          .traits = traits,
          .reference = reference,
          .gradient = gradient,
          .cases = std::move(cases),
          .note = note};
}

}  // namespace halfstep::ops
