// What can be told of the constants of a model from how they are used: the ground for telling parameters from others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/exporter.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// Operators that pass elements on: reshaped, moved, repeated, or in another type.
bool is_movement(const Node& node);
/// Elementwise operators that spread an operand over the axes it lacks, and through which gradients flow.
bool is_spreading(const Node& node);
/// Whether a float operand is a setting of its operator: it shapes the result, and no gradient flows to it.
bool is_setting(const Node& node, std::size_t input);

/// What an operand is for its operator, as far as that says that it is a parameter.
enum class WeightRole : std::uint8_t {
  none,    ///< any operand: arithmetic, a setting
  vector,  ///< a bias, a scale, a slope
  matrix,  ///< a filter, a matrix, a table of embeddings
};

class ModelFacts {
 public:
  /// `graph` has the types of all its values, and outlives this.
  ModelFacts(const Graph& graph, Exporter exporter);

  const Graph& graph;
  const Exporter exporter;

  std::span<const Use> uses(ValueId id) const { return graph.users(id); }
  std::span<const Use> uses_of_output(const Node& node) const { return uses(node.outputs[0]); }
  const Node& node(const Use& use) const { return graph.nodes[use.node]; }
  const Node* producer(ValueId id) const { return graph.producer(id); }

  /// A running statistic of BatchNormalization, through whatever exporters put in front of it.
  bool is_statistic(ValueId id) const { return statistics_[id]; }
  /// A float output of the model depends on it through operands, not settings.
  bool has_gradient(ValueId id) const { return gradients_[id]; }
  /// The strongest role among its uses, through movement of constants.
  WeightRole role(ValueId id) const { return roles_[id]; }

  /// Some Constant node holds a matrix: the exporter writes weights so.
  bool constants_hold_weights() const { return constants_hold_weights_; }
  bool initializers_hold_weights() const { return initializers_hold_weights_; }
  /// Some matrix has the name of a module's attribute ("layer.weight"): initializers have the framework's names.
  bool names_modules() const { return names_modules_; }
  /// The exporter says of some initializer what it was.
  bool has_declarations() const { return has_declarations_; }

 private:
  void find_statistics();
  void find_gradients();
  void find_roles();
  void find_habits();

  ValueMap<bool> statistics_, gradients_;
  ValueMap<WeightRole> roles_;
  bool constants_hold_weights_ = false, initializers_hold_weights_ = false;
  bool names_modules_ = false, has_declarations_ = false;
};

}  // namespace halfstep
