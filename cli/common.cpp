#include "cli/common.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/json_numbers.h"
#include "base/parse_number.h"
#include "formats/inflate.h"
#include <halfstep/executors/registry.h>

namespace halfstep::cli {
namespace {

double parse_scale(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto above = parse_number<double>(text.substr(0, slash));
  const auto below =
      slash == std::string_view::npos ? std::optional<double>(1) : parse_number<double>(text.substr(slash + 1));
  if (!above || !below || *below == 0 || !std::isfinite(*above) || !std::isfinite(*below))
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
  command
      .add_option(
          "--device", device,
          "GPU: cuda:0, cuda:1 and so on, or a UUID, as 'halfstep devices' lists them (default: the first, or of "
          "several ranks on a machine that of the rank's number there)")
      ->type_name("DEVICE")
      ->check(not_empty());
  command.add_option("--plugin", plugin, "shared library with an executor, instead of --executor")
      ->excludes("--executor")
      ->type_name("LIB.so");
  command.add_option("--threads", threads, "CPU threads; 0: all that the process may use")
      ->capture_default_str()
      ->check(whole_number(0, 4096));
}

void ExecutorFlags::add_arithmetic_to(CLI::App& command) {
  const auto meanings = [](const auto& rows) {
    std::string text;
    for (const auto& row : rows) text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", row.name, row.meaning);
    return text;
  };
  command
      .add_option("--fp32-math", fp32_math,
                  "precision of matrix products and convolutions of f32 tensors: " + meanings(fp32_maths()))
      ->capture_default_str()
      ->check(suggested(names_of(fp32_maths())));
  command
      .add_option("--tune", tuning,
                  "choice of kernels for products and convolutions: " + meanings(tunings()) +
                      "; measured choices are stored in ~/.cache/halfstep, so that later runs compute the same bits")
      ->capture_default_str()
      ->check(suggested(names_of(tunings())));
  command
      .add_option("--deterministic", deterministic,
                  "on: bit-identical results on every run; off: a GPU's convolutions may sum in any order")
      ->capture_default_str()
      ->check(suggested({"on", "off"}));
}

ExecutorOptions ExecutorFlags::options() const {
  return {.threads = threads,
          .fp32_math = parse_fp32_math(fp32_math),
          .tuning = parse_tuning(tuning),
          .deterministic = deterministic == "on",
          .device = device};
}

std::string ExecutorFlags::changed_arithmetic() const {
  const ExecutorOptions asked = options();
  if (asked.fp32_math != Fp32Math::strict) return "--fp32-math";
  if (asked.tuning != Tuning::off) return "--tune";
  return asked.deterministic ? "" : "--deterministic";
}

std::string ExecutorFlags::lower_math(DType precision, const Executor& opened) const {
  const Fp32Math math = parse_fp32_math(fp32_math);
  if (precision != DType::f32 || math == Fp32Math::strict) return {};
  if (!without_effect({.fp32_math = math}, opened).empty()) return {};
  return fmt::format(", products and convolutions in {} (--fp32-math)", fp32_math);
}

std::unique_ptr<Executor> ExecutorFlags::open() const {
  const ExecutorOptions options = this->options();
  std::string notice;
  std::unique_ptr<Executor> result;
  if (plugin.empty()) {
    result = make_executor(executor, options, &notice);
  } else {
    result = load_executor(plugin, options);
    notice = without_effect(options, *result);
  }
  if (!notice.empty()) print_message(notice);
  return result;
}

CLI::Option* PrecisionFlag::add_to(CLI::App& command, bool trains) {
  return command
      .add_option(
          "--precision", name,
          fmt::format(
              "fp32, bf16, fp16, or auto: a half type that the device computes natively (a CPU's bf16, else its "
              "fp16; a GPU's fp16), else fp32{}",
              trains ? "; where kernels are tuned, the one measured fastest in a training step" : ""))
      ->capture_default_str()
      ->envname("HALFSTEP_PRECISION")
      ->check(suggested({"fp32", "bf16", "fp16", "auto"}));
}

Precision PrecisionFlag::value(Precision otherwise) const { return name.empty() ? otherwise : parse_precision(name); }

void add_memory_budget(CLI::App& command, std::size_t& bytes) {
  command
      .add_option(
          "--memory-budget", bytes,
          "limit on the memory of training (of GPU memory for a GPU executor), such as 500MB or 2GiB: activations are "
          "recomputed in the backward pass to meet it, with the same results; data that is mapped or unpacked is not "
          "counted; halfstep inspect --memory predicts it")
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
      ->type_name("X[,X...]")
      ->check(number());
  command.add_option("--std", stddev, "standard deviation, divided by after that: one number, or one per channel")
      ->delimiter(',')
      ->type_name("X[,X...]")
      ->check(number());
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

void DataFlags::require_effect(const DataFormat* format) const {
  const auto refuse = [&](bool given, const char* flag, const char* formats) {
    if (given)
      throw_input_error(fmt::format("{} for {}", flag, formats), std::string(format ? format->what : "arrays"),
                        "omit the flag");
  };
  const bool images = format && format->takes_images, table = format && format->takes_label_column;
  refuse(!label_column.empty() && !table, "--label-column", "a table");
  refuse(!classes.empty() && !(format && format->takes_classes), "--classes", "a table or a folder of images");
  refuse(!this->images.size.empty() && !images, "--image-size", "a folder of images");
  refuse(this->images.crop != ImageFlags().crop && !images, "--image-crop", "a folder of images");
}

Dataset DataFlags::open(const std::string& data, Split split, const Graph& model, const Dataset* like,
                        const AugmentFlag& augment) const {
  DataOptions options{
      .split = split, .table = {.label = label_column, .classes = classes}, .images = images.options(model)};
  if (options.table.classes.empty() && like) options.table.classes = like->classes;
  augment.apply(options.images);
  const DataSpec spec = parse_data_spec(data);
  if (!like) require_effect(spec.format);
  Dataset dataset = open_dataset(spec, options);
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
    const auto axis = parse_number<std::int64_t>(std::string_view(text).substr(equals + 1));
    if (equals == std::string::npos || equals == 0 || !axis)
      throw_input_error("--batch-axis as NAME=AXIS", fmt::format("'{}'", text), "write x=1");
    if (!result.emplace(text.substr(0, equals), *axis).second)
      throw_input_error("each name once in --batch-axis", fmt::format("'{}' twice", text.substr(0, equals)),
                        "omit one");
  }
  return result;
}

void add_model(CLI::App& command, std::string& model) {
  command.add_option("model", model)->required()->type_name("MODEL.onnx");
}

std::uint64_t file_bytes(const std::string& path) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<std::uint64_t>(bytes);
}

std::string describe_precision(DType taken, Precision asked, const Capabilities& capabilities,
                               const std::string& reason) {
  const std::string_view name = precision_name(taken);
  if (asked == Precision::automatic)
    return fmt::format("{}, chosen by auto: {}", name, reason.empty() ? capabilities.auto_reason : reason);
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
