// Facts about an operator that passes, conversion and executors ask for. A row names those that hold; the defaults say
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

/// How an operator passes elements on without computing with them.
enum class Movement : std::uint8_t {
  none,      ///< it computes, or takes elements in a way of its own
  identity,  ///< as they are
  reshape,   ///< the same bytes in another shape
  permute,   ///< with its axes in another order
  convert,   ///< in another element type
  repeat,    ///< some of them several times
  part,      ///< each result is a part of the operand
  join,      ///< all operands one behind the other
};
/// The result is the operand's memory, seen as another shape.
constexpr bool is_view(Movement m) { return m == Movement::identity || m == Movement::reshape; }
/// All elements of one operand are in the result.
constexpr bool keeps_elements(Movement m) { return m != Movement::none && m != Movement::part && m != Movement::join; }

/// Of operators that compute each element from those in the same place.
enum class Elementwise : std::uint8_t {
  none,
  unary,      ///< the result has the shape of operand 0
  broadcast,  ///< operands are spread over the axes they lack
};

/// What an elementwise operator is in terms of sums and products.
enum class Arithmetic : std::uint8_t { none, sum, product, quotient, negation };

/// What very large and very small elements are to the result.
enum class Extremes : std::uint8_t {
  computed,  ///< numbers like others
  picked,    ///< it compares them: one that is far below the others may be somewhat less so
  bounds,    ///< what the other operands are clamped to
};

/// Along which axis of the result its features (channels, classes) lie.
enum class FeatureAxis : std::uint8_t {
  unknown,    ///< or, where it is elementwise, that of its operands
  second,     ///< axis 1
  last,       ///< the last, where operand 1 is a matrix that is known
  attribute,  ///< the attribute `axis`, -1 where it is absent
};

/// Operators with bodies.
enum class ControlFlow : std::uint8_t { none, branches, loop, scan };

/// What an operand is for its operator. The first element is the default.
enum class OperandRole : std::uint8_t {
  data,
  setting,     ///< shapes the result; no gradient flows to it
  bound,       ///< a setting that the result is clamped to
  weight,      ///< a filter or a matrix
  table,       ///< rows of it are taken
  source,      ///< elements of it are taken
  bias,        ///< added, one for each feature
  scale,       ///< what a normalized feature is multiplied by
  slope,       ///< any other factor for each feature
  mean,        ///< running statistics of a normalization
  variance,    ///<
  state,       ///< initial state of a recurrent layer
  mask,        ///< added to scores
  shape_only,  ///< its elements are not looked at
};
constexpr bool is_statistic(OperandRole role) { return role == OperandRole::mean || role == OperandRole::variance; }
constexpr bool is_setting(OperandRole role) {
  return role == OperandRole::setting || role == OperandRole::bound || is_statistic(role);
}

/// The roles of an operator's operands, in their order; data where nothing is said.
class OperandRoles {
 public:
  constexpr OperandRoles() = default;
  constexpr OperandRoles(std::initializer_list<OperandRole> roles) {
    std::copy(roles.begin(), roles.end(), roles_.begin());
  }
  /// Of an operator any of whose operands has this role.
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
/// The mean square that the first result's elements are likely to have; NaN where that is not known (ops/magnitude.h).
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
  bool keeps_integers = false;  ///< elements that are integers stay so
  bool quantizes = false;       ///< to integers, or back from them
  bool one_type = false;        ///< runtimes take its floats in one type, although its schema has several variables
  /// Version of ai.onnx from which its function body, by which runtimes compute it, takes bf16; 0: its own.
  std::int64_t body_bf16_since = 0;
  /// nullptr: not known, but for operators of precision class neutral, which give what they are given.
  MagnitudeRule magnitude = nullptr;

  constexpr bool is_recurrent() const { return operands.has(OperandRole::state); }
};

/// Those of the operator's row, or of one that models have and nothing here computes; the defaults for any other.
const OpTraits& traits_of(std::string_view name, std::string_view domain = kOnnxDomain);
/// Of a node of any of the lists that describe models.
template <class N>
requires requires(const N& node) { node.op, node.domain; }
const OpTraits& traits_of(const N& node) { return traits_of(node.op, node.domain); }

}  // namespace halfstep
