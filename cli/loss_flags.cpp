#include "cli/loss_flags.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/parse_number.h"
#include "base/path_state.h"
#include "training/crc32c.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/metric_def.h>

namespace halfstep::cli {

void LossFlags::add_to(CLI::App& command) {
  std::string help =
      "one of the following (default: from the labels and the model's last node); OUTPUT=LOSS, repeated for several "
      "outputs, gives their sum";
  for (const LossDef& row : losses()) help += fmt::format("\n{}: {}", row.name, row.meaning);
  command.add_option("--loss", loss, help)
      ->allow_extra_args(false)
      ->type_name("[OUTPUT=]LOSS")
      ->check(suggested(names_of(losses())));
  command.add_option("--loss-weight", loss_weights, "weight of an output's loss in the sum")
      ->allow_extra_args(false)
      ->type_name("OUTPUT=WEIGHT");
  command
      .add_option("--labels", labels,
                  "array of the data with an output's labels, if there are several losses (default: y)")
      ->allow_extra_args(false)
      ->type_name("OUTPUT=NAME");
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const LossNumber& number = known_numbers[i];
    command.add_option(fmt::format("--{}", number.name), numbers[i], std::string(number.meaning))
        ->default_str(fmt::format("{}", number.fallback))
        ->type_name("FLOAT")
        ->check(cli::number())
        ->group("Loss and metrics");
  }
  command
      .add_option("--class-weights", class_weights,
                  "weight of each class in a loss over classes, in order; for binary labels those of 0 and 1")
      ->delimiter(',')
      ->type_name("W,W,...")
      ->check(number());
  command
      .add_option("--sample-weights", sample_weights,
                  "weights of rows, or of their labels, in loss and metrics: the name of an array of the data, or a "
                  "file of one array, not for validation data")
      ->type_name("NAME|FILE")
      ->check(not_empty());
  command
      .add_option("--loss-model", loss_model,
                  "a model that computes the loss as its first output; its inputs are named like outputs of the "
                  "trained model, or 'labels'")
      ->type_name("LOSS.onnx")
      ->excludes(command.get_option("--loss"));
  command.add_option("--loss-output", loss_output, "model output the loss is computed from (default: the first)")
      ->type_name("NAME");
  command
      .add_option("--class-axis", class_axis,
                  "class axis (for cosine_similarity the axis of the vectors) of that output; negative: from the "
                  "back (default: from the labels' shape, else the model, else 1)")
      ->check(signed_number());
  command.add_option("--ignore-label", ignore_label, "class index or binary label that losses and metrics ignore")
      ->capture_default_str()
      ->check(signed_number());
  batch_axis.add_to(command);
  command
      .add_option("--metrics", metrics,
                  "comma-separated (default: accuracy for classes, else none):\n" + describe_metrics())
      ->type_name("LIST")
      ->check(suggested(names_of(all_metrics())));
}

namespace {

/// Splits OUTPUT=TEXT; the output is empty if there is no "=".
std::pair<std::string, std::string> of_output(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos) return {"", text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

/// The loss of the output in `text`, which is OUTPUT=..., the value of that flag.
OutputLoss& named(std::vector<OutputLoss>& losses, const std::string& text, std::string_view flag) {
  const std::string output = of_output(text).first;
  std::vector<std::string> known;
  for (OutputLoss& loss : losses) {
    if (loss.output == output && !output.empty()) return loss;
    if (!loss.output.empty()) known.push_back(loss.output);
  }
  if (known.empty()) known.emplace_back("none");
  throw_input_error(fmt::format("{} as OUTPUT=..., of an output with a --loss", flag),
                    fmt::format("'{}'; outputs with a --loss: {}", text, fmt::join(known, ", ")),
                    "give --loss OUTPUT=LOSS for each output, and check the names in --loss");
}

double number_in(const std::string& text, std::string_view flag) {
  const auto value = parse_number<double>(text);
  if (!value) throw_input_error(fmt::format("a number in {}", flag), fmt::format("'{}'", text), "write boxes=5");
  return *value;
}

/// A checksum of a file, for detecting changes.
std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  return fmt::format("{:08x}", crc32c(bytes));
}

}  // namespace

void LossFlags::apply(TrainerOptions& options) const {
  std::vector<OutputLoss>& losses = options.losses;
  const bool by_output = loss.size() > 1 || (loss.size() == 1 && !of_output(loss[0]).first.empty());
  if (by_output && (!loss_output.empty() || class_axis || !class_weights.empty()))
    throw_input_error("one loss, or several by outputs",
                      fmt::format("--loss {} and {}", loss[0],
                                  !loss_output.empty() ? "--loss-output"
                                  : class_axis         ? "--class-axis"
                                                       : "--class-weights"),
                      "these flags are for a single loss without OUTPUT=");
  if (by_output) losses.clear();
  for (const std::string& text : loss) {
    const auto [output, name] = of_output(text);
    if (by_output && output.empty())
      throw_input_error("each --loss as OUTPUT=LOSS, if there are several", fmt::format("'{}'", text), "");
    if (by_output) losses.push_back({.output = output});
    if (!name.empty()) losses.back().loss = loss_named(name).name;
  }
  for (const std::string& text : loss_weights) {
    named(losses, text, "--loss-weight").weight = number_in(of_output(text).second, "--loss-weight");
  }
  for (const std::string& text : labels) {
    named(losses, text, "--labels").labels = of_output(text).second;
  }
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (!numbers[i]) continue;
    const std::string name(known_numbers[i].name);
    if (!by_output) losses[0].numbers[name] = *numbers[i];
    bool taken = !by_output;
    for (OutputLoss& one : losses) {  // those that support it
      if (!by_output || !one.loss) continue;
      const std::vector<LossNumber>& its = loss_named(*one.loss).numbers;
      if (std::ranges::find(its, name, &LossNumber::name) == its.end()) continue;
      one.numbers[name] = *numbers[i];
      taken = true;
    }
    if (!taken)
      throw_input_error(fmt::format("--{} with a --loss that has it", name),
                        fmt::format("--loss {}", fmt::join(loss, " --loss ")), "see halfstep help train");
  }
  for (OutputLoss& one : losses) one.sample_weights = sample_weights;
  if (!by_output) {
    losses[0].output = loss_output;
    losses[0].class_weights = class_weights;
    losses[0].class_axis = class_axis;
  }
  if (!loss_model.empty() && ignore_label != LossFlags().ignore_label)
    throw_input_error("a loss by its name for --ignore-label", "--loss-model", "ignore labels in the loss model");
  if (!loss_model.empty()) {
    const LoadedModel model = load_model(loss_model);
    options.loss_function = loss_of_model(model.graph);
    options.settings["--loss-model"] = fmt::format("{} ({})", loss_model, content_of(loss_model));
  }
  options.ignore_label = ignore_label;
  options.batch_axes = batch_axis.value();
  if (metrics) options.metrics = parse_metrics(*metrics);
}

Dataset LossFlags::with_sample_weights(Dataset data) const {
  const auto is_named = [&](const Dataset::Input& input) { return input.name == sample_weights; };
  if (sample_weights.empty() || std::ranges::any_of(data.x, is_named) || std::ranges::any_of(data.labels, is_named))
    return data;
  if (!is_there(sample_weights))
    throw_input_error("sample weights",
                      fmt::format("neither an array of the data nor a file named '{}'", sample_weights),
                      "give them as NAME=FILE in --data, in an NPZ file, or as a file");
  DataArray rows = open_array(sample_weights);
  if (rows.rows() != data.rows())
    throw_input_error(fmt::format("{} sample weights, one for each row of the data", data.rows()),
                      fmt::format("{} in {}", rows.rows(), sample_weights), "check that they belong together");
  data.labels.push_back({sample_weights, std::move(rows)});
  return data;
}

}  // namespace halfstep::cli
