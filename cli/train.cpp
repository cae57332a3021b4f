// halfstep train: from a model and data to a trained model.
#include <cstdio>
#include <filesystem>
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
#include "base/path_state.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/output_paths.h"
#include "cli/parameter_report.h"
#include "cli/run_reporter.h"
#include "cli/signals.h"
#include "training/step_log.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/pass.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/schedule.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

struct TrainFlags {
  std::string model, data, validation;
  ExecutorFlags executor;
  PrecisionFlag precision;
  DataFlags rows;
  LossFlags loss;
  TrainerOptions defaults;
  std::string optimizer = defaults.optimizer.name, schedule = defaults.schedule.to_string();
  double lr = defaults.schedule.base_lr;
  std::vector<std::optional<double>> numbers = std::vector<std::optional<double>>(optimizer_numbers().size());
  std::optional<double> loss_scale;
  std::int64_t epochs = defaults.epochs, steps = 0, batch = defaults.batch_size,
               max_skipped = defaults.max_skipped_in_a_row;
  bool no_shuffle = false, freeze_batchnorm = false, no_dropout = false, log_grad_norms = false;
  std::uint64_t seed = 0;
  std::vector<std::string> freeze, trainable, untie;
  std::string checkpoint, resume, log, curve, dump_passes;
  std::int64_t checkpoint_every = 0;
  std::string output, fp16_output, output_form = "inference";
  bool json = false;
};

std::string optimizer_names() {
  std::vector<std::string_view> names;
  for (const OptimizerDef& row : optimizers()) names.push_back(row.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

// A flag for each number of the optimizers, with the library's meaning and default.
void add_numbers(CLI::App& command, TrainFlags& flags) {
  for (std::size_t i = 0; i < flags.numbers.size(); ++i) {
    const OptimizerNumber& number = optimizer_numbers()[i];
    const std::string flag = fmt::format("--{}", number.name);
    if (number.is_switch) {
      command.add_flag_callback(
          flag, [&value = flags.numbers[i]] { value = 1; }, number.meaning);
      continue;
    }
    command.add_option(flag, flags.numbers[i], number.meaning)
        ->default_str(default_of(number))
        ->type_name(number.whole ? "INT" : "FLOAT")
        ->check(number_in(number.lowest, number.highest));
  }
}

void add_flags(CLI::App& command, TrainFlags& flags) {
  const CLI::Validator counting = cli::counting();

  add_model(command, flags.model);
  command.add_option("--data", flags.data, data_help())->required()->type_name("DATA");
  command.add_option("--val-data", flags.validation, "the same for validation; of a folder or .npz the test part")
      ->type_name("DATA")
      ->check(not_empty());
  flags.rows.add_to(command);
  flags.loss.add_to(command);

  command.add_option("--optimizer", flags.optimizer, optimizer_names())->capture_default_str();
  command
      .add_option("--lr", flags.lr,
                  "learning rate, of the first update where a schedule changes it; the highest of one_cycle")
      ->capture_default_str()
      ->check(number_in(0));
  command
      .add_option(
          "--lr-schedule", flags.schedule,
          "one of the following, all but one_cycle with [,warmup_steps=N] [,warmup_start=X]; steps are updates\n" +
              describe_schedules())
      ->capture_default_str();
  add_numbers(command, flags);
  command.add_option("--loss-scale", flags.loss_scale,
                     fmt::format("first loss scale; 0: off (default: fp16 {}, else off)", LossScaleOptions{}.initial));
  command
      .add_option("--max-skipped", flags.max_skipped,
                  "updates skipped in a row before training gives up, beside those that bring the loss scale down")
      ->capture_default_str();

  CLI::Option* epochs = command.add_option("--epochs", flags.epochs, "times that all rows are seen")
                            ->capture_default_str()
                            ->check(counting);
  command.add_option("--steps", flags.steps, "steps (batches) in all")->excludes(epochs)->check(counting);
  command.add_option("--batch", flags.batch, "rows of a step")->capture_default_str()->check(counting);
  command.add_flag("--no-shuffle", flags.no_shuffle, "rows in the order of the data");
  command.add_option("--seed", flags.seed, "seed of shuffling, dropout and random operators")
      ->capture_default_str()
      ->check(whole_number());

  command.add_option("--freeze", flags.freeze, "patterns of names (layer1.*) of constants that stay as they are")
      ->delimiter(',')
      ->type_name("PATTERN[,...]");
  command
      .add_option("--trainable", flags.trainable,
                  "name patterns of the only parameters to train; a full name adds what is taken for none")
      ->delimiter(',')
      ->type_name("PATTERN[,...]");
  command
      .add_option(
          "--untie", flags.untie,
          "name patterns of parameters that the exporter merged because they were equal, to be separated; or all")
      ->delimiter(',')
      ->type_name("all|PATTERN");
  command.add_flag("--freeze-batchnorm", flags.freeze_batchnorm,
                   "BatchNormalization normalizes by its running statistics, and keeps them");

  command.add_flag("--no-dropout", flags.no_dropout, "Dropout drops nothing");
  flags.precision.add_to(command);
  flags.executor.add_to(command);

  command.add_option("--checkpoint", flags.checkpoint, "folder for checkpoints (default: that of --resume)")
      ->type_name("DIR")
      ->check(not_empty());
  command.add_option("--checkpoint-every", flags.checkpoint_every, "steps from one to the next (default: an epoch)")
      ->check(counting);
  command.add_option("--resume", flags.resume, "go on from the checkpoint in this folder")
      ->type_name("DIR")
      ->check(not_empty());
  command.add_option("--log", flags.log, "writes one JSON object for each step and each epoch")
      ->type_name("FILE.jsonl")
      ->check(not_empty());
  command.add_flag("--log-grad-norms", flags.log_grad_norms, "has --log tell the gradient norm of every parameter");
  command.add_option("--curve", flags.curve, "writes a picture of loss and metrics")
      ->type_name("FILE.svg")
      ->check(not_empty());
  command.add_option("--dump-passes", flags.dump_passes, "writes the model after every pass")
      ->type_name("DIR")
      ->check(not_empty());
  command.add_option("-o,--output", flags.output, "writes the trained model; without it, it is lost")
      ->type_name("TRAINED.onnx")
      ->check(not_empty());
  command.add_option("--fp16-output", flags.fp16_output, "writes the trained model in fp16 as well")
      ->type_name("FILE.onnx")
      ->check(not_empty());
  command
      .add_option("--output-form", flags.output_form, "inference, or training (BatchNormalization and Dropout kept)")
      ->capture_default_str()
      ->check(one_of({"inference", "training"}));
  command.add_flag("--json", flags.json, "prints the result as JSON, and all else on standard error");
}

OptimizerOptions optimizer_options(const TrainFlags& flags) {
  OptimizerOptions options;
  options.name = optimizer_named(flags.optimizer).name;
  for (std::size_t i = 0; i < flags.numbers.size(); ++i)
    if (flags.numbers[i]) set_number(options, optimizer_numbers()[i], *flags.numbers[i]);
  return options;
}

/// Writes each stage of the first pipeline that runs, the training step's, as DIR/NN_pass.onnx.
PassObserver dump_to(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_failure("a folder for --dump-passes", folder.string() + ": " + error.message(), "choose another");
  return
      [folder, seen = std::set<std::size_t>()](std::size_t stage, const std::string& pass, const Graph& graph) mutable {
        if (!seen.insert(stage).second) return;
        save_model(graph, folder / fmt::format("{:02}_{}.onnx", stage, pass));
      };
}

TrainerOptions trainer_options(const TrainFlags& flags) {
  TrainerOptions options;
  flags.loss.apply(options);
  options.optimizer = optimizer_options(flags);
  options.schedule = parse_schedule(flags.schedule, flags.lr);
  options.precision = flags.precision.value();
  options.loss_scale = flags.loss_scale;
  options.parameters = {.freeze = flags.freeze, .trainable = flags.trainable};
  options.mode.train_batchnorm = !flags.freeze_batchnorm;
  options.mode.train_dropout = !flags.no_dropout;
  options.max_skipped_in_a_row = flags.max_skipped;
  options.epochs = flags.epochs;
  options.steps = flags.steps;
  options.batch_size = flags.batch;
  options.shuffle = !flags.no_shuffle;
  options.seed = flags.seed;
  options.input = flags.rows.input();
  // A resumed run goes on saving where its checkpoint lies.
  options.checkpoint = flags.checkpoint.empty() ? flags.resume : flags.checkpoint;
  options.checkpoint_every = flags.checkpoint_every;
  options.resume = flags.resume;
  options.log_grad_norms = flags.log_grad_norms;
  check(options);
  return options;
}

/// Everything that can be known to go wrong when the run is over, before it starts.
void check_outputs(const TrainFlags& flags, const TrainerOptions& options, const LoadedModel& source) {
  std::uint64_t model_bytes = file_bytes(flags.model);
  for (const fs::path& file : source.data_files) model_bytes += file_bytes(file.string());
  const auto check = [](const std::string& path, std::uint64_t bytes) {
    if (!path.empty()) check_output_path(path, bytes);
  };
  check(flags.output, model_bytes);
  check(flags.fp16_output, model_bytes / 2);
  check(flags.curve, 0);
  if (!flags.log.empty()) check_log_path(flags.log);
  std::vector<fs::path> data = files_of(parse_data_spec(flags.data));
  if (!flags.validation.empty())
    for (fs::path& path : files_of(parse_data_spec(flags.validation))) data.push_back(std::move(path));
  data.insert(data.end(), source.data_files.begin(), source.data_files.end());
  for (const fs::path& folder : {options.checkpoint, options.resume})
    if (!folder.empty())
      for (const char* name : {kCheckpointFile, kPreviousCheckpointFile}) data.push_back(folder / name);
  // A model may be trained in place.
  check_distinct({{"--output", flags.output},
                  {"--fp16-output", flags.fp16_output},
                  {"--curve", flags.curve},
                  {"--log", flags.log}},
                 data);
  check_distinct({{"--curve", flags.curve}, {"--log", flags.log}}, {flags.model});
  std::error_code ignored;
  if (!options.resume.empty() && !fs::is_directory(options.resume, ignored))
    throw_input_error(
        "a folder with a checkpoint for --resume",
        is_there(options.resume) ? "no folder at " + options.resume.string() : why_not_there(options.resume),
        "check the path");
  // A checkpoint holds the parameters and, with most optimizers, up to two moments of each.
  if (!options.checkpoint.empty()) prepare_checkpoint_directory(options.checkpoint, 3 * model_bytes);
}

void print_header(const TrainFlags& flags, const Trainer& trainer, const Executor& executor, const Dataset& data,
                  const Dataset* validation, const TrainerOptions& options) {
  std::vector<std::string> metrics;
  for (const Metric& metric : trainer.metrics()) metrics.push_back(metric.name());
  print_out("model      {}: {} parameters to train\n", flags.model, with_thousands(trainer.parameter_count()));
  print_out("data       {} rows{}\n", with_thousands(data.rows()),
            validation ? fmt::format(", {} for validation", with_thousands(validation->rows())) : "");
  print_out("executor   {} on {}\n", executor.name(), executor.capabilities().device);
  print_out("precision  {}\n",
            describe_precision(trainer.precision(), flags.precision.value(), executor.capabilities()));
  print_out("loss       {}{}\n", name_of(trainer.loss()),
            metrics.empty() ? "" : fmt::format(", metrics {}", fmt::join(metrics, ", ")));
  print_out("optimizer  {}, learning rate {} {}\n\n", options.optimizer.name, flags.lr, options.schedule.to_string());
  std::fflush(stdout);
}

void write_fp16(const LoadedModel& source, const NamedTensors& parameters, OutputForm form, const std::string& path) {
  // What a source has in bf16 is no f16 yet.
  const ModelFile trained = ModelFile::from_bytes(trained_model_bytes(*source.source, parameters, form, DType::bf16));
  convert(trained, {.half = DType::f16, .keep_io_types = true}).save(path);
}

/// Where one file cannot be written the others still are; then throws.
void write_outputs(const TrainFlags& flags, const LoadedModel& source, const Trainer& trainer, RunReporter& reporter) {
  const OutputForm form = flags.output_form == "training" ? OutputForm::training : OutputForm::inference;
  const NamedTensors parameters = trainer.parameters();
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
  write("in fp16", flags.fp16_output, [&](const std::string& path) { write_fp16(source, parameters, form, path); });
  write("training curve", flags.curve,
        [&](const std::string& path) { reporter.curve().write(path, fs::path(flags.model).stem().string()); });
  write("log", flags.log, [&](const std::string&) { reporter.close_log(); });
  if (failure) throw Error(*failure);
}

/// What a run without an output comes to, while there is time to stop it.
void tell_missing_output(const TrainFlags& flags, const TrainerOptions& options) {
  if (!flags.output.empty() || !flags.fp16_output.empty()) return;
  print_message(options.checkpoint.empty()
                    ? "the trained model will not be written: -o TRAINED.onnx does that"
                    : fmt::format("the trained model will be in the checkpoint in {} alone: -o TRAINED.onnx writes it",
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
  json["loss_function"] = name_of(trainer.loss());
  json["executor"] = executor.name();
  json["precision"] = name_of(trainer.precision());
  for (const auto& [name, path] : {std::pair("output", flags.output), std::pair("fp16_output", flags.fp16_output)})
    if (!path.empty()) json[name] = path;
  return json;
}

int train(const TrainFlags& flags) {
  std::optional<PeopleOnStderr> people(flags.json);
  TrainerOptions options = trainer_options(flags);
  const std::unique_ptr<Executor> executor = flags.executor.open();  // first: a plug-in may bring operators
  const LoadedModel source = untie_merged(load_model(flags.model), flags.untie);
  const Dataset data = flags.rows.open(flags.data, Split::train);
  std::optional<Dataset> validation;
  if (!flags.validation.empty()) validation = flags.rows.open(flags.validation, Split::test, &data);
  check_outputs(flags, options, source);
  if (!flags.dump_passes.empty()) options.observer = dump_to(flags.dump_passes);

  Trainer trainer(source, *executor, data, options);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : trainer.parameters()) names.push_back(name);
  check_can_save(*source.source, names);

  const Dataset* held_out = validation ? &*validation : nullptr;
  print_header(flags, trainer, *executor, data, held_out, options);
  for (const std::string& note : exporter_notes(source)) print_message(note);
  tell_missing_output(flags, options);
  RunReporter reporter(flags.steps == 0 ? flags.epochs : 0, flags.log, trainer.metrics());
  const StopOnSignal stop;
  const bool finished = trainer.fit(reporter.callbacks(), held_out, &StopOnSignal::requested);
  if (!finished)
    print_out("\nstopped after step {}: {}\n", with_thousands(reporter.steps()),
              options.checkpoint.empty()
                  ? (flags.output.empty() && flags.fp16_output.empty() ? "nothing is kept without --checkpoint and -o"
                                                                       : "what follows is the model as trained so far")
                  : fmt::format("--resume {} goes on from here", options.checkpoint.string()));
  print_out("\n");
  std::optional<Error> failure = trainer.failure();
  std::optional<Evaluation> result;
  if (finished && held_out) try {
      result = reporter.validation() ? *reporter.validation() : trainer.evaluate(*held_out);
      print_out("validation       ");
      for (const NamedValue& value : named_values(*result)) print_out(" {} {:.6g}", value.name, value.value);
      print_out("\n");
    } catch (const Error& error) {  // what was trained is written all the same
      failure = error;
    }
  try {
    write_outputs(flags, source, trainer, reporter);
  } catch (const Error&) {
    if (failure) print_error(*failure);
    throw;
  }
  if (failure) throw Error(*failure);
  people.reset();
  if (flags.json) print_json(report(flags, trainer, *executor, reporter, result, finished));
  return finished ? 0 : StopOnSignal::exit_code();
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("train", "Trains a model on data and writes the trained model.");
  command->footer(R"(Example:
  halfstep train model.onnx --data x.npy,y.npy --val-data x_val.npy,y_val.npy \
    --epochs 5 -o trained.onnx)");
  auto flags = std::make_shared<TrainFlags>();
  add_flags(*command, *flags);
  command->callback([flags, &exit_code] { exit_code = train(*flags); });
}

}  // namespace halfstep::cli
