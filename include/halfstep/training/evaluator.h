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
  std::vector<std::pair<std::string, double>> metrics;     ///< those that are a number
  std::vector<std::pair<std::string, ClassTable>> tables;  ///< the others
  std::int64_t rows = 0;
};

/// Evaluates a model as it is: it needs nothing to train, and no operator with a gradient.
class Evaluator {
 public:
  /// `data` decides how rows become batches and, where the options do not say, what the loss and the metrics are; of
  /// the options those count that are not about training. Computes in fp32 unless options.precision says otherwise.
  /// Throws Error when model, data and options do not fit.
  Evaluator(LoadedModel model, Executor& executor, const Dataset& data, const TrainerOptions& options);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Throws Error when the rows are not like those the evaluator was made for.
  Evaluation evaluate(const Dataset& data);

  DType precision() const;
  /// Of several losses the first.
  const LossDef& loss() const;
  std::string loss_text() const;
  /// What is done otherwise than asked for: a batch size that the model fixes.
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

/// Evaluates with programs that the caller keeps: `program(rows)` is one for batches of `rows` rows.
Evaluation evaluate(const Task& task, const InputOptions& input, const Dataset& data,
                    const std::function<StepProgram&(std::int64_t rows)>& program);

}  // namespace halfstep
