// A model with everything done that is the same for each batch size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/pipelines.h>

namespace HALFSTEP_API halfstep {

struct PreparationOptions {
  std::map<std::string, std::int64_t> batch_axes = {};  ///< see batch_first
  std::optional<ParameterSelection> parameters = {};    ///< set: the model is to be trained
  PassObserver observer = {};
};

/// A model read, its batch first, repaired, and its parameters chosen, once. For each batch size and purpose it is then
/// only bound and lowered.
class PreparedModel {
 public:
  /// Throws Error for what batch_first and select_parameters refuse.
  explicit PreparedModel(Graph model, const PreparationOptions& options = {});

  /// The model repaired, all its parameters constants: what tells how data and model go together.
  const Graph& graph() const { return repaired_; }
  /// The same with its parameters as states; of a model prepared with parameters.
  const Graph& trainable() const { return trainable_.value(); }
  /// What was guessed of the parameters (see guesses_of), for the user; empty when nothing was.
  const std::string& guesses() const { return guesses_; }

  /// Lets go of what large parameters begin with, those that a store has by now: they begin with zeros here from then
  /// on, and programs of what `lower` gives are to be compiled on that store.
  void release_parameters(const std::function<bool(const std::string& name)>& has);

  /// The graph to compile. Training and validation are of a model prepared with parameters, the others of one without.
  /// `observer` is shown the stages after those of the preparation.
  Graph lower(Purpose purpose, const StepOptions& options, const Capabilities& capabilities,
              const PassObserver& observer = {}) const;

 private:
  Graph repaired_;
  std::optional<Graph> trainable_;  ///< with parameters as states
  std::string guesses_;
  std::size_t stages_ = 0;
};

}  // namespace halfstep
