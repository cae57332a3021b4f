// The table of optimizers, with one row each. An optimizer's operator, states, flags and help follow from its row.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// A numeric parameter of an optimizer. Rows that share a name share its range.
struct Hyperparameter {
  std::string_view name;  ///< the attribute's name: "weight_decay"; the command-line flag is --weight-decay
  std::string_view meaning;
  double fallback;
  double lowest, highest;
  bool below_highest = false;  ///< `highest` itself is excluded
  bool is_switch = false;      ///< 0 or 1
};

struct OptimizerDef;

/// The values of an optimizer's hyperparameters in a run or a node.
class Hyperparameters {
 public:
  explicit Hyperparameters(const OptimizerDef& row);  ///< all at their defaults
  Hyperparameters(const OptimizerDef& row, const Attributes& attributes);

  /// Both throw Error(failure) for a name that the row does not have.
  double operator[](std::string_view name) const { return values_[index_of(name)]; }
  void set(std::string_view name, double value) { values_[index_of(name)] = value; }

  std::span<const double> values() const { return values_; }  ///< in the row's order
  Attributes attributes() const;

 private:
  std::size_t index_of(std::string_view name) const;

  const OptimizerDef* row_;
  std::vector<double> values_;
};

/// A tensor that an optimizer keeps for each parameter.
struct OptimizerSlot {
  std::string_view prefix;  ///< of the states' names: "adam.m." makes "adam.m.fc.weight"
  std::string_view meaning;
  /// Its shape for a parameter of this shape; nothing if the parameter does not have the slot.
  std::optional<Shape> (*shape)(const Hyperparameters& h, const Shape& parameter);
  std::string_view initial = {};  ///< the hyperparameter with its initial value; empty: 0
};

/// The update of one parameter. All values have the parameter's type.
struct ParameterUpdate {
  Builder& b;
  const Hyperparameters& h;
  Expr lr, step;            ///< scalars; steps count from 1
  Expr parameter;           ///< becomes the next value
  Expr gradient;            ///< of the loss, unscaled and clipped
  std::vector<Expr> slots;  ///< become the next values; empty for slots that this parameter lacks

  // Common expressions.
  double operator[](std::string_view hyperparameter) const { return h[hyperparameter]; }
  Expr sqrt(Expr x) { return b.op("Sqrt", {x}); }
  Expr norm(Expr x);                   ///< L2 norm
  Expr one_minus_power(double decay);  ///< 1 - decay^step, accurate to the last digits
  void decay_gradient();               ///< adds weight_decay times the parameter to the gradient
  void decay_parameter();              ///< shrinks the parameter by lr times weight_decay
};

struct OptimizerDef {
  std::string_view name;    ///< "adam"
  std::string_view op;      ///< its operator in ai.halfstep: "AdamStep"
  std::string_view source;  ///< the reference for its formulas
  std::vector<Hyperparameter> hyperparameters;
  std::vector<OptimizerSlot> slots = {};
  void (*update)(ParameterUpdate&) = nullptr;
  /// Throws Error(input) for incompatible hyperparameters.
  void (*check)(const Hyperparameters&) = nullptr;
  std::vector<OpCase> cases = {};
  OpenNaN open_nan = {};

  /// nullptr if it has none of that name.
  const Hyperparameter* find(std::string_view hyperparameter) const;
};

/// All rows; the first is the default.
std::span<const OptimizerDef> optimizers();
/// Throws Error(input) listing the available optimizers for an unknown name.
const OptimizerDef& optimizer_named(std::string_view name);
/// The row of the node's optimizer operator; nullptr for other nodes.
const OptimizerDef* optimizer_of(const Node& node);

/// Positions of the operands of an optimizer's node: lr, step, apply, grad_factor, the parameters, their gradients,
/// then for each slot the parameters that have it. The outputs are the next parameters and slots in the same order.
struct StepOperands {
  static constexpr std::size_t kScalars = 4;
  std::size_t parameters;

  /// For a node with these numbers of inputs and outputs.
  StepOperands(std::size_t inputs, std::size_t outputs)
      : parameters(inputs > kScalars + outputs ? inputs - kScalars - outputs : 0) {}
  explicit StepOperands(const Node& node) : StepOperands(node.inputs.size(), node.outputs.size()) {}

  std::size_t parameter(std::size_t i) const { return kScalars + i; }
  std::size_t gradient(std::size_t i) const { return kScalars + parameters + i; }
  std::size_t first_slot() const { return kScalars + 2 * parameters; }
  /// The input that output i replaces.
  std::size_t replaced(std::size_t output) const { return kScalars + output + (output < parameters ? 0 : parameters); }
};

/// For each parameter and each slot of the row, its position among the node's slots; nothing if it has none.
using SlotPlaces = std::vector<std::vector<std::optional<std::size_t>>>;
SlotPlaces slot_places(const OptimizerDef& row, const Hyperparameters& h, std::span<const Shape> parameters);

/// Adds the nodes that update one parameter: casts the scalars to its type and multiplies the gradient by
/// `grad_factor`.
ParameterUpdate update_parameter(const OptimizerDef& row, const Hyperparameters& h, Expr lr, Expr step,
                                 Expr grad_factor, Expr parameter, Expr gradient, std::vector<Expr> slots);

}  // namespace halfstep
