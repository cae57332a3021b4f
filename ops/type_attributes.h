// Attributes of ONNX operators that hold an element type.
#pragma once

#include <array>
#include <string_view>

#include <halfstep/graph/graph.h>

namespace halfstep::ops {

/// For Cast; for EyeLike and the random operators; for the windows; for the normalizations; for Attention.
inline constexpr std::array<std::string_view, 5> kTypeAttributes{"to", "dtype", "output_datatype", "stash_type",
                                                                 "softmax_precision"};

/// The type of the result of a fused operator, from its attribute `to`: 0 for that of the operands, `fallback`.
inline DType to_type(const Node& node, DType fallback) {
  const std::int64_t to = node.attributes.get_int("to", 0);
  return to == 0 ? fallback : static_cast<DType>(to);
}

}  // namespace halfstep::ops
