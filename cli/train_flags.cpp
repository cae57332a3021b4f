#include "cli/train_flags.h"

#include <fmt/format.h>

#include "cli/validators.h"
#include <halfstep/base/error.h>
#include <halfstep/training/schedule.h>

namespace halfstep::cli {

void add_flags(CLI::App& command, TrainFlags& flags) {
  const CLI::Validator counting = cli::counting();

  add_model(command, flags.model);
  command.add_option("--data", flags.data, data_help())->required()->type_name("DATA");
  command
      .add_option("--val-data", flags.validation,
                  "validation data in the same form; from a folder or file with both the test part")
      ->type_name("DATA")
      ->check(not_empty());
  flags.augment.add_to(command);
  flags.StepFlags::add_to(command);
  command.add_option("--lr", flags.lr, "initial learning rate; for one_cycle the maximum")
      ->capture_default_str()
      ->check(number_in(0));
  command
      .add_option(
          "--lr-schedule", flags.schedule,
          "one of the following, all except one_cycle with [,warmup_steps=N] [,warmup_start=X]; steps are updates\n" +
              describe_schedules())
      ->capture_default_str()
      ->check(suggested(names_of(schedules())));
  command
      .add_option("--max-skipped", flags.max_skipped,
                  "consecutive skipped updates before training stops, in addition to those that reduce the loss scale")
      ->capture_default_str()
      ->check(signed_number());

  CLI::Option* epochs =
      command.add_option("--epochs", flags.epochs, "passes over the data")->capture_default_str()->check(counting);
  command.add_option("--steps", flags.steps, "total number of steps (batches)")->excludes(epochs)->check(counting);
  command.add_flag("--no-shuffle", flags.no_shuffle, "keeps the order of rows");
  command.add_option("--seed", flags.seed, "seed of shuffling, dropout and random operators")
      ->capture_default_str()
      ->check(whole_number());

  command
      .add_option("--untie", flags.untie,
                  "name patterns of parameters to separate that the exporter merged because they were equal; or all")
      ->delimiter(',')
      ->type_name("all|PATTERN");
  flags.executor.add_to(command);
  flags.executor.add_arithmetic_to(command);
  flags.ranks.add_to(command);
  command.add_flag("--sharded-optimizer", flags.sharded_optimizer,
                   "each rank updates a part of the parameters, and stores the moments of only that part");
  command
      .add_option("--gradient-precision", flags.gradient_precision,
                  "precision in which gradients are summed over ranks; the rounding error of bf16 and fp16 is added to "
                  "the next gradients")
      ->capture_default_str()
      ->check(one_of({"fp32", "bf16", "fp16"}));

  command
      .add_option("--early-stopping", flags.early_stopping,
                  "stops after this number of consecutive epochs without a better --watch; the best epoch is written, "
                  "also if the run ends before")
      ->check(counting)
      ->type_name("N");
  command
      .add_option("--watch", flags.watch,
                  "the quantity for --early-stopping: loss or a metric, of the validation data if there is any")
      ->needs(command.get_option("--early-stopping"))
      ->type_name("WHAT");
  command
      .add_option("--average", flags.average,
                  "decay of an exponential moving average of the parameters, which is written instead of them; 0: none")
      ->excludes(command.get_option("--early-stopping"))
      ->type_name("X")
      ->check(number());
  command.add_option("--checkpoint", flags.checkpoint, "folder for checkpoints (default: that of --resume)")
      ->type_name("DIR")
      ->check(not_empty());
  command.add_option("--checkpoint-every", flags.checkpoint_every, "steps between checkpoints (default: an epoch)")
      ->check(counting);
  command.add_option("--resume", flags.resume, "continues from the checkpoint in this folder")
      ->type_name("DIR")
      ->check(not_empty());
  command.add_option("--log", flags.log, "writes one JSON object for each step and each epoch")
      ->type_name("FILE.jsonl")
      ->check(not_empty());
  command.add_flag("--log-grad-norms", flags.log_grad_norms, "adds the gradient norm of every parameter to --log")
      ->needs(command.get_option("--log"));
  CLI::Option* tensorboard =
      command.add_option("--tensorboard", flags.events, "writes events for TensorBoard into this folder")
          ->type_name("DIR")
          ->check(not_empty());
  command
      .add_option("--tensorboard-histograms", flags.histogram_every,
                  "adds a histogram of every parameter, once in this number of steps")
      ->needs(tensorboard)
      ->check(counting);
  command.add_option("--curve", flags.curve, "writes a plot of loss and metrics")
      ->type_name("FILE.svg")
      ->check(not_empty());
  command.add_option("--dump-passes", flags.dump_passes, "writes the model after every pass into this folder")
      ->type_name("DIR")
      ->check(not_empty());
  command.add_option("-o,--output", flags.output, "writes the trained model; without this flag it is not saved")
      ->type_name("TRAINED.onnx")
      ->check(not_empty());
  command.add_option("--fp16-output", flags.fp16_output, "also writes the trained model in fp16")
      ->type_name("FILE.onnx")
      ->check(not_empty());
  command
      .add_option("--output-form", flags.output_form, "inference, or training (BatchNormalization and Dropout kept)")
      ->capture_default_str()
      ->check(one_of({"inference", "training"}));
  command
      .add_option("--save-config", flags.save_config,
                  "writes the flags of this run, for --config; none: nowhere (default: TRAINED.toml beside -o "
                  "TRAINED.onnx, else run.toml beside the checkpoint)")
      ->type_name("FILE.toml")
      ->check(not_empty());
  command.add_flag("--json", flags.json, "prints the result as JSON, and everything else on standard error");
}

TrainerOptions trainer_options(const TrainFlags& flags) {
  TrainerOptions options = flags.options();
  options.schedule = parse_schedule(flags.schedule, flags.lr);
  options.max_skipped_in_a_row = flags.max_skipped;
  options.epochs = flags.epochs;
  options.steps = flags.steps;
  options.shuffle = !flags.no_shuffle;
  options.seed = flags.seed;
  // A resumed run continues to save checkpoints in the same folder.
  options.checkpoint = flags.checkpoint.empty() ? flags.resume : flags.checkpoint;
  options.checkpoint_every = flags.checkpoint_every;
  if (options.checkpoint.empty() && options.checkpoint_every > 0)
    throw_input_error("--checkpoint or --resume with --checkpoint-every", "neither", "name a folder for checkpoints");
  options.resume = flags.resume;
  options.log_grad_norms = flags.log_grad_norms;
  options.bucket_bytes = flags.ranks.bucket_bytes();
  options.sync_batchnorm = flags.ranks.sync_batchnorm;
  options.sharded_optimizer = flags.sharded_optimizer;
  options.gradient_dtype = resolve(parse_precision(flags.gradient_precision), {});
  options.settings["--fp32-math"] = flags.executor.fp32_math;
  options.settings["--deterministic"] = flags.executor.deterministic;
  if (flags.early_stopping) options.settings["--early-stopping"] = fmt::format("{}", *flags.early_stopping);
  if (flags.average != 0) options.settings["--average"] = fmt::format("{}", flags.average);
  check(options);
  return options;
}

}  // namespace halfstep::cli
