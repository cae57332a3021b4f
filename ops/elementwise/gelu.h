// Gelu in both its forms.
#pragma once

#include <cmath>
#include <numbers>

#include <halfstep/graph/attribute.h>

namespace halfstep::ops {

// sqrt(2/pi), and the cubic's coefficient: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
inline constexpr double kGeluScale = std::numbers::sqrt2 * std::numbers::inv_sqrtpi, kGeluCubic = 0.044715;

inline bool is_tanh_gelu(const Attributes& attributes) {
  return attributes.get_string("approximate", "none") == "tanh";
}

inline double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }
inline double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(kGeluScale * (x + kGeluCubic * x * x * x))); }

}  // namespace halfstep::ops
