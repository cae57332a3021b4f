// The flags of halfstep train.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include <halfstep/training/options.h>

namespace halfstep::cli {

struct TrainFlags {
  std::string model, data, validation;
  ExecutorFlags executor;
  PrecisionFlag precision;
  DataFlags rows;
  AugmentFlag augment;
  LossFlags loss;
  TrainerOptions defaults;
  std::string optimizer = defaults.optimizer.name, schedule = defaults.schedule.to_string();
  double lr = defaults.schedule.base_lr;
  std::vector<std::optional<double>> numbers = std::vector<std::optional<double>>(optimizer_numbers().size());
  std::optional<double> loss_scale;
  std::int64_t epochs = defaults.epochs, steps = 0, batch = defaults.batch_size,
               max_skipped = defaults.max_skipped_in_a_row;
  bool no_shuffle = false, freeze_batchnorm = false, no_dropout = false, log_grad_norms = false;
  std::uint64_t seed = 0;
  std::vector<std::string> freeze, trainable, untie, parameter_groups;
  std::string checkpoint, resume, log, events, curve, dump_passes;
  std::int64_t checkpoint_every = 0, histogram_every = 0;
  std::optional<std::int64_t> early_stopping;
  std::string watch = "loss";
  double average = 0;
  std::string output, fp16_output, save_config, output_form = "inference";
  bool json = false;
};

void add_flags(CLI::App& command, TrainFlags& flags);

/// What they say of the run itself, checked: throws Error(input) for a value that is out of its range.
TrainerOptions trainer_options(const TrainFlags& flags);

}  // namespace halfstep::cli
