// Which constants of a model are parameters. An ONNX file does not say: weights, running statistics, masks and numbers
// the exporter made up are all initializers.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "passes/passes.h"

namespace halfstep {

/// One reader of a value.
struct Use {
  std::size_t node = 0;   ///< index in Graph::nodes
  std::size_t input = 0;  ///< of that node
};
/// For each value its readers, in the order of nodes.
std::vector<std::vector<Use>> uses_of(const Graph& graph);

/// What becomes of a float constant of the model in training.
struct ParameterChoice {
  ValueId value = kNoValue;
  bool trained = false;
  bool is_parameter = false;  ///< trained when no pattern says otherwise
  std::string reason = {};    ///< why it is not trained; empty when it is
  std::vector<Use> uses = {};
  /// All its elements are equal and several nodes read it: probably several parameters, equal at export, that the
  /// exporter wrote once. Training moves them together unless they are untied.
  bool maybe_merged = false;
};

/// Decides about each float initializer that is read, in the order of values, and about the other float constants that
/// a pattern names in full. `graph` is as loaded, or after `separate_merged_parameters`.
///
/// What an exporter declares a parameter is one, what it declares a buffer is none. Else an initializer is a parameter
/// unless it is a running statistic of BatchNormalization; no gradient flows to it (Resize's scales); it is a scalar,
/// or a single element that an elementwise operator spreads over features; it is a mask, by its values or because it is
/// the same everywhere and added to the scores of a Softmax; it is the ones and zeros by which exporters write
/// GroupNormalization as InstanceNormalization; or it only makes angles of position encodings.
///
/// Throws Error when a pattern matches nothing.
std::vector<ParameterChoice> choose_parameters(const Graph& graph, const ParameterSelection& selection);

/// The initializers of `model`, as loaded, that are to be untied: those maybe merged that a pattern matches ("all"
/// matches every one), parameters that a pattern names in full, and running statistics that several readers share,
/// which never belong together. Throws Error when a pattern matches nothing.
std::vector<std::string> choose_untied(const Graph& model, const std::vector<std::string>& patterns);

/// Indices of the nodes that keep a parameter (a state) from its gradient: no rule is known for them, and they lie
/// between a parameter and a float output.
std::vector<std::size_t> blocking_nodes(const Graph& graph);

}  // namespace halfstep
