// The flags of halfstep train.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include "cli/ranks.h"
#include "cli/step_flags.h"
#include <halfstep/training/options.h>

namespace halfstep::cli {

struct TrainFlags : StepFlags {
  std::string model, data, validation;
  ExecutorFlags executor;
  AugmentFlag augment;
  RankFlags ranks;
  bool sharded_optimizer = false;
  std::string gradient_precision = "fp32";
  TrainerOptions defaults;
  std::string schedule = defaults.schedule.to_string();
  double lr = defaults.schedule.base_lr;
  std::int64_t epochs = defaults.epochs, steps = 0, max_skipped = defaults.max_skipped_in_a_row;
  bool no_shuffle = false, log_grad_norms = false;
  std::uint64_t seed = 0;
  std::vector<std::string> untie;
  std::string checkpoint, resume, log, events, curve, dump_passes;
  std::int64_t checkpoint_every = 0, histogram_every = 0;
  std::optional<std::int64_t> early_stopping;
  std::string watch = "loss";
  double average = 0;
  std::string output, fp16_output, save_config, output_form = "inference";
  bool json = false;
};

void add_flags(CLI::App& command, TrainFlags& flags);

/// The checked options of the run itself: throws Error(input) for a value that is out of range.
TrainerOptions trainer_options(const TrainFlags& flags);

}  // namespace halfstep::cli
