#include "cli/step_flags.h"

#include <fmt/format.h>

#include "cli/validators.h"
#include <halfstep/passes/step/parameter_group.h>

namespace halfstep::cli {
namespace {

// A flag for each hyperparameter of the optimizers, with the library's description and default.
void add_numbers(CLI::App& command, std::vector<std::optional<double>>& numbers) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const OptimizerNumber& number = optimizer_numbers()[i];
    const std::string flag = fmt::format("--{}", number.name);
    if (number.is_switch) {
      command.add_flag_callback(
          flag, [&value = numbers[i]] { value = 1; }, number.meaning);
      continue;
    }
    command.add_option(flag, numbers[i], number.meaning)
        ->default_str(default_of(number))
        ->type_name(number.whole ? "INT" : "FLOAT")
        ->check(number_in(number.lowest, number.highest));
  }
}

}  // namespace

void OptimizerFlags::add_to(CLI::App& command) {
  const std::vector<std::string> names = names_of(optimizers());
  command.add_option("--optimizer", name, joined(names))->capture_default_str()->check(suggested(names));
  add_numbers(command, numbers);
  command
      .add_option("--loss-scale", loss_scale,
                  fmt::format("initial loss scale; 0: off (default: fp16 {}, else off)", LossScaleOptions{}.initial))
      ->check(number());
  command
      .add_option("--parameter-group", groups,
                  "a group of parameters, by a name pattern, with its own settings: lr_factor=X for the learning rate, "
                  "frozen_updates=N initial updates without a change, weight_decay=X and other hyperparameters; may be "
                  "repeated: the first match counts")
      ->allow_extra_args(false)
      ->type_name("PATTERN:KEY=VALUE,...");
}

OptimizerOptions OptimizerFlags::value() const {
  OptimizerOptions options;
  options.name = optimizer_named(name).name;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i]) set_number(options, optimizer_numbers()[i], *numbers[i]);
  for (const std::string& text : groups) options.groups.push_back(parse_parameter_group(text));
  return options;
}

void StepFlags::add_to(CLI::App& command, CLI::Option* training) {
  rows.add_to(command);
  command.add_option("--batch", batch, "batch size in rows")->capture_default_str()->check(counting());
  precision.add_to(command, true);
  const std::size_t others = command.get_options().size();
  loss.add_to(command);
  optimizer.add_to(command);
  command.add_option("--freeze", freeze, "name patterns (layer1.*) of parameters that are not trained")
      ->delimiter(',')
      ->type_name("PATTERN[,...]");
  command
      .add_option("--trainable", trainable,
                  "name patterns of the only parameters to train; a full name adds a constant that is not recognized "
                  "as a parameter")
      ->delimiter(',')
      ->type_name("PATTERN[,...]");
  command.add_flag("--freeze-batchnorm", freeze_batchnorm,
                   "BatchNormalization uses its running statistics and does not update them");
  command.add_flag("--no-dropout", no_dropout, "disables Dropout");
  add_memory_budget(command, memory_budget);
  if (!training) return;
  const std::vector<CLI::Option*> all = command.get_options();
  for (std::size_t i = others; i < all.size(); ++i) all[i]->needs(training);
}

TrainerOptions StepFlags::options() const {
  TrainerOptions options;
  loss.apply(options);
  options.optimizer = optimizer.value();
  options.loss_scale = optimizer.loss_scale;
  options.precision = precision.value();
  options.parameters = {.freeze = freeze, .trainable = trainable};
  options.mode.train_batchnorm = !freeze_batchnorm;
  options.mode.train_dropout = !no_dropout;
  options.batch_size = batch;
  options.memory_budget = memory_budget;
  options.input = rows.input();
  return options;
}

}  // namespace halfstep::cli
