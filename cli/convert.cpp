// halfstep convert: converts a model's weights and computation to half precision.
#include <chrono>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/model_inputs.h"
#include "cli/output_paths.h"
#include "cli/signals.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/calibrate.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep::cli {
namespace {

struct ConvertFlags {
  std::string model, output, precision;
  std::string config;         // the file that flags were read from
  std::string keep_io_types;  // "" without the flag, "true" without names
  std::string keep_f32, force_half;
  std::vector<std::string> calibrate, verify, reports;
  std::optional<double> max_error;
  std::string external_data = "auto", functions = "inline", metadata = "keep";
  bool dry_run = false, json = false;
  DataFlags rows;
  ExecutorFlags executor;
};

const std::map<std::string, ExternalData> kExternalData = {
    {"auto", ExternalData::automatic}, {"always", ExternalData::always}, {"never", ExternalData::never}};

bool is_html(const std::string& report) { return report.ends_with(".html"); }

std::vector<OutputPath> outputs_of(const ConvertFlags& flags) {
  std::vector<OutputPath> outputs;
  for (const std::string& report : flags.reports) outputs.push_back({"--report", report});
  outputs.push_back({"--output", flags.dry_run ? "" : flags.output});
  return outputs;
}

void check_flags(const ConvertFlags& flags) {
  if (flags.output.empty() && !flags.dry_run)
    throw_input_error("a path for the converted model", "none", "add -o OUT.onnx, or --dry-run to write nothing");
  if (flags.max_error && flags.calibrate.empty())
    throw_input_error("data with which --max-error measures", "none", "add --calibrate X.npy");
  for (const std::string& report : flags.reports) {
    if (!is_html(report) && !report.ends_with(".json"))
      throw_input_error("a report whose name ends in .json or .html", "'" + report + "'", "rename it");
    check_writable(report);
  }
  if (!flags.dry_run) check_output_path(flags.output, file_bytes(flags.model) / 2);
  std::vector<std::filesystem::path> inputs = input_files(flags.calibrate);
  for (std::filesystem::path& path : input_files(flags.verify)) inputs.push_back(std::move(path));
  if (!flags.config.empty()) inputs.emplace_back(flags.config);
  inputs.emplace_back(flags.model);  // converting in place would lose the f32 weights
  check_distinct(outputs_of(flags), inputs);
}

ConvertOptions convert_options(const ConvertFlags& flags) {
  ConvertOptions options;
  options.half = flags.precision == "bf16" ? DType::bf16 : DType::f16;
  options.keep_io_types = flags.keep_io_types == "true";
  if (!options.keep_io_types && !flags.keep_io_types.empty())
    options.keep_io_names = CLI::detail::split(flags.keep_io_types, ',');
  if (!flags.keep_f32.empty()) options.keep_f32 = parse_node_patterns(flags.keep_f32);
  if (!flags.force_half.empty()) options.force_half = parse_node_patterns(flags.force_half);
  options.keep_functions = flags.functions == "keep";
  options.keep_metadata = flags.metadata == "keep";
  return options;
}

Conversion search(const ConvertFlags& flags, const ModelFile& model, const ConvertOptions& options,
                  const NamedTensors& inputs, Executor& executor) {
  SearchOptions search{.max_error = *flags.max_error, .stop = &StopOnSignal::requested};
  search.on_trial = [](int trial, int kept, int candidates, double error) {
    print_message(
        fmt::format("trial {}: {} of {} half nodes kept in f32, error {:.3g}", trial, kept, candidates, error));
  };
  const StopOnSignal stop;
  const SearchResult result = search_precision(model, options, inputs, executor, search);
  print_out("error {:.3g} after {} trial{}, with {} nodes kept in f32{}{}\n", result.error, result.trials,
            result.trials == 1 ? "" : "s", result.kept.size(), result.kept.empty() ? "" : ": " + joined(result.kept),
            result.complete ? "" : " (stopped: fewer may suffice)");
  return result.conversion;
}

void print_report(const ConvertFlags& flags, const ConversionReport& report, double seconds, bool fails) {
  for (const std::string& warning : report.warnings) print_message("warning: " + warning);
  for (const std::string& note : report.notes) print_out("{}\n", note);
  print_out("{} nodes in {}, {} in f32, {} casts ({} in the source)\n", report.half_nodes(), name_of(report.half),
            report.f32_nodes(), report.casts_after, report.casts_before);
  for (const OutputError& error : report.errors)
    print_out("'{}': largest error {:.3g}, {:.3g} of the largest value{}\n", error.name, error.max_error,
              error.relative(),
              error.non_finite > 0 ? fmt::format(", {} elements infinite or NaN", error.non_finite) : "");
  print_out("{} {} bytes, from {}, in {:.4f} s\n", flags.dry_run || fails ? "would be about" : flags.output + ":",
            with_thousands(static_cast<std::int64_t>(report.bytes_after)),
            with_thousands(static_cast<std::int64_t>(report.bytes_before)), seconds);
}

/// The exit code: not 0 if a signal ended the search early; the result is then the best one so far.
int convert_file(const ConvertFlags& flags) {
  check_flags(flags);
  std::optional<PeopleOnStderr> people(flags.json);
  load_schemas();
  const auto start = std::chrono::steady_clock::now();
  ConvertOptions options = convert_options(flags);
  const ModelFile model = ModelFile::open(flags.model);
  check_distinct(outputs_of(flags), model.data_files());
  NamedTensors calibration, verification;
  std::unique_ptr<Executor> executor;
  if (!flags.calibrate.empty() || !flags.verify.empty()) {
    executor = flags.executor.open();  // first, because a plug-in may define operators
    const Graph graph = load_model(flags.model).graph;
    if (!flags.calibrate.empty()) calibration = read_inputs(graph, flags.calibrate, flags.rows.input());
    if (!flags.verify.empty()) verification = read_inputs(graph, flags.verify, flags.rows.input());
  }
  if (!calibration.empty()) options.measured = measure_ranges(model, calibration, *executor);
  const Conversion conversion =
      flags.max_error ? search(flags, model, options, calibration, *executor) : convert(model, options);
  ConversionReport report = conversion.report();
  if (!verification.empty()) report.errors = compare_outputs(model, conversion, verification, *executor);
  const std::vector<std::string> overflowing = report.overflowing_outputs();
  const bool fails = !overflowing.empty();
  if (!flags.dry_run && !fails)
    report.bytes_after = conversion.save(flags.output, kExternalData.at(flags.external_data));
  for (const std::string& path : flags.reports)
    write_atomically(path, is_html(path) ? report_html(report) : report_json(report));
  print_report(flags, report, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), fails);
  std::optional<Error> failure;
  if (fails)
    failure = Error(
        Error::Kind::failure, fmt::format("outputs that are finite in {} where they are in f32", name_of(report.half)),
        fmt::format("infinite or NaN elements in '{}'; no model was written", fmt::join(overflowing, "', '")),
        "calibrate with this data (--calibrate X), keep the outputs fp32 (--keep-io-types), or use bf16");
  people.reset();
  if (flags.json) {
    auto json = nlohmann::ordered_json::parse(report_json(report));
    if (failure) json["error"] = error_json(*failure);
    print_json(std::move(json));
  }
  if (failure) throw Error(*failure);
  return flags.max_error && StopOnSignal::requested ? StopOnSignal::exit_code() : 0;
}

}  // namespace

void add_convert(CLI::App& app, int& exit_code) {
  CLI::App* command = add_command(app, "convert", "Converts weights and computation of a model to fp16 or bf16.");
  command->footer(R"(Example:
  halfstep convert model.onnx -o half.onnx --precision fp16 --keep-io-types \
    --verify x.npy)");
  auto flags = std::make_shared<ConvertFlags>();
  add_model(*command, flags->model);
  command->add_option("-o,--output", flags->output, "writes the converted model")->type_name("OUT.onnx");
  command->add_option("--precision", flags->precision, "fp16 or bf16")->required()->check(one_of({"fp16", "bf16"}));
  command
      ->add_flag("--keep-io-types", flags->keep_io_types,
                 "inputs and outputs stay fp32; --keep-io-types=NAME,NAME: only these")
      ->type_name("NAME[,NAME...]");
  command->add_option("--keep-fp32", flags->keep_f32, "nodes that stay fp32: op:Softmax,node:REGEX")
      ->type_name("NODES");
  command->add_option("--force-half", flags->force_half, "nodes that become half regardless of their ranges")
      ->type_name("NODES");
  command
      ->add_option("--calibrate", flags->calibrate,
                   "inputs (as for halfstep run) for measuring activations: nodes out of the range of fp16 stay fp32")
      ->allow_extra_args(false)
      ->type_name("[NAME=]FILE");
  command
      ->add_option("--max-error", flags->max_error,
                   "maximum error of an output relative to its largest value; keeps as few nodes in fp32 as necessary "
                   "(needs --calibrate)")
      ->check(positive_number())
      ->type_name("X");
  command
      ->add_option("--verify", flags->verify,
                   "inputs for comparing the outputs of both models; fails if one becomes infinite or NaN")
      ->allow_extra_args(false)
      ->type_name("[NAME=]FILE");
  command->add_option("--external-data", flags->external_data, "tensors in a second file: auto, always or never")
      ->capture_default_str()
      ->check(one_of({"auto", "always", "never"}));
  command->add_option("--functions", flags->functions, "the model's local functions: inline, or keep (in fp32)")
      ->capture_default_str()
      ->check(one_of({"inline", "keep"}));
  command
      ->add_option("--metadata", flags->metadata,
                   "metadata of nodes and values from exporters (stack traces, doc strings): keep or drop")
      ->capture_default_str()
      ->check(one_of({"keep", "drop"}));
  command->add_option("--report", flags->reports, "report with decisions and reasons, as FILE.json or FILE.html")
      ->allow_extra_args(false)
      ->type_name("FILE");
  command->add_flag("--dry-run", flags->dry_run, "prints what would be done without writing a model");
  command->add_flag("--json", flags->json, "prints the report as JSON, and everything else on standard error");
  flags->rows.add_input_to(*command);
  flags->executor.add_to(*command);
  command->callback([flags, command, &exit_code] {
    flags->config = config_file_of(*command);
    exit_code = convert_file(*flags);
  });
}

}  // namespace halfstep::cli
