// Clamps between constant bounds, and where their gradient passes.
#pragma once

#include <cmath>
#include <limits>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// y = n raised to `low`, then lowered to `high`; a NaN stays one. The gradient passes where low <= n <= high, and
/// where n is NaN, so that no NaN ends in a gradient of 0.
struct Clamp {
  float low = -std::numeric_limits<float>::infinity(), high = std::numeric_limits<float>::infinity();
  bool stops_at_low = false;  ///< the gradient at `low` itself is 0, as Relu's is

  double operator()(double n) const {
    const double raised = n < low ? low : n;
    return raised > high ? high : raised;
  }
  bool passes(double n) const { return !((stops_at_low ? n <= low : n < low) || n > high); }
  /// The least f32 where the gradient passes.
  float least_passing() const { return stops_at_low ? std::nextafter(low, high) : low; }
  /// Zeros stay zeros.
  bool keeps_zero() const { return low <= 0 && high >= 0; }
};

}  // namespace ops
}  // namespace halfstep
