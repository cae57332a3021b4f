// Loss and metrics of a model over a data set.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/data/dataset.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/options.h>

namespace HALFSTEP_API halfstep {

struct Task;
class StepProgram;

struct Evaluation {
  double loss = 0;
  std::vector<std::pair<std::string, double>> metrics;     ///< the scalar metrics
  std::vector<std::pair<std::string, ClassTable>> tables;  ///< the metrics that are tables
  std::int64_t rows = 0;
};

/// Evaluates a model as it is. The model needs no trainable parameters and no gradients.
class Evaluator {
 public:
  /// `data` determines how rows become batches and, if the options do not, the loss and the metrics. Options that only
  /// concern training are ignored. Computes in fp32 unless options.precision is set.
  /// Throws Error if model, data and options do not fit.
  Evaluator(LoadedModel model, Executor& executor, const Dataset& data, const TrainerOptions& options);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Throws Error if the rows differ in kind from those that the evaluator was constructed with.
  Evaluation evaluate(const Dataset& data);

  DType precision() const;
  /// The first of several losses.
  const LossDef& loss() const;
  std::string loss_text() const;
  /// Deviations from the options: a batch size that the model fixes.
  const std::vector<std::string>& notices() const;

 private:
  StepProgram& program(std::int64_t rows);

  PreparedModel model_;
  Executor& executor_;
  InputOptions input_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<StateStore> store_;
  std::map<std::int64_t, std::unique_ptr<StepProgram>> programs_;
};

/// Evaluates with programs owned by the caller: `program(rows)` is a program for batches of `rows` rows. With `ranks`
/// each rank evaluates its share of the rows, and returns the result over all.
Evaluation evaluate(const Task& task, const InputOptions& input, const Dataset& data,
                    const std::function<StepProgram&(std::int64_t rows)>& program, Communicator* ranks = nullptr);

}  // namespace halfstep
