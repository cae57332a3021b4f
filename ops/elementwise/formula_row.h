// What stands beside an elementwise operator's formula: which operator it is of, and where its parameters come from.
#pragma once

#include <cstddef>
#include <limits>
#include <numbers>
#include <string_view>

namespace halfstep::ops {

/// A number that is the same for all elements: an attribute, or an operand that may be left out.
struct FormulaParameter {
  std::string_view name = {};
  float fallback = 0;
  int operand = -1;  ///< where it is one

  static constexpr FormulaParameter low(int operand) {
    return {"min", -std::numeric_limits<float>::infinity(), operand};
  }
  static constexpr FormulaParameter high(int operand) {
    return {"max", std::numeric_limits<float>::infinity(), operand};
  }
};

/// Of an operator that has several formulas: the attribute that chooses this one, and its text; "1" is an integer but
/// 0.
struct FormulaVariant {
  std::string_view attribute = {}, text = {};
};

struct FormulaRow {
  std::string_view op;
  bool is_own = false;  ///< of domain ai.halfstep
  FormulaVariant variant = {};
  FormulaParameter parameters[2] = {};
  bool on_integers = false;  ///< holds in integer arithmetic too, which wraps around
  bool divides = false;      ///< not all integers: some are an error, which the reference reports
  bool on_truth = false;     ///< operands are bool
  /// Takes less time than converting half types: kernels in those are worth their size.
  bool is_light = false;

  constexpr std::size_t count_parameters() const {
    return parameters[0].name.empty() ? 0 : parameters[1].name.empty() ? 1 : 2;
  }
};
template <class R, class... A>
constexpr std::size_t count_arguments(R (*)(A...)) {
  return sizeof...(A);
}

// Constants of formulas. sqrt(2/pi) and the cubic's coefficient: Hendrycks and Gimpel, "Gaussian error linear units".
inline constexpr double kGeluScale = std::numbers::sqrt2 * std::numbers::inv_sqrtpi, kGeluCubic = 0.044715;
inline constexpr double kInverseSqrt2 = 1 / std::numbers::sqrt2;
inline constexpr double kNormalDensity = std::numbers::inv_sqrtpi / std::numbers::sqrt2;  ///< of the normal law at 0
inline constexpr double kInfinite = std::numeric_limits<double>::infinity();

}  // namespace halfstep::ops
