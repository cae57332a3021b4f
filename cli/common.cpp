#include "cli/common.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/json_numbers.h"
#include "base/path_state.h"
#include "formats/inflate.h"
#include "training/crc32c.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/metric_def.h>

namespace halfstep::cli {
namespace {

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

double parse_scale(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::optional<double> above = parse_number(text.substr(0, slash));
  const std::optional<double> below =
      slash == std::string_view::npos ? std::optional<double>(1) : parse_number(text.substr(slash + 1));
  if (!above || !below || *below == 0)
    throw_input_error("--scale as a number or a fraction", fmt::format("'{}'", text), "write 0.5 or 1/255");
  return *above / *below;
}

}  // namespace

void ExecutorFlags::add_to(CLI::App& command) {
  command
      .add_option("--executor", executor,
                  "auto, onednn (CPU), cudnn (GPU), reference (CPU, slow, for comparison), or a plug-in's name")
      ->capture_default_str()
      ->check(suggested({"auto", "onednn", "cudnn", "reference"}));
  command.add_option("--plugin", plugin, "shared library with an executor, instead of --executor")
      ->excludes("--executor")
      ->type_name("LIB.so");
  command.add_option("--threads", threads, "CPU threads; 0: all that the process may use")
      ->capture_default_str()
      ->check(whole_number(0, 4096));
}

void ExecutorFlags::add_fp32_math_to(CLI::App& command) {
  std::string meanings;
  std::vector<std::string> names;
  for (const Fp32MathRow& row : fp32_maths()) {
    if (!row.refusal.empty()) continue;
    meanings += fmt::format("{}{} ({})", meanings.empty() ? "" : ", ", row.name, row.meaning);
    names.emplace_back(row.name);
  }
  command
      .add_option("--fp32-math", fp32_math, "precision of matrix products and convolutions of f32 tensors: " + meanings)
      ->capture_default_str()
      ->check(suggested(names));
}

std::unique_ptr<Executor> ExecutorFlags::open() const {
  const ExecutorOptions options{.threads = threads, .fp32_math = parse_fp32_math(fp32_math)};
  std::string notice;
  std::unique_ptr<Executor> result;
  if (plugin.empty()) {
    result = make_executor(executor, options, &notice);
  } else {
    result = load_executor(plugin, options);
    notice = without_effect(options.fp32_math, result->name(), result->capabilities());
  }
  if (!notice.empty()) print_message(notice);
  return result;
}

CLI::Option* PrecisionFlag::add_to(CLI::App& command) {
  return command
      .add_option("--precision", name, "fp32, bf16, fp16, or auto: the fastest that the device supports natively")
      ->capture_default_str()
      ->envname("HALFSTEP_PRECISION")
      ->check(suggested({"fp32", "bf16", "fp16", "auto"}));
}

Precision PrecisionFlag::value(Precision otherwise) const { return name.empty() ? otherwise : parse_precision(name); }

void add_memory_budget(CLI::App& command, std::size_t& bytes) {
  command
      .add_option("--memory-budget", bytes,
                  "memory limit of training, such as 500MB or 2GiB: activations are recomputed in the backward pass to "
                  "meet it, with the same results; halfstep inspect --memory predicts the memory")
      ->type_name("BYTES")
      ->transform(byte_count());
}

std::string data_help() {
  return fmt::format(
      "X.npy,Y.npy, or NAME=FILE for each input, then the targets (none with --loss output if the model needs none), "
      "each {}; or {}",
      describe_array_formats(), describe_set_formats());
}

void DataFlags::add_input_to(CLI::App& command) {
  command.add_option("--scale", scale, "factor of float inputs, such as 1/255 (default: 1/255 for bytes, else 1)")
      ->type_name("X|X/Y");
  command.add_option("--mean", mean, "mean, subtracted after scaling: one number, or one per channel")
      ->delimiter(',')
      ->type_name("X[,X...]");
  command.add_option("--std", stddev, "standard deviation, divided by after that: one number, or one per channel")
      ->delimiter(',')
      ->type_name("X[,X...]");
  command
      .add_option("--layout", layout,
                  "auto (the channel axis moves if only that fits the model), keep, nhwc-to-nchw or nchw-to-nhwc")
      ->capture_default_str()
      ->check(suggested({"auto", "keep", "nhwc-to-nchw", "nchw-to-nhwc"}));
  command
      .add_option_function<std::uint64_t>(
          "--max-unpacked", set_max_unpacked,
          "maximum decompressed size of a file (default: 1 GiB, or 256 times its size if that is more)")
      ->check(whole_number(1, std::uint64_t{1} << 60))
      ->type_name("BYTES");
}

void DataFlags::add_to(CLI::App& command) {
  add_input_to(command);
  command
      .add_option("--label-column", label_column,
                  "label column of a CSV table, or its 1-based number (default: the last)")
      ->type_name("NAME");
  command
      .add_option("--classes", classes,
                  "class names of a CSV table's labels or of image folders, in the order of the model's classes "
                  "(default: sorted)")
      ->delimiter(',')
      ->type_name("NAME[,NAME...]");
  images.add_to(command);
}

InputOptions DataFlags::input() const {
  InputOptions options{.scale = {}, .mean = mean, .stddev = stddev, .layout = parse_layout(layout)};
  if (!scale.empty()) options.scale = parse_scale(scale);
  return options;
}

Dataset DataFlags::open(const std::string& data, Split split, const Graph& model, const Dataset* like,
                        const AugmentFlag& augment) const {
  DataOptions options{
      .split = split, .table = {.label = label_column, .classes = classes}, .images = images.options(model)};
  if (options.table.classes.empty() && like) options.table.classes = like->classes;
  augment.apply(options.images);
  Dataset dataset = open_dataset(parse_data_spec(data), options);
  for (const std::string& notice : dataset.notices) print_message(notice);
  return dataset;
}

void BatchAxisFlag::add_to(CLI::App& command) {
  command
      .add_option(
          "--batch-axis", axes,
          "batch axis of an input or output of the model, if not the first; in the data, rows are still the first axis")
      ->delimiter(',')
      ->type_name("NAME=AXIS");
}

std::map<std::string, std::int64_t> BatchAxisFlag::value() const {
  std::map<std::string, std::int64_t> result;
  for (const std::string& text : axes) {
    const std::size_t equals = text.rfind('=');
    std::int64_t axis = 0;
    const char* end = text.data() + text.size();
    if (equals == std::string::npos || equals == 0 || std::from_chars(text.data() + equals + 1, end, axis).ptr != end ||
        equals + 1 == text.size())
      throw_input_error("--batch-axis as NAME=AXIS", fmt::format("'{}'", text), "write x=1");
    if (!result.emplace(text.substr(0, equals), axis).second)
      throw_input_error("each name once in --batch-axis", fmt::format("'{}' twice", text.substr(0, equals)),
                        "omit one");
  }
  return result;
}

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
        ->group("Loss and metrics");
  }
  command
      .add_option("--class-weights", class_weights,
                  "weight of each class in a loss over classes, in order; for binary labels those of 0 and 1")
      ->delimiter(',')
      ->type_name("W,W,...");
  command
      .add_option("--sample-weights", sample_weights,
                  "weights of rows, or of their labels, in loss and metrics: the name of an array of the data, or a "
                  "file of one array (only for --data)")
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
  command.add_option("--class-axis", class_axis,
                     "class axis (for cosine_similarity the axis of the vectors) of that output; negative: from the "
                     "back (default: from the labels' shape, else the model, else 1)");
  command.add_option("--ignore-label", ignore_label, "class index or binary label that losses and metrics ignore")
      ->capture_default_str();
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

/// The loss of the output that is named in one of these texts.
OutputLoss& named(std::vector<OutputLoss>& losses, const std::string& output, std::string_view flag) {
  for (OutputLoss& loss : losses)
    if (loss.output == output && !output.empty()) return loss;
  throw_input_error(fmt::format("{} as OUTPUT=..., of an output with a --loss", flag), fmt::format("'{}'", output),
                    "also give --loss OUTPUT=LOSS");
}

double number_in(const std::string& text, std::string_view flag) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw_input_error(fmt::format("a number in {}", flag), fmt::format("'{}'", text), "write boxes=5");
  return value;
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
    const auto [output, weight] = of_output(text);
    named(losses, output, "--loss-weight").weight = number_in(weight, "--loss-weight");
  }
  for (const std::string& text : labels) {
    const auto [output, name] = of_output(text);
    named(losses, output, "--labels").labels = name;
  }
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (!numbers[i]) continue;
    const std::string name(known_numbers[i].name);
    if (!by_output) losses[0].numbers[name] = *numbers[i];
    for (OutputLoss& one : losses) {  // those that support it
      if (!by_output || !one.loss) continue;
      const std::vector<LossNumber>& its = loss_named(*one.loss).numbers;
      if (std::ranges::find(its, name, &LossNumber::name) != its.end()) one.numbers[name] = *numbers[i];
    }
  }
  for (OutputLoss& one : losses) one.sample_weights = sample_weights;
  if (!by_output) {
    losses[0].output = loss_output;
    losses[0].class_weights = class_weights;
    losses[0].class_axis = class_axis;
  }
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

void add_model(CLI::App& command, std::string& model) {
  command.add_option("model", model)->required()->type_name("MODEL.onnx");
}

std::uint64_t file_bytes(const std::string& path) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<std::uint64_t>(bytes);
}

std::string describe_precision(DType taken, Precision asked, const Capabilities& capabilities) {
  const std::string_view name = precision_name(taken);
  if (asked == Precision::automatic) return fmt::format("{}, chosen by auto: {}", name, capabilities.auto_reason);
  if (taken == DType::f32) return std::string(name);
  if (capabilities.is_native(OpClass::matmul, taken)) return fmt::format("{}, as requested", name);
  return fmt::format("{0}, as requested; this device stores {0} and computes in fp32: --precision {1} is faster", name,
                     precision_name(capabilities.auto_precision));
}

std::string with_thousands(std::int64_t value) {
  std::string text = fmt::format("{}", value);
  const std::ptrdiff_t first = value < 0 ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > first; at -= 3)
    text.insert(static_cast<std::size_t>(at), 1, ',');
  return text;
}

namespace {

void print_line(std::string_view prefix, std::string_view text) noexcept {
  try {
    print_to(stderr, "halfstep: {}{}\n", Raw{prefix}, text);
  } catch (const std::exception&) {  // out of memory in `printable`
    write_text(stderr, "halfstep: out of memory\n");
  }
}

}  // namespace

namespace {

bool is_muted = false;

}  // namespace

void mute_messages() noexcept { is_muted = true; }
void print_message(std::string_view text) noexcept {
  if (!is_muted) print_line("", text);
}
void print_error(std::string_view text) noexcept { print_line("error: ", text); }

void print_error(const Error& error) noexcept {
  // Its text is already printable, and has a line for the hint.
  for (const std::string_view part :
       {std::string_view("halfstep: error: "), std::string_view(error.what()), std::string_view("\n")})
    write_text(stderr, part);
}

PeopleOnStderr::PeopleOnStderr(bool json) {
  if (!json) return;
  std::fflush(stdout);
  output_ = dup(STDOUT_FILENO);
  if (output_ < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
    throw_failure("a standard output to keep for JSON", std::strerror(errno), "");
}

PeopleOnStderr::~PeopleOnStderr() {
  if (output_ < 0) return;
  std::fflush(stdout);
  dup2(output_, STDOUT_FILENO);
  close(output_);
}

namespace {

bool printed = false;

}  // namespace

void print_json(nlohmann::ordered_json json) {
  printed = true;
  name_non_finite(json);
  print_out("{}\n", Raw{json_text(json, 2)});
}

bool json_was_printed() { return printed; }

nlohmann::ordered_json error_json(const Error& error) {
  return {{"kind", error.kind() == Error::Kind::input ? "input" : "failure"},
          {"expected", error.required()},
          {"got", error.found()},
          {"hint", error.remedy()}};
}

}  // namespace halfstep::cli
