// The activation that a fused operator applies last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "ops/elementwise/clamp.h"
#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// An elementwise operator after another one. The fused node has its name as the attribute "activation", and its
/// attributes; the constant bounds of Clip are the attributes "min" and "max".
struct Epilogue {
  enum class Kind : std::uint8_t { none, relu, clip, gelu, gelu_tanh };
  Kind kind = Kind::none;
  float min = -std::numeric_limits<float>::infinity(), max = std::numeric_limits<float>::infinity();  ///< for clip

  explicit operator bool() const { return kind != Kind::none; }
  /// Applies it to x. NaN stays NaN.
  double operator()(double x) const;
  /// Whether it keeps zeros.
  bool keeps_zero() const;
};

/// The epilogue of a node with these attributes. Throws Error for an activation that is none of the above.
Epilogue epilogue_of(const Attributes& attributes);

/// The epilogue of FusedBatchNormalization and BatchNormalizationGrad, which are clamps: Relu is [0, inf). Empty if
/// there is none; throws Error for any other.
std::optional<Clamp> clamp_of(const Attributes& attributes);

/// The operand of a fused operator that it adds before its activation. Throws Error(failure) for one that adds nothing.
std::size_t addition_operand(std::string_view fused);

/// The attributes by which a fused node includes `node`, or its gradient if `node` is one; empty if no epilogue is
/// equivalent, such as for a Clip whose bounds are not constants representable in f32.
Attributes epilogue_attributes(const Graph& graph, const Node& node);

}  // namespace ops
}  // namespace halfstep
