// Facts about an operator that passes, conversion and executors use. A row sets those that hold; the defaults assert
// nothing.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// How an operator moves elements without computing.
enum class Movement : std::uint8_t {
  none,      ///< it computes, or moves elements in another way
  identity,  ///< unchanged
  reshape,   ///< the same bytes in another shape
  permute,   ///< with its axes in another order
  convert,   ///< in another element type
  repeat,    ///< elements may be repeated
  part,      ///< each result is a part of the operand
  join,      ///< the concatenation of all operands
};
/// Whether the result is a view: the operand's memory with another shape.
constexpr bool is_view(Movement m) { return m == Movement::identity || m == Movement::reshape; }
/// Whether the result contains all elements of the operand.
constexpr bool keeps_elements(Movement m) { return m != Movement::none && m != Movement::part && m != Movement::join; }

/// Kinds of operators that compute each element from those at the same position.
enum class Elementwise : std::uint8_t {
  none,
  unary,      ///< the result has the shape of operand 0
  broadcast,  ///< operands are broadcast
};

/// The arithmetic operation of an elementwise operator.
enum class Arithmetic : std::uint8_t { none, sum, product, quotient, negation };

/// The effect of very large and very small elements on the result.
enum class Extremes : std::uint8_t {
  computed,  ///< they are ordinary numbers
  picked,    ///< elements are compared: one far below the others may be clamped to a less extreme value
  bounds,    ///< bounds that the other operands are clamped to
};

/// The axis of the result that holds its features (channels, classes).
enum class FeatureAxis : std::uint8_t {
  unknown,    ///< for elementwise operators: that of the operands
  second,     ///< axis 1
  last,       ///< the last, if operand 1 is a matrix that is a constant or a state
  attribute,  ///< the attribute `axis`, -1 if it is absent
};

/// Operators with bodies.
enum class ControlFlow : std::uint8_t { none, branches, loop, scan };

/// The role of an operand. The first enumerator is the default.
enum class OperandRole : std::uint8_t {
  data,
  setting,     ///< a setting such as a shape; no gradient flows to it
  bound,       ///< a setting: bound that the result is clamped to
  weight,      ///< a filter or a matrix
  table,       ///< a table from which rows are gathered
  source,      ///< a tensor from which elements are gathered
  bias,        ///< added, one per feature
  scale,       ///< factor of a normalized feature
  slope,       ///< any other factor per feature
  mean,        ///< running statistics of a normalization
  variance,    ///< running statistics of a normalization
  state,       ///< initial state of a recurrent layer
  mask,        ///< added to attention scores
  shape_only,  ///< only its shape is used
};
constexpr bool is_statistic(OperandRole role) { return role == OperandRole::mean || role == OperandRole::variance; }
constexpr bool is_setting(OperandRole role) {
  return role == OperandRole::setting || role == OperandRole::bound || is_statistic(role);
}

/// The roles of an operator's operands, in order; `data` by default.
class OperandRoles {
 public:
  constexpr OperandRoles() = default;
  constexpr OperandRoles(std::initializer_list<OperandRole> roles) {
    std::copy(roles.begin(), roles.end(), roles_.begin());
  }
  /// For an operator all of whose operands have this role.
  static constexpr OperandRoles all(OperandRole role) {
    OperandRoles result;
    result.roles_.fill(role);
    result.rest_ = role;
    return result;
  }

  constexpr OperandRole operator[](std::size_t operand) const {
    return operand < roles_.size() ? roles_[operand] : rest_;
  }
  constexpr bool has(OperandRole role) const { return std::find(roles_.begin(), roles_.end(), role) != roles_.end(); }

 private:
  std::array<OperandRole, 8> roles_{};
  OperandRole rest_ = OperandRole::data;
};

class MagnitudeCall;
/// Estimated mean square of the first result's elements; NaN if unknown (ops/magnitude.h).
using MagnitudeRule = double (*)(const MagnitudeCall&);

struct OpTraits {
  Movement movement = Movement::none;
  Elementwise elementwise = Elementwise::none;
  Arithmetic arithmetic = Arithmetic::none;
  Extremes extremes = Extremes::computed;
  FeatureAxis features = FeatureAxis::unknown;
  ControlFlow control_flow = ControlFlow::none;
  OperandRoles operands = {};
  bool random = false;          ///< it draws random numbers
  bool keeps_integers = false;  ///< integral elements stay integral
  bool quantizes = false;       ///< quantizes to integers, or dequantizes from them
  bool one_type = false;        ///< runtimes require one type for its floats, although its schema has several variables
  /// The ai.onnx version from which its function body, which runtimes execute, supports bf16; 0: the operator's own.
  std::int64_t body_bf16_since = 0;
  /// nullptr: unknown, except for operators of precision class neutral, which keep the magnitude of their operands.
  MagnitudeRule magnitude = nullptr;

  constexpr bool is_recurrent() const { return operands.has(OperandRole::state); }
};

/// The traits of the operator's row, or of an operator that occurs in models but has no kernel here; the defaults for
/// any other.
const OpTraits& traits_of(std::string_view name, std::string_view domain = kOnnxDomain);
/// The traits of a node of any type with `op` and `domain`.
template <class N>
requires requires(const N& node) { node.op, node.domain; }
const OpTraits& traits_of(const N& node) { return traits_of(node.op, node.domain); }

}  // namespace halfstep
