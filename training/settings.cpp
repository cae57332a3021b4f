#include "training/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/passes/step/parameter_group.h>

namespace halfstep {
namespace {

std::string on_off(bool on) { return on ? "on" : "off"; }

std::string text_of(const std::vector<double>& numbers) {
  return numbers.empty() ? "none" : fmt::format("{}", fmt::join(numbers, ","));
}

std::string text_of(const std::map<std::string, std::int64_t>& axes) {
  std::string text;
  for (const auto& [name, axis] : axes) text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, axis);
  return text;
}

void add_inputs(Settings& settings, const InputOptions& input) {
  settings["--scale"] = input.scale ? fmt::format("{}", *input.scale) : "by type";
  settings["--mean"] = text_of(input.mean);
  settings["--std"] = text_of(input.stddev);
  settings["--layout"] = name_of(input.layout);
}

}  // namespace

void add_optimizer(Settings& settings, const OptimizerOptions& options) {
  for (const OptimizerNumber& number : optimizer_numbers()) {
    const bool scales = number.name.starts_with("loss-scale");
    if (!number.belongs_to(options.name) || (scales && !options.loss_scale.enabled)) continue;
    const std::optional<double> value = number.get(options);
    if (!value) continue;
    settings[fmt::format("--{}", number.name)] = number.is_switch ? on_off(*value != 0) : fmt::format("{}", *value);
  }
  std::vector<std::string> groups;
  for (const ParameterGroup& group : options.groups) groups.push_back(to_string(group));
  settings["--parameter-group"] = groups.empty() ? "none" : fmt::format("{}", fmt::join(groups, " "));
  if (options.loss_scale.enabled) {
    settings["--loss-scale-min"] = fmt::format("{}", options.loss_scale.lowest());
    settings["--loss-scale-max"] = fmt::format("{}", options.loss_scale.highest());
  }
  settings["--loss-scale"] = options.loss_scale.enabled ? fmt::format("{}", options.loss_scale.initial) : "off";
}

Settings settings_of(const TrainerOptions& options, const Task& task, std::int64_t rows, std::string_view executor) {
  Settings settings;
  add_optimizer(settings, task.step.optimizer);
  add_inputs(settings, options.input);
  settings["--lr"] = fmt::format("{}", options.schedule.base_lr);
  settings["--lr-schedule"] = options.schedule.to_string();
  settings["--loss"] = task.loss_text();
  for (std::size_t t = 0; t < task.step.loss.terms.size(); ++t) {
    const LossDef& row = *task.terms[t].loss.row;
    const std::vector<double> numbers = numbers_of(row, task.step.loss.terms[t].numbers);
    const std::string of = task.terms.size() == 1 ? "" : " of " + task.terms[t].output;
    for (std::size_t i = 0; i < numbers.size(); ++i)
      settings[fmt::format("--{}{}", row.numbers[i].name, of)] = fmt::format("{}", numbers[i]);
    const OutputLoss& loss = options.losses[t];
    if (!loss.class_weights.empty()) settings["--class-weights" + of] = text_of(loss.class_weights);
    settings["--sample-weights" + of] = loss.sample_weights.empty() ? "none" : loss.sample_weights;
    settings["--class-axis" + of] = fmt::format("{}", task.terms[t].loss.reading.class_axis);
  }
  if (task.terms.size() == 1)
    settings["--loss-output"] = options.losses[0].output.empty() ? "the first" : options.losses[0].output;
  settings["--ignore-label"] = fmt::format("{}", options.ignore_label);
  settings["--batch-axis"] = options.batch_axes.empty() ? "0" : text_of(options.batch_axes);
  settings["--precision"] = precision_name(task.precision);
  settings["--batch"] = fmt::format("{}", task.all_rows);
  settings["--seed"] = fmt::format("{}", options.seed);
  settings["--no-shuffle"] = on_off(!options.shuffle);
  settings["--freeze-batchnorm"] = on_off(!options.mode.train_batchnorm);
  settings["--no-dropout"] = on_off(!options.mode.train_dropout);
  settings["--executor"] = executor;
  if (rows > 0) settings["rows of data"] = fmt::format("{}", rows);
  return settings;
}

std::vector<std::string> setting_differences(const Settings& run, const Settings& checkpoint) {
  std::vector<std::string> lines;
  for (const auto& [name, value] : run)
    if (const auto before = checkpoint.find(name); before != checkpoint.end() && before->second != value)
      lines.push_back(fmt::format("resuming with {} {}; the checkpoint was made with {}", name, value, before->second));
  return lines;
}

}  // namespace halfstep
