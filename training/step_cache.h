// The programs of a training step that are kept, each for its shapes.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "training/batch_fit.h"
#include "training/state_access.h"
#include "training/step_program.h"
#include <halfstep/executors/executor.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/prepared_model.h>

namespace halfstep {

/// What a program is for, beside the shapes of its batches.
struct StepKey {
  Purpose purpose;
  bool external = false;  ///< the loss is computed elsewhere
  bool operator==(const StepKey&) const = default;
};

struct CompiledStep {
  StepKey key;
  FittedBatch like;  ///< holds no tensor of a batch but their types
  StepProgram program;
  std::vector<std::string> outputs;         ///< the model's by name, but for one that is the loss
  std::map<std::string, std::string> sums;  ///< states that it adds gradients to, by parameter
};

class StepCache {
 public:
  /// Keeps `most` programs; steps keep to the budget, see compile_within. All that is referred to must outlive it.
  StepCache(PreparedModel& model, const std::vector<TensorInfo>& inputs, Executor& executor, TrainedStates& states,
            std::size_t most, std::size_t memory_budget, PassObserver observer);

  /// That for batches like this one. Where it has not been compiled, `options` gives all but shapes and the types of
  /// labels. Good until the next call.
  CompiledStep& find(const StepKey& key, const FittedBatch& batch, const std::function<StepOptions()>& options);

  void clear() { programs_.clear(); }
  /// What is compiled for such batches.
  Graph lower(const StepKey& key, const FittedBatch& batch, StepOptions options,
              const PassObserver& observer = {}) const;

 private:
  CompiledStep compile(const StepKey& key, const FittedBatch& batch, const StepOptions& options);
  std::vector<std::string> output_names(const StepKey& key, const StepOptions& options) const;

  PreparedModel& model_;
  const std::vector<TensorInfo>& inputs_;
  Executor& executor_;
  TrainedStates& states_;
  std::size_t most_, memory_budget_;
  PassObserver observer_;
  std::list<CompiledStep> programs_;  // the latest first
};

}  // namespace halfstep
