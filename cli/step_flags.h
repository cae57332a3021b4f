// The flags that decide a training step: of train, and of what plans or times one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include <halfstep/training/options.h>

namespace halfstep::cli {

/// --optimizer, a flag for each number of an optimizer, --loss-scale, --parameter-group.
struct OptimizerFlags {
  std::string name{OptimizerOptions().name};
  std::vector<std::optional<double>> numbers = std::vector<std::optional<double>>(optimizer_numbers().size());
  std::optional<double> loss_scale;
  std::vector<std::string> groups;

  void add_to(CLI::App& command);
  OptimizerOptions value() const;
};

/// What a training step is made of, beside a model and data.
struct StepFlags {
  DataFlags rows;
  LossFlags loss;
  OptimizerFlags optimizer;
  PrecisionFlag precision;
  std::int64_t batch = TrainerOptions().batch_size;
  std::vector<std::string> freeze, trainable;  ///< --trainable is another flag in inspect: train adds it
  bool freeze_batchnorm = false, no_dropout = false;
  std::size_t memory_budget = 0;  ///< bytes; 0: none

  /// `training`: a flag without which those that only a training step has are refused; nullptr: a command that trains.
  void add_to(CLI::App& command, CLI::Option* training = nullptr);
  /// Options of a run that has such steps. Throws Error(input) for what cannot be read.
  TrainerOptions options() const;
};

}  // namespace halfstep::cli
