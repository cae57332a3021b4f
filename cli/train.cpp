// halfstep train: from a model and data to a trained model.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/new_folder.h"
#include "base/path_state.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/new_folders.h"
#include "cli/output_paths.h"
#include "cli/parameter_report.h"
#include "cli/ranks.h"
#include "cli/run_reporter.h"
#include "cli/signals.h"
#include "cli/train_flags.h"
#include "distributed/gather.h"
#include "distributed/topology.h"
#include "training/step_log.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save_lazy.h>
#include <halfstep/passes/pass.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/schedule.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

/// Writes each stage of the first pipeline that runs, that of the training step, as DIR/NN_pass.onnx.
PassObserver dump_to(const fs::path& folder) {
  make_folder(folder, "a folder for --dump-passes");
  return
      [folder, seen = std::set<std::size_t>()](std::size_t stage, const std::string& pass, const Graph& graph) mutable {
        if (!seen.insert(stage).second) return;
        save_model(graph, folder / fmt::format("{:02}_{}.onnx", stage, pass));
      };
}

/// Path of the file for the run's flags; empty: none. An existing file at a path that was not given by the user is only
/// replaced if it is such a file, and flags that no such file can hold are an error only for a path that was given.
std::string config_path(const TrainFlags& flags, const TrainerOptions& options, const CLI::App& command) {
  if (flags.save_config == "none") return {};
  if (!flags.save_config.empty()) {
    config_text(command);
    return flags.save_config;
  }
  fs::path path;
  if (!flags.output.empty())
    path = fs::path(flags.output).replace_extension(".toml");
  else if (!options.checkpoint.empty())
    path = options.checkpoint / "run.toml";
  if (path.empty() || path == flags.output) return {};
  try {
    config_text(command);
  } catch (const Error&) {
    print_message("the flags of this run will not be written: not all are in UTF-8, as TOML is (--save-config none)");
    return {};
  }
  if (!is_there(path)) return path.string();
  std::string line;
  std::getline(std::ifstream(path), line);
  if (line.starts_with(kConfigMark)) return path.string();
  print_message(
      fmt::format("the flags of this run will not be written: {} exists with other contents; --save-config FILE.toml "
                  "names another file",
                  path.string()));
  return {};
}

/// Checks, before the run starts, for everything that could fail after it.
void check_outputs(const TrainFlags& flags, const TrainerOptions& options, const LoadedModel& source,
                   const std::string& config, const std::string& read_config) {
  std::uint64_t model_bytes = file_bytes(flags.model);
  for (const fs::path& file : source.data_files) model_bytes += file_bytes(file.string());
  const auto check = [](const std::string& path, std::uint64_t bytes) {
    if (!path.empty()) check_output_path(path, bytes);
  };
  check(flags.output, model_bytes);
  check(flags.fp16_output, model_bytes / 2);
  check(flags.curve, 0);
  if (!flags.log.empty()) check_log_path(flags.log);
  if (!flags.events.empty()) prepare_event_folder(flags.events);
  std::vector<fs::path> data = files_of(parse_data_spec(flags.data));
  if (!flags.validation.empty())
    for (fs::path& path : files_of(parse_data_spec(flags.validation))) data.push_back(std::move(path));
  data.insert(data.end(), source.data_files.begin(), source.data_files.end());
  for (const std::string& file : {flags.loss.sample_weights, flags.loss.loss_model})
    if (!file.empty()) data.emplace_back(file);
  if (!flags.loss.loss_model.empty())
    for (const fs::path& path : load_model(flags.loss.loss_model).data_files) data.push_back(path);
  // A run with the flags of a file may write them to it again.
  if (!read_config.empty() && fs::path(read_config) != fs::path(config)) data.emplace_back(read_config);
  for (const fs::path& folder : {options.checkpoint, options.resume})
    if (!folder.empty())
      for (const char* name : {kCheckpointFile, kPreviousCheckpointFile}) data.push_back(folder / name);
  data.emplace_back(flags.model);  // it would be lost, even to a run that is stopped after a step
  check_distinct({{"--output", flags.output},
                  {"--fp16-output", flags.fp16_output},
                  {"--curve", flags.curve},
                  {"--log", flags.log},
                  {"--save-config", config}},
                 data);
  std::error_code ignored;
  if (!options.resume.empty() && !fs::is_directory(options.resume, ignored))
    throw_input_error(
        "a folder with a checkpoint for --resume",
        is_there(options.resume) ? "no folder at " + options.resume.string() : why_not_there(options.resume),
        "check the path");
  // A checkpoint holds the parameters and, with most optimizers, up to two moments of each; the best ones or the
  // average.
  const std::uint64_t copies = 3 + (flags.early_stopping || flags.average != 0);
  if (!options.checkpoint.empty()) prepare_checkpoint_directory(options.checkpoint, copies * model_bytes);
  check(config, 0);
}

void print_header(const TrainFlags& flags, const Trainer& trainer, const Executor& executor, const Dataset& data,
                  const Dataset* validation, const TrainerOptions& options) {
  std::vector<std::string> metrics;
  for (const Metric& metric : trainer.metrics()) metrics.push_back(metric.name());
  print_out("model      {}: {} parameters to train\n", flags.model, with_thousands(trainer.parameter_count()));
  print_out("data       {} rows{}\n", with_thousands(data.rows()),
            validation ? fmt::format(", {} for validation", with_thousands(validation->rows())) : "");
  print_out("executor   {} on {}\n", executor.name(), executor.capabilities().device);
  if (options.ranks)
    print_out("ranks      {} by {}, {} thread{} each, which share the {} rows of a batch\n", options.ranks->size(),
              options.ranks->name(), flags.executor.threads, flags.executor.threads == 1 ? "" : "s",
              with_thousands(options.batch_size));
  print_out("precision  {}{}\n",
            describe_precision(trainer.precision(), flags.precision.value(), executor.capabilities(),
                               trainer.precision_reason()),
            flags.executor.lower_math(trainer.precision(), executor));
  print_out("loss       {}{}\n", trainer.loss_text(),
            metrics.empty() ? "" : fmt::format(", metrics {}", fmt::join(metrics, ", ")));
  print_out("optimizer  {}, learning rate {} {}\n\n", options.optimizer.name, flags.lr, options.schedule.to_string());
  std::fflush(stdout);
}

void write_fp16(const LoadedModel& source, const NamedTensors& parameters, OutputForm form, const std::string& path) {
  // Tensors in bf16 in the source are not yet f16.
  const ModelFile trained = ModelFile::from_bytes(trained_model_bytes(*source.source, parameters, form, DType::bf16));
  convert(trained, {.half = DType::f16, .keep_io_types = true}).save(path);
}

/// If one file cannot be written, the others still are; then it throws.
void write_outputs(const TrainFlags& flags, const LoadedModel& source, const Trainer& trainer, RunReporter& reporter,
                   const std::string& config, const CLI::App& command) {
  const OutputForm form = flags.output_form == "training" ? OutputForm::training : OutputForm::inference;
  const LazyTensors parameters = trainer.lazy_parameters();
  std::optional<Error> failure;
  const auto write = [&](const char* what, const std::string& path, const auto& write_to) {
    if (path.empty()) return;
    try {
      write_to(path);
      print_out("{:<17} {}\n", what, fs::absolute(path).lexically_normal().string());
    } catch (const Error& error) {
      if (failure) print_error(*failure);
      failure = error;
    }
  };
  if (!flags.output.empty())
    for (const std::string& note : storage_notes(*source.source, parameters)) print_message(note);
  write("trained model", flags.output,
        [&](const std::string& path) { save_trained(*source.source, parameters, path, {.form = form}); });
  write("in fp16", flags.fp16_output,
        [&](const std::string& path) { write_fp16(source, trainer.parameters(), form, path); });
  write("training curve", flags.curve,
        [&](const std::string& path) { reporter.curve().write(path, fs::path(flags.model).stem().string()); });
  write("log", flags.log, [&](const std::string&) { reporter.close_log(); });
  write("flags", config, [&](const std::string& path) {
    const Links links = flags.save_config.empty() ? Links::replace : Links::follow;
    PendingFile(
        path, [&](FileWriter& file) { file.write(config_text(command)); }, {}, links)
        .place();
  });
  write("tensorboard", flags.events, [&](const std::string&) { reporter.close_events(); });
  if (failure) throw Error(*failure);
}

/// How a stopped run goes on. `config`: the file of its flags; empty: none.
std::string resume_command(const std::string& checkpoint, const std::string& config) {
  if (config.empty()) return fmt::format("the same flags and --resume {} continue from here", checkpoint);
  return fmt::format("halfstep train --config {} --resume {} continues from here", config, checkpoint);
}

/// A warning about a run without an output, while it can still be stopped.
void tell_missing_output(const TrainFlags& flags, const TrainerOptions& options) {
  if (!flags.output.empty() || !flags.fp16_output.empty()) return;
  print_message(options.checkpoint.empty()
                    ? "the trained model will not be written: -o TRAINED.onnx writes it"
                    : fmt::format("the trained model will only be in the checkpoint in {}: -o TRAINED.onnx writes it",
                                  options.checkpoint.string()));
}

nlohmann::ordered_json to_json(const std::vector<NamedValue>& values) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const NamedValue& value : values) json[std::string(value.name)] = value.value;
  return json;
}

nlohmann::ordered_json report(const TrainFlags& flags, const Trainer& trainer, const Executor& executor,
                              const RunReporter& reporter, const std::optional<Evaluation>& validation, bool finished) {
  nlohmann::ordered_json json{{"finished", finished},
                              {"steps", reporter.steps()},
                              {"parameters", trainer.parameter_count()},
                              {"last_epoch", to_json(reporter.last_epoch())}};
  if (validation) json["validation"] = to_json(named_values(*validation));
  json["loss_function"] = trainer.loss_text();
  json["executor"] = executor.name();
  json["precision"] = precision_name(trainer.precision());
  for (const auto& [name, path] : {std::pair("output", flags.output), std::pair("fp16_output", flags.fp16_output)})
    if (!path.empty()) json[name] = path;
  return json;
}

/// `ranks`: null for a run by itself. Rank 0 alone writes.
int train_on(const std::shared_ptr<Communicator>& ranks, TrainFlags flags, const CLI::App& command) {
  const bool writes = !ranks || ranks->rank() == 0;
  if (!writes) flags.output = flags.fp16_output = flags.log = flags.events = flags.curve = flags.dump_passes = "";
  if (!writes) flags.save_config = "none";
  std::optional<PeopleOnStderr> people(flags.json && writes);
  TrainerOptions options = trainer_options(flags);
  options.ranks = ranks;
  flags.executor.threads = share_cores(ranks.get(), flags.executor.threads);
  const std::unique_ptr<Executor> executor = flags.executor.open();  // first: a plug-in may bring operators
  LoadedModel source = untie_merged(load_model(flags.model), flags.untie);
  const Dataset data =
      flags.loss.with_sample_weights(flags.rows.open(flags.data, Split::train, source.graph, nullptr, flags.augment));
  std::optional<Dataset> validation;
  if (!flags.validation.empty()) validation = flags.rows.open(flags.validation, Split::test, source.graph, &data);
  if (ranks)
    require_same(*ranks, {{"rows of --val-data", validation ? fmt::format("{}", validation->rows()) : "none"},
                          {"--watch", flags.watch}});
  const std::string config = config_path(flags, options, command);
  NewFolders folders;
  if (writes) {
    for (const fs::path& folder : {options.checkpoint, fs::path(flags.events), fs::path(flags.dump_passes)})
      folders.expect(folder);
    check_outputs(flags, options, source, config, config_file_of(command));
  }
  if (!flags.dump_passes.empty()) options.observer = dump_to(flags.dump_passes);

  Trainer trainer(source, *executor, data, options);
  const LazyTensors parameters = trainer.lazy_parameters();
  std::vector<std::string> names;
  for (const TensorInfo& parameter : parameters.types) names.push_back(parameter.name);
  check_can_save(*source.source, names);

  const Dataset* held_out = validation ? &*validation : nullptr;
  print_header(flags, trainer, *executor, data, held_out, options);
  for (const std::string& note : exporter_notes(source)) print_message(note);
  source.source = without_values(*source.source, parameters.types);  // the trainer holds them
  source.graph = {};
  tell_missing_output(flags, options);
  RunReporter reporter(flags.steps == 0 ? flags.epochs : 0,
                       {.log = flags.log,
                        .events = flags.events,
                        .histogram_every = flags.histogram_every,
                        .parameters = [&trainer] { return trainer.parameters(); }},
                       trainer.metrics());
  const StopOnSignal stop;
  std::vector<TrainerCallbacks> callbacks{reporter.callbacks()};
  std::optional<EarlyStopping> stopping;
  if (flags.early_stopping) {
    stopping.emplace(trainer, EarlyStoppingOptions{.watch = {.what = flags.watch}, .patience = *flags.early_stopping});
    callbacks.push_back(stopping->callbacks());
  }
  std::optional<MovingAverage> average;
  if (flags.average != 0) callbacks.push_back(average.emplace(trainer, flags.average).callbacks());
  const bool finished = trainer.fit(combined(std::move(callbacks)), held_out, &StopOnSignal::requested);
  const bool is_best = finished && stopping && stopping->best_epoch() > 0;
  if (is_best)
    print_message(fmt::format("{}best {} in epoch {}, {:.6g}", trainer.control().stop ? "stopped early: " : "",
                              flags.watch, stopping->best_epoch(), stopping->best()));
  if (average && !average->parameters().empty()) trainer.set_parameters(average->parameters());
  const bool is_last = !average && !is_best;  // the written parameters were validated last
  if (!finished)
    print_out("\nstopped after step {}: {}\n", with_thousands(reporter.steps()),
              options.checkpoint.empty()
                  ? (flags.output.empty() && flags.fp16_output.empty() ? "nothing is saved without --checkpoint or -o"
                                                                       : "the model as trained so far follows")
                  : resume_command(options.checkpoint.string(), config));
  print_out("\n");
  std::optional<Error> failure = trainer.failure();
  std::optional<Evaluation> result;
  const auto evaluate = [&] {
    if (!finished || !held_out) return;
    try {
      result = reporter.validation() && is_last ? *reporter.validation() : trainer.evaluate(*held_out);
      print_out("validation       ");
      for (const NamedValue& value : named_values(*result)) print_out(" {} {:.6g}", value.name, value.value);
      print_out("{}\n", average ? " (of the average)" : is_best ? " (of the best epoch)" : "");
    } catch (const Error& error) {  // the trained model is written nevertheless
      if (ranks) throw;             // it is written already, and others wait for this one
      failure = error;
    }
  };
  if (!ranks) evaluate();
  try {
    write_outputs(flags, source, trainer, reporter, config, command);
  } catch (const Error& error) {
    if (failure) print_error(*failure);
    failure = error;
  }
  if (ranks) evaluate();
  people.reset();
  if (flags.json) {
    nlohmann::ordered_json json = report(flags, trainer, *executor, reporter, result, finished);
    if (failure) json["error"] = error_json(*failure);
    print_json(std::move(json));
  }
  // Rank 0 reports the failure after it has written what it can; the others wait for it at the end.
  if (failure && writes) throw Error(*failure);
  return failure ? 1 : finished ? 0 : StopOnSignal::exit_code();
}

int train(const TrainFlags& flags, const CLI::App& command) {
  const std::shared_ptr<Communicator> ranks = flags.ranks.open(flags.json, flags.executor.device);
  if (!ranks) return train_on(nullptr, flags, command);
  return on_rank(*ranks, flags.json, [&] { return train_on(ranks, flags, command); });
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  CLI::App* command = add_command(app, "train", "Trains a model on data and writes the trained model.");
  command->footer(R"(Example:
  halfstep train model.onnx --data x.npy,y.npy --val-data x_val.npy,y_val.npy \
    --epochs 5 -o trained.onnx)");
  auto flags = std::make_shared<TrainFlags>();
  add_flags(*command, *flags);
  command->callback([flags, command, &exit_code] { exit_code = train(*flags, *command); });
}

}  // namespace halfstep::cli
