// Code shared by several subcommands: flags and their meaning, messages for users.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>

#include "base/print.h"
#include "cli/image_flags.h"
#include "cli/validators.h"
#include <halfstep/base/error.h>
#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/executors/executor.h>
#include <halfstep/training/options.h>

namespace halfstep::cli {

/// --executor, --device, --threads, --plugin.
struct ExecutorFlags {
  std::string executor = "auto";
  std::string device;
  std::string plugin;
  int threads = 0;
  std::string fp32_math{name_of(Fp32Math::strict)};
  std::string tuning{name_of(Tuning::off)};
  std::string deterministic = "on";

  void add_to(CLI::App& command);
  /// --fp32-math, --tune and --deterministic, for commands that do not require exact results.
  void add_arithmetic_to(CLI::App& command);
  /// Throws Error for an unknown --fp32-math.
  ExecutorOptions options() const;
  /// The first flag of add_arithmetic_to that has another value than its default; empty: none has.
  std::string changed_arithmetic() const;
  /// "" unless products of f32 tensors are computed in a lower precision by --fp32-math: what to add to a precision.
  std::string lower_math(DType precision, const Executor& opened) const;
  /// The executor asked for; says on stderr where `auto` passes over a GPU, and which flags have no effect.
  std::unique_ptr<Executor> open() const;
};

/// --precision. The default is the environment variable HALFSTEP_PRECISION, or else the value of `name`: auto for
/// training, fp32 for inference, so that outputs agree with those of other runtimes; empty for commands that may do
/// both.
struct PrecisionFlag {
  std::string name = "auto";

  /// `trains`: the command makes training steps, and has --tune.
  CLI::Option* add_to(CLI::App& command, bool trains = false);
  /// `otherwise` if neither the flag nor the environment sets it.
  Precision value(Precision otherwise = Precision::automatic) const;
};

/// --memory-budget.
void add_memory_budget(CLI::App& command, std::size_t& bytes);

/// Help text of --data.
std::string data_help();

/// The conversion of a data set's rows to inputs: --scale, --mean, --std, --layout, --label-column, --classes,
/// --max-unpacked, --image-size, --image-crop.
struct DataFlags {
  std::string scale;
  std::vector<double> mean, stddev;
  std::string layout = "auto";
  std::string label_column;
  std::vector<std::string> classes;
  ImageFlags images;

  void add_to(CLI::App& command);
  /// Those that apply without labels: all but --label-column, --classes and those of images.
  void add_input_to(CLI::App& command);
  InputOptions input() const;
  /// Prints choices made by heuristics on stderr. Images are converted to the model's input. Classes with names in
  /// `like` keep their numbers.
  Dataset open(const std::string& data, Split split, const Graph& model, const Dataset* like = nullptr,
               const AugmentFlag& augment = {"none"}) const;

 private:
  /// Throws Error(input) for a flag that data of this format has no use for.
  void require_effect(const DataFormat* format) const;
};

/// --batch-axis.
struct BatchAxisFlag {
  std::vector<std::string> axes;

  void add_to(CLI::App& command);
  std::map<std::string, std::int64_t> value() const;
};

/// The names in the rows of a table.
template <class Rows>
std::vector<std::string> names_of(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.emplace_back(row.name);
  return names;
}

/// Adds the positional argument MODEL.onnx.
void add_model(CLI::App& command, std::string& model);

/// The size of the file at `path` in bytes, 0 if unknown: an estimate of the size of a model written from it.
std::uint64_t file_bytes(const std::string& path);

/// "bf16, chosen by auto: <the reason>" for a precision used on an executor; mentions a faster one, if any. `reason`:
/// of a Trainer; empty: the device's.
std::string describe_precision(DType taken, Precision asked, const Capabilities& capabilities,
                               const std::string& reason = {});

/// "60,000"
std::string with_thousands(std::int64_t value);

/// Prints a notice on stderr: "halfstep: TEXT". Never throws, even if stderr fails.
void print_message(std::string_view text) noexcept;
/// From now on print_message prints nothing: another process tells the same.
void mute_messages() noexcept;
/// What went wrong, on stderr: "halfstep: error: TEXT". Never throws either.
void print_error(std::string_view text) noexcept;
void print_error(const Error& error) noexcept;

/// During its lifetime, human-readable text for standard output goes to standard error: with --json a command prints
/// exactly one object on standard output. Does nothing unless `json`.
class PeopleOnStderr {
 public:
  explicit PeopleOnStderr(bool json);
  ~PeopleOnStderr();
  PeopleOnStderr(const PeopleOnStderr&) = delete;
  PeopleOnStderr& operator=(const PeopleOnStderr&) = delete;

 private:
  int output_ = -1;  // the original standard output
};

/// Prints the single document of a call with --json on standard output, in the form of `json_text`. Numbers that JSON
/// lacks become the strings "NaN", "Infinity" and "-Infinity", as in the log.
void print_json(nlohmann::ordered_json json);
/// Whether `print_json` was called.
bool json_was_printed();
/// The member "error" of such a document.
nlohmann::ordered_json error_json(const Error& error);

/// Prints results to stdout, as `print_to` does.
template <class... Args>
void print_out(fmt::format_string<halfstep::detail::Shown<Args>...> format, const Args&... args) {
  print_to(stdout, format, args...);
}

}  // namespace halfstep::cli
