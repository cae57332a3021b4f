// Attributes of ONNX operators that hold an element type.
#pragma once

#include <array>
#include <string_view>

namespace halfstep::ops {

/// For Cast; for EyeLike and the random operators; for the windows; for the normalizations; for Attention.
inline constexpr std::array<std::string_view, 5> kTypeAttributes{"to", "dtype", "output_datatype", "stash_type",
                                                                 "softmax_precision"};

}  // namespace halfstep::ops
