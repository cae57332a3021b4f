// The flags of a training step: for train, and for commands that plan or time a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include "cli/loss_flags.h"
#include <halfstep/training/options.h>

namespace halfstep::cli {

/// --optimizer, a flag for each hyperparameter of an optimizer, --loss-scale, --parameter-group.
struct OptimizerFlags {
  std::string name{OptimizerOptions().name};
  std::vector<std::optional<double>> numbers = std::vector<std::optional<double>>(optimizer_numbers().size());
  std::optional<double> loss_scale;
  std::vector<std::string> groups;

  void add_to(CLI::App& command);
  OptimizerOptions value() const;
};

/// The options of a training step, besides model and data.
struct StepFlags {
  DataFlags rows;
  LossFlags loss;
  OptimizerFlags optimizer;
  PrecisionFlag precision;
  std::int64_t batch = TrainerOptions().batch_size;
  std::vector<std::string> freeze, trainable;
  bool freeze_batchnorm = false, no_dropout = false;
  std::size_t memory_budget = 0;  ///< bytes; 0: none

  /// `training`: the flag that is required for flags of training steps; nullptr: for a command that always trains.
  void add_to(CLI::App& command, CLI::Option* training = nullptr);
  /// Options of a run with such steps. Throws Error(input) for files that cannot be read.
  TrainerOptions options() const;
};

}  // namespace halfstep::cli
