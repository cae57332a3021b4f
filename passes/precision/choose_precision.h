// Which nodes of a model compute in a half type: one decision for training and for conversion. It knows neither Graph
// nor file; both describe themselves to it as plain lists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/dtype.h>
#include <halfstep/graph/id_map.h>
#include <halfstep/passes/precision/float_range.h>

namespace onnx {
class OpSchema;
}

namespace halfstep {

struct PrecisionValue {
  enum class Kind : std::uint8_t {
    computed,   ///< by a node: has exactly one among whose outputs it is
    constant,   ///< can be stored in either type, or both
    parameter,  ///< stored in f32; a half copy costs a cast
  };
  Kind kind = Kind::computed;
  bool wide = false;  ///< of type f32: what is painted
  bool half = false;  ///< of the half type in the model already
  /// Made from integers of more than 8 bits by a Cast: half types do not hold them exactly.
  bool integral = false;
  /// Of a constant, or as measured; nullptr when not known.
  const FloatRange* range = nullptr;
  /// Where no range is known: the root mean square that its elements are likely to have; 0: that is not known either.
  double expected = 0;
  /// Computed, but the same in every run: a constant moved around or cast, or one element repeated (with its range).
  bool of_constant = false;
  bool unknown = false;  ///< of a type that nothing tells: perhaps f32

  /// All its elements are in `range` before the model runs.
  bool is_known() const { return range && (kind == Kind::constant || of_constant); }
};

enum class Paint : std::uint8_t { open, full, half };

/// What a node does with one of its f32 operands when it is painted half.
enum class Role : std::uint8_t {
  other,  ///< not of type f32
  tied,   ///< becomes half with the node
  fixed,  ///< stays f32 (the scales of Resize, the statistics of BatchNormalization)
  any,    ///< is taken in whichever type it is there: only its shape is looked at, or it is cast to another type
};

/// A node, or a boundary, which has no operator: inputs and outputs of the model or of a subgraph, pinned; or what has
/// one type on both sides of a subgraph's boundary, open.
struct PrecisionNode {
  std::string_view op, domain;
  std::vector<ValueId> inputs, outputs;  ///< kNoValue where absent
  std::vector<Role> input_roles, output_roles;
  /// Not open: decided by whoever describes the model, who gives the reason.
  Paint pin = Paint::open;
  std::string reason;
  /// A pin that also overrules what ranges say.
  bool forced = false;

  bool is_boundary() const { return op.empty(); }
  bool has_tied() const;
};

/// Sets the roles of operands from the operator's schema (nullptr: unknown, all fixed): those that share the type
/// variable of the first result (or, when that is no float, of the first f32 operand) are tied. All are fixed when the
/// schema does not let that variable be `half`, and in a node that is half already. Some operators have two variables
/// that runtimes take in one type only (RMSNormalization, Attention): there both are tied, or neither where a type is
/// unknown.
void assign_roles(PrecisionNode& node, const onnx::OpSchema* schema, DType half,
                  const ValueMap<PrecisionValue>& values);

/// Underflow of this operand's elements does not matter: shift and mean of a BatchNormalization, which are added to
/// what is larger, or is divided by more than the root of its epsilon.
bool may_underflow(const PrecisionNode& node, std::size_t operand);

/// A node of ai.onnx that computes nothing with its operands' elements (precision class neutral).
bool moves_data(const PrecisionNode& node);
int count_tied_inputs(const PrecisionNode& node);

/// What does not fit into half, where that is why a node is full.
enum class Misfit : std::uint8_t {
  none,
  constant,  ///< a constant operand
  measured,  ///< another value, by its range
  expected,  ///< another value, by what is likely
};

struct PrecisionChoice {
  std::vector<bool> half;            ///< per node
  std::vector<std::string> reasons;  ///< per node: why, in a few words
  std::vector<Misfit> misfits;       ///< per node
  /// The constant that a value is but moved from, when its own fit is that constant's; or kNoValue.
  ValueMap<ValueId> moved_from;
  /// Elements of larger magnitude become this, sign kept; 0: none. Constants that only mask (or bound)
  /// something may be clamped, and are where half nodes see them.
  ValueMap<double> limits;
  /// The limit holds for the value in f32, too, from which half nodes see it. Other f32 nodes read it as it is.
  ValueMap<bool> clamped_in_f32;

  double limit(ValueId value, bool in_half) const { return in_half || clamped_in_f32[value] ? limits[value] : 0; }
};

/// What keeps `half` from holding a value's elements: those of its range, or of a constant that it is but moved from,
/// or what is expected of it. The reason says what they are: "elements reached 1e6, beyond the 65504 of f16".
struct ValueMisfit {
  Misfit kind = Misfit::none;
  std::string reason = {};
};
/// Of each of `wanted`, values that leave or enter the model as they are.
std::vector<ValueMisfit> find_misfits(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
                                      const std::vector<ValueId>& wanted, DType half);

/// Nodes must be in topological order, boundaries anywhere. Operators of class half are painted half; quantised ones,
/// squares (whose sum overflows first), those that would compute with integers half cannot hold, and those an operand
/// of which does not fit into half are painted full. What is left open is painted so that the fewest casts are needed.
PrecisionChoice choose_precision(const std::vector<PrecisionNode>& nodes, const ValueMap<PrecisionValue>& values,
                                 DType half);

}  // namespace halfstep
