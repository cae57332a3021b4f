// The activations that fused operators apply last: clamps between constant bounds.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/graph/attribute.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// What the attribute "activation" of a fused operator names; empty or missing: none.
enum class Activation { none, relu, clip };
/// Throws Error for any other name.
Activation activation_named(std::string_view name);

/// Whether a fused product or convolution ends with Relu. Throws Error for any other activation: they take none.
bool ends_with_relu(std::string_view activation);
bool ends_with_relu(const Attributes& attributes);

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

/// The activation of FusedBatchNormalization and BatchNormalizationGrad: "Relu" is [0, inf); "Clip" is bounded by the
/// attributes "min" and "max", either of which may be missing. Empty when there is none.
std::optional<Clamp> clamp_of(const Attributes& attributes);

}  // namespace ops
}  // namespace halfstep
