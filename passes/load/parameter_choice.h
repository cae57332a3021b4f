// Which constants of a model are parameters. An ONNX file does not say: weights, running statistics, masks and numbers
// the exporter made up are all initializers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "passes/load/model_facts.h"
#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/passes.h>

namespace HALFSTEP_API halfstep {

/// What becomes of a float constant of the model in training.
struct ParameterChoice {
  ValueId value = kNoValue;
  bool trained = false;
  bool is_parameter = false;  ///< trained when no pattern says otherwise
  std::string reason = {};    ///< why it is not trained; empty when it is
  /// Names and habits decided, no pattern did, and the model may have meant otherwise: `guesses_of` says so.
  bool is_guess = false;
  /// Only so many elements of the last axis, the first, are trained (see recurrent_bias.h); 0: all.
  std::int64_t leading = 0;
  std::vector<Use> uses = {};
  /// All its elements are equal and several nodes read it: probably several parameters, equal at export, that the
  /// exporter wrote once. Training moves them together unless they are untied.
  bool maybe_merged = false;
};

/// Decides about each float constant that is read, an initializer or a Constant node, in the order of values. `graph`
/// is as loaded, or after `separate_merged_parameters`. What the exporter declares a parameter is one, what it declares
/// a buffer is none; the other rules are the table in parameter_rules.cpp.
///
/// A pattern to freeze may match any constant. Throws Error when one matches nothing, or one of what is to be trained
/// matches no parameter.
std::vector<ParameterChoice> choose_parameters(const Graph& graph, const ParameterSelection& selection);

/// The pass of passes.h with choices that are made already, of the graph it is applied to.
Pass select_parameters(std::vector<ParameterChoice> choices);

/// What among the choices is a guess, and the flags that change it, in one sentence; empty when nothing is.
std::string guesses_of(const Graph& graph, const std::vector<ParameterChoice>& choices);

/// The constants of `model`, as loaded, that are to be untied: those maybe merged that a pattern matches ("all"
/// matches every one), and parameters that a pattern names in full. Throws Error when a pattern matches nothing.
std::vector<std::string> choose_untied(const Graph& model, const std::vector<std::string>& patterns,
                                       Exporter exporter = Exporter::unknown);

}  // namespace halfstep
