// A model after all passes that do not depend on the batch size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/pipelines.h>

namespace HALFSTEP_API halfstep {

class BatchSearches;

struct PreparationOptions {
  std::map<std::string, std::int64_t> batch_axes = {};  ///< see batch_first
  std::optional<ParameterSelection> parameters = {};    ///< set: the model is to be trained
  PassObserver observer = {};
};

/// A model after the preparation that is done once: batch axes moved first, repaired, parameters selected. For each
/// batch size and purpose, only shapes are bound and the graph is lowered.
class PreparedModel {
 public:
  /// Throws Error as batch_first and select_parameters do.
  explicit PreparedModel(Graph model, const PreparationOptions& options = {});

  /// The repaired model, with all its parameters as constants. It determines how data is fitted to the model.
  const Graph& graph() const { return repaired_; }
  /// The same with its parameters as states; only for a model prepared with parameters.
  const Graph& trainable() const { return trainable_.value(); }
  /// Why the model supports only the batch that it was exported for; see batch_obstacle. Computed by the first
  /// call.
  const std::string& batch_obstacle() const;
  /// The model after bind_shapes and fold_constants; its parameters are states, if it was prepared with them.
  Graph bound(InputShapes shapes) const;
  /// A message for the user on parameters chosen by heuristics (see guesses_of); empty if there are none.
  const std::string& guesses() const { return guesses_; }

  /// Releases the initial values of large parameters that a store now has. Their initial values here are zeros from
  /// then on, and graphs returned by `lower` must be compiled with that store.
  void release_parameters(const std::function<bool(const std::string& name)>& has);

  /// The graph to compile. Training and validation need a model prepared with parameters, the others one without.
  /// `observer` is called with the stages after those of the preparation.
  Graph lower(Purpose purpose, const StepOptions& options, const Capabilities& capabilities,
              const PassObserver& observer = {}) const;

 private:
  const Graph& prepared() const { return trainable_ ? *trainable_ : repaired_; }

  Graph repaired_;
  std::optional<Graph> trainable_;  ///< with parameters as states
  std::string guesses_;
  std::size_t stages_ = 0;
  std::shared_ptr<BatchSearches> searches_;
  mutable std::optional<std::string> obstacle_;
};

}  // namespace halfstep
