// What a user decides about a training run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/executors/executor.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/schedule.h>

namespace HALFSTEP_API halfstep {

enum class Precision { automatic, fp32, bf16, fp16 };
/// "auto", "fp32", "bf16", "fp16"; throws Error for anything else.
Precision parse_precision(std::string_view name);
std::string_view name_of(Precision precision);
/// What `precision` means on a device: automatic becomes what the device prefers.
DType resolve(Precision precision, const Capabilities& capabilities);
/// The name of a precision by the type it computes in.
std::string_view precision_name(DType type);

struct TrainerOptions {
  std::optional<LossKind> loss = {};  ///< unset: from the labels and the model's last node
  std::string loss_output = {};       ///< model output the loss is computed from (or is, with LossKind::output)
  LossNumbers loss_numbers = {};      ///< those of the loss that are not its defaults: {"huber-delta", 0.5}
  /// Of that output, from the back when negative; unset: as the labels' shape tells, else the model, else 1.
  std::optional<std::int64_t> class_axis = {};
  std::int64_t ignore_label = -100;  ///< points with this class index, or elements with this binary label, do not count
  /// The batch's axis in those inputs and outputs, by name, where it is not the first. Rows of data lie along axis 0.
  std::map<std::string, std::int64_t> batch_axes = {};
  OptimizerOptions optimizer = {};
  Schedule schedule = {};
  std::optional<Precision> precision = {};  ///< unset: automatic for a Trainer, fp32 for an Evaluator
  /// The first loss scale; `optimizer.loss_scale` has the rest of it. Unset: 65536 for fp16, off otherwise; 0: off.
  std::optional<double> loss_scale = {};
  ParameterSelection parameters = {};
  TrainingModeOptions mode = {};
  std::int64_t epochs = 10;
  std::int64_t steps = 0;  ///< when not 0, stop after so many steps (batches, see StepResult)
  std::int64_t batch_size = 32;
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::optional<std::vector<Metric>> metrics = {};  ///< unset: those that the table has for the labels
  InputOptions input = {};
  std::filesystem::path checkpoint = {};  ///< directory; empty: none
  std::int64_t checkpoint_every = 0;      ///< steps; 0: at the end of every epoch
  std::filesystem::path resume = {};      ///< directory; empty: start anew
  bool log_grad_norms = false;
  /// Updates in a row, each skipped or of a loss that is not finite, after which training stops with an error, besides
  /// those that bring the loss scale from its first value down to its lowest.
  std::int64_t max_skipped_in_a_row = 50;
  PassObserver observer = {};
};

/// Throws Error(input) for a number that is out of its range: those of the optimizer, the schedule and this list.
void check(const TrainerOptions& options);

}  // namespace halfstep
