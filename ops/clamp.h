// The activations that a normalization takes along: clamps between constant bounds.
#pragma once

#include <cmath>
#include <limits>
#include <optional>

#include "graph/attribute.h"

namespace halfstep::ops {

/// y = n raised to `low`, then lowered to `high`; a NaN stays one. The gradient passes where low <= n <= high.
struct Clamp {
  float low = -std::numeric_limits<float>::infinity(), high = std::numeric_limits<float>::infinity();
  bool stops_at_low = false;  ///< the gradient at `low` itself is 0, as Relu's is

  double operator()(double n) const {
    const double raised = n < low ? low : n;
    return raised > high ? high : raised;
  }
  bool passes(double n) const { return (stops_at_low ? n > low : n >= low) && n <= high; }
  /// The least f32 where the gradient passes.
  float least_passing() const { return stops_at_low ? std::nextafter(low, high) : low; }
  /// Zeros stay zeros.
  bool keeps_zero() const { return low <= 0 && high >= 0; }
};

/// What the attribute "activation" of FusedBatchNormalization and BatchNormalizationGrad says: "Relu" is [0, inf);
/// "Clip" is bounded by the attributes "min" and "max", either of which may be missing; empty or missing: none. Throws
/// Error for anything else.
std::optional<Clamp> clamp_of(const Attributes& attributes);

}  // namespace halfstep::ops
