#include "training/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "training/fingerprint.h"
#include "training/ranks.h"
#include <halfstep/graph/precision.h>
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

std::string text_of(const LossTerm& term) {
  std::vector<std::string> parts;
  const auto add = [&](const char* name, const std::string& value) {
    parts.push_back(fmt::format("{}={}", name, value));
  };
  if (!term.output.empty()) add("output", term.output);
  add("labels", term.labels);
  if (term.class_axis) add("class axis", fmt::format("{}", *term.class_axis));
  if (term.ignore_label) add("ignored label", fmt::format("{}", *term.ignore_label));
  for (const auto& [name, value] : term.numbers) add(std::string(name).c_str(), fmt::format("{}", value));
  if (!term.labels_input.empty()) add("input", term.labels_input);
  if (term.weight != 1) add("weight", fmt::format("{}", term.weight));
  if (!term.class_weights.empty()) add("class weights", fmt::format("{}", fmt::join(term.class_weights, ",")));
  if (!term.sample_weights.empty()) add("sample weights", term.sample_weights);
  if (term.reduction == LossReduction::sum) add("reduction", "sum");
  return fmt::format("{} ({})", term.loss, fmt::join(parts, ", "));
}

std::string text_of(const LossOptions& loss) {
  if (loss.function.write) return "a function";
  std::vector<std::string> terms;
  for (const LossTerm& term : loss.terms) terms.push_back(text_of(term));
  return terms.empty() ? "by the labels" : fmt::format("{}", fmt::join(terms, " + "));
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
  settings[kLossScaleSetting] =
      options.loss_scale.enabled ? fmt::format("{}", options.loss_scale.initial) : std::string(kNoLossScale);
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
    settings["--class-weights" + of] = loss.class_weights.empty() ? "none" : text_of(loss.class_weights);
    settings["--sample-weights" + of] = loss.sample_weights.empty() ? "none" : loss.sample_weights;
    settings["--class-axis" + of] = fmt::format("{}", task.terms[t].loss.reading.class_axis);
  }
  if (task.terms.size() == 1)
    settings["--loss-output"] = options.losses[0].output.empty() ? "the first" : options.losses[0].output;
  settings["--ignore-label"] = fmt::format("{}", options.ignore_label);
  settings["--batch-axis"] = options.batch_axes.empty() ? "0" : text_of(options.batch_axes);
  settings[kPrecisionSetting] = precision_name(task.precision);
  settings["--batch"] = fmt::format("{}", task.all_rows);
  settings["--seed"] = fmt::format("{}", options.seed);
  settings["--no-shuffle"] = on_off(!options.shuffle);
  settings["--freeze-batchnorm"] = on_off(!options.mode.train_batchnorm);
  settings["--no-dropout"] = on_off(!options.mode.train_dropout);
  settings["--executor"] = executor;
  if (rows > 0) settings["rows of data"] = fmt::format("{}", rows);
  return settings;
}

Settings step_settings(const StepOptions& step, const Graph& model, std::span<const TensorInfo> parameters,
                       const std::map<std::string, std::int64_t>& batch_axes) {
  Settings all;
  add_optimizer(all, step.optimizer);
  all["version of halfstep"] = HALFSTEP_VERSION;
  all["model"] = fingerprint(model);
  NameSet names;
  for (const TensorInfo& parameter : parameters) names.insert(parameter.name);
  all["attributes and constants"] = fingerprint_of_contents(model, names);
  all["parameters"] = checksum(model);
  for (const TensorInfo& parameter : parameters) all["type of " + parameter.name] = parameter.to_string();
  all["--optimizer"] = step.optimizer.name;
  all["gradient norms of parameters"] = on_off(step.optimizer.output_gradient_norms);
  all[kPrecisionSetting] = precision_name(step.precision);
  all["loss"] = text_of(step.loss);
  all["--freeze-batchnorm"] = on_off(!step.mode.train_batchnorm);
  all["--no-dropout"] = on_off(!step.mode.train_dropout);
  all["--sync-batchnorm"] = on_off(step.ranks.sync_batchnorm);
  all["--bucket-size"] = fmt::format("{}", step.ranks.bucket_bytes);
  all["--sharded-optimizer"] = on_off(step.ranks.sharded_optimizer);
  all["--gradient-precision"] = precision_name(step.ranks.gradient_dtype);
  all["--batch-axis"] = batch_axes.empty() ? "0" : text_of(batch_axes);
  return all;
}

std::vector<std::string> setting_differences(const Settings& run, const Settings& checkpoint) {
  std::vector<std::string> lines;
  for (const auto& [name, value] : run)
    if (const auto before = checkpoint.find(name); before != checkpoint.end() && before->second != value)
      lines.push_back(fmt::format("resuming with {} {}; the checkpoint was made with {}", name, value, before->second));
  return lines;
}

}  // namespace halfstep
