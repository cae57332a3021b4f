// The flags of losses and metrics.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include <halfstep/data/dataset.h>
#include <halfstep/training/options.h>

namespace halfstep::cli {

/// --loss, a flag for each parameter of a loss, --loss-output, --class-axis, --ignore-label, --batch-axis,
/// --sample-weights, --metrics.
struct LossFlags {
  std::string loss_output, loss_model, sample_weights;
  std::vector<std::string> loss, loss_weights, labels;
  std::vector<double> class_weights;
  std::vector<LossNumber> known_numbers = all_loss_numbers();
  std::vector<std::optional<double>> numbers = std::vector<std::optional<double>>(known_numbers.size());
  std::optional<std::int64_t> class_axis;
  std::int64_t ignore_label = -100;
  BatchAxisFlag batch_axis;
  std::optional<std::string> metrics;

  void add_to(CLI::App& command);
  void apply(TrainerOptions& options) const;
  /// With the weights of --sample-weights among its arrays, if that is a file.
  Dataset with_sample_weights(Dataset data) const;
};

}  // namespace halfstep::cli
