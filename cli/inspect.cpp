// halfstep inspect: a model's contents, its trainable parameters, and how a device would run it.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/path_state.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/json_table.h"
#include "cli/memory_report.h"
#include "cli/parameter_report.h"
#include "cli/step_flags.h"
#include "graph/pages.h"
#include "onnx_io/outline.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save_lazy.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/example_data.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

/// If no flag sets the precision or the batch, they are those of run, or with --training those of train.
struct InspectFlags : StepFlags {
  std::string model;
  ExecutorFlags executor;
  std::string training;          // data of a training step to plan; empty: inference
  std::string described_device;  // file; empty: the one that is there
  std::vector<std::string> untie;
  bool parameters = false, plan = false, memory = false, json = false;
};

Json summary(const ModelOutline& outline) {
  Json json{{"inputs", Json::array()}, {"outputs", Json::array()}, {"operators", Json::object()}};
  const auto describe = [](const ModelOutline::Value& value) {
    return Json{{"name", value.name}, {"type", value.type}, {"shape", shape_json(value.shape)}};
  };
  for (const ModelOutline::Value& input : outline.inputs) json["inputs"].push_back(describe(input));
  for (const ModelOutline::Value& output : outline.outputs) json["outputs"].push_back(describe(output));
  for (const auto& [op, count] : outline.operators) json["operators"][op] = count;
  json["initializers"] = {{"tensors", outline.tensors}, {"elements", outline.elements}};
  return json;
}

/// The description of a model that cannot be loaded, with the reason.
Json summary_of_refused(const ModelOutline& outline) {
  Json json = summary(outline);
  json["unsupported"] = Json::array();
  for (const auto& [op, nodes] : outline.unsupported.nodes())
    json["unsupported"].push_back({{"domain", op.first.empty() ? "ai.onnx" : op.first},
                                   {"operator", op.second},
                                   {"count", nodes.size()},
                                   {"nodes", nodes}});
  return json;
}

Json describe(const Plan& plan) {
  Json json{{"arena_bytes", plan.arena_bytes},
            {"state_bytes", plan.state_bytes},
            {"notes", plan.notes},
            {"nodes", Json::array()}};
  for (const PlanEntry& entry : plan.entries)
    json["nodes"].push_back({{"node", entry.node},
                             {"op", entry.op},
                             {"kernel", entry.kernel},
                             {"reason", entry.reason},
                             {"scratch_bytes", entry.scratch_bytes}});
  return json;
}

/// The requested parts of a program: its plan and its memory.
struct Compiled {
  std::string precision;  // described
  std::int64_t batch;
  Json plan;
  std::optional<MemoryUse> memory;
  BesideProgram beside = {};
  std::optional<std::size_t> budget = {};  ///< what --memory-budget counts
};

Precision asked_precision(const InspectFlags& flags) {
  return flags.precision.value(flags.training.empty() ? Precision::fp32 : Precision::automatic);
}

/// For inference.
Compiled inference_program(const Graph& source, const InspectFlags& flags, Executor& executor) {
  const Precision asked = asked_precision(flags);
  const DType precision = resolve(asked, executor.capabilities());
  const PreparedModel prepared(source, {.batch_axes = flags.loss.batch_axis.value()});
  InputShapes shapes{.by_name = {}, .batch = flags.batch};
  if (const std::string fixed = take_batch(prepared.graph(), shapes); !fixed.empty()) print_message(fixed);
  const Graph graph =
      prepared.lower(Purpose::inference, {.shapes = shapes, .precision = precision}, executor.capabilities());
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  Compiled result{describe_precision(precision, asked, executor.capabilities()), shapes.batch,
                  describe(program->plan()), memory_of(*program)};
  if (flags.memory && result.memory) result.beside = measured_beside(*result.memory, 0, 0, 0, [&] { program->run(); });
  return result;
}

/// Moments are as large as their parameters.
std::size_t moments_of_heap(const MemoryUse& use, const LazyTensors& parameters) {
  double all = 0, of_heap = 0;
  for (const TensorInfo& type : parameters.types) {
    const std::size_t bytes = bytes_of(type.dtype, static_cast<std::size_t>(type.shape.count()));
    all += static_cast<double>(bytes);
    if (bytes < kPagesOfItsOwn) of_heap += static_cast<double>(bytes);
  }
  return all > 0 ? static_cast<std::size_t>(static_cast<double>(use.moments) * of_heap / all) : 0;
}

/// For a training step on data.
Compiled training_program(LoadedModel model, const InspectFlags& flags, Executor& executor) {
  const Dataset data = flags.loss.with_sample_weights(flags.rows.open(flags.training, Split::train, model.graph));
  TrainerOptions options = flags.options();
  options.steps = 1;
  Trainer trainer(model, executor, data, options);
  for (const std::string& notice : trainer.notices()) print_message(notice);
  // As training does: the trainer has the only copy of the parameters.
  const LazyTensors parameters = trainer.lazy_parameters();
  model.source = without_values(*model.source, parameters.types);
  model.graph = {};
  Compiled result{describe_precision(trainer.precision(), asked_precision(flags), executor.capabilities(),
                                     trainer.precision_reason()),
                  trainer.batch_size(), describe(trainer.plan()), trainer.memory()};
  if (!flags.memory || !result.memory) return result;
  const BesideStep counted = trainer.beside_step();
  result.budget = result.memory->total() + counted.total();
  result.beside =
      measured_beside(*result.memory, moments_of_heap(*result.memory, parameters),
                      bytes_to_save(*model.source, parameters), counted.read_ahead, [&] { trainer.fit({}); });
  return result;
}

/// Adds "plan" and "memory", if requested.
void add_program(Json& json, LoadedModel model, const InspectFlags& flags, Executor& executor) {
  const Compiled compiled = flags.training.empty() ? inference_program(model.graph, flags, executor)
                                                   : training_program(std::move(model), flags, executor);
  if (flags.plan) {
    json["plan"] = {{"executor", executor.name()}, {"precision", compiled.precision}, {"batch", compiled.batch}};
    json["plan"].update(compiled.plan);
  }
  if (!flags.memory) return;
  if (!compiled.memory)
    throw_input_error("an executor that reports the memory of its programs", std::string(executor.name()),
                      "omit --memory, or choose another with --executor");
  json["memory"] = {{"of", flags.training.empty() ? "inference" : "training step"},
                    {"precision", compiled.precision},
                    {"batch", compiled.batch}};
  json["memory"].update(memory_report(*compiled.memory, compiled.beside));
  if (compiled.budget) json["memory"]["budget_bytes"] = *compiled.budget;
  const auto peak = json["memory"]["peak_bytes"].get<std::int64_t>();
  if (flags.memory_budget > 0 && peak > static_cast<std::int64_t>(flags.memory_budget))
    print_message(fmt::format(
        "the predicted peak of {} bytes exceeds --memory-budget {}, which limits what a step takes: the data that is "
        "mapped or unpacked, and loading the model, are not counted",
        with_thousands(peak), with_thousands(static_cast<std::int64_t>(flags.memory_budget))));
}

void print_trainable(Json report) {
  constexpr std::size_t kUsesShown = 3;
  for (Json& row : report["parameters"]) {
    const auto uses = row["use"].get<std::vector<std::string>>();
    const std::size_t shown = std::min(uses.size(), kUsesShown);
    row["use"] = fmt::format("{}{}", fmt::join(uses.begin(), uses.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
                             uses.size() > shown ? fmt::format("; {} more", uses.size() - shown) : "");
  }
  print_out("trainable\n");
  print_table(report["parameters"], {"name", "type", "shape", "elements", "use"});
  // Numbers in formulas are Constant nodes of one element; models have many of them.
  Json listed = Json::array();
  std::size_t numbers = 0;
  for (const Json& row : report["not_trained"]) {
    if (row["stored_in"] == "Constant" && row["elements"] == 1)
      ++numbers;
    else
      listed.push_back(row);
  }
  if (!report["not_trained"].empty()) print_out("not trained\n");
  if (!listed.empty()) print_table(listed, {"name", "type", "shape", "reason"});
  if (numbers > 0) print_out("  numbers in Constant nodes: {} (--json lists them)\n", numbers);
  if (!report["blocked_by"].empty()) {
    print_out("operators without a gradient between parameters and outputs\n");
    print_table(report["blocked_by"], {"node", "op"});
  }
  if (!report["notes"].empty()) print_out("notes\n");
  for (const Json& note : report["notes"]) print_out("  {}\n", note.get<std::string>());
}

void print_plan(const Json& plan) {
  print_out("plan\n  executor {}, precision {}\n  batch {}, {} bytes for values, {} for states\n",
            plan["executor"].get<std::string>(), plan["precision"].get<std::string>(),
            plan["batch"].get<std::int64_t>(), with_thousands(plan["arena_bytes"].get<std::int64_t>()),
            with_thousands(plan["state_bytes"].get<std::int64_t>()));
  for (const Json& note : plan["notes"]) print_out("  {}\n", note.get<std::string>());
  print_table(plan["nodes"], {"node", "op", "kernel", "reason"});
}

void print_text(const Json& json) {
  for (const char* part : {"inputs", "outputs"}) {
    print_out("{}\n", part);
    print_table(json[part], {"name", "type", "shape"});
  }
  print_out("operators\n");
  for (const auto& [op, count] : json["operators"].items()) print_out("  {:>4} {}\n", count.get<std::int64_t>(), op);
  print_out("initializers\n  {} tensors, {} elements\n", json["initializers"]["tensors"].get<std::int64_t>(),
            with_thousands(json["initializers"]["elements"].get<std::int64_t>()));
  if (json.contains("unsupported")) {
    print_out("not supported: halfstep cannot run or train this model\n");
    print_table(json["unsupported"], {"domain", "operator", "count"});
  }
  if (json.contains("trainable")) print_trainable(json["trainable"]);
  if (json.contains("plan")) print_plan(json["plan"]);
  if (json.contains("memory")) print_memory(json["memory"]);
}

void print(const Json& json, const InspectFlags& flags) {
  if (flags.json) {
    print_json(json);
  } else {
    print_text(json);
  }
}

std::optional<ModelOutline> outline_if_any(const std::string& model) {
  try {
    return outline_of(model);
  } catch (const Error&) {
    return {};
  }
}

/// Loads the model. A model with unsupported operators is described as far as possible, and not loaded; if the flags
/// request more than a description, Error is thrown.
std::optional<LoadedModel> load_or_describe(const InspectFlags& flags) {
  try {
    return load_model(flags.model);
  } catch (const Error& error) {
    const std::optional<ModelOutline> outline = outline_if_any(flags.model);
    if (!outline || outline->unsupported.empty()) throw;
    const bool wants_more = flags.parameters || flags.plan || flags.memory || !flags.untie.empty();
    Json json = summary_of_refused(*outline);
    if (wants_more && flags.json) json["error"] = error_json(error);
    print(json, flags);
    std::fflush(stdout);
    if (wants_more) throw;
    return {};
  }
}

std::unique_ptr<Executor> open_executor(const InspectFlags& flags) {
  if (flags.described_device.empty()) return flags.executor.open();
  const std::filesystem::path path = flags.described_device;
  if (!is_there(path)) throw_input_error("a file for --describe-device", why_not_there(path), "check the path");
  if (std::filesystem::is_directory(path))
    throw_input_error("a file for --describe-device", "the folder " + path.string(), "name a file in it");
  std::ifstream file(path, std::ios::binary);
  const std::string description{std::istreambuf_iterator<char>(file), {}};
  return make_described_executor(flags.executor.executor, flags.executor.plugin, description, flags.executor.options());
}

void inspect(InspectFlags flags) {
  if (flags.batch == 0) flags.batch = flags.training.empty() ? 1 : StepFlags().batch;
  if (!flags.described_device.empty() && !flags.plan)
    throw_input_error("--plan with --describe-device", "none", "add --plan");
  if (!flags.training.empty() && !flags.plan && !flags.memory)
    throw_input_error("--plan or --memory with --training", "none", "add --plan or --memory");
  for (const auto& [flag, patterns] :
       {std::pair("--freeze", &flags.freeze), std::pair("--trainable", &flags.trainable)})
    if (!patterns->empty() && !flags.parameters && flags.training.empty())
      throw_input_error(fmt::format("--parameters or --training with {}", flag), "none", "add --parameters");
  if (!flags.executor.device.empty() && !flags.plan && !flags.memory)
    throw_input_error("--plan or --memory with --device", "none", "add --plan");
  if (const std::string flag = flags.executor.changed_arithmetic(); !flag.empty() && !flags.plan && !flags.memory)
    throw_input_error("--plan or --memory with " + flag, "none", "add --plan");
  // First: a plug-in may bring operators.
  const bool needs_executor = flags.plan || flags.memory || !flags.executor.plugin.empty();
  const auto executor = needs_executor ? open_executor(flags) : make_executor("reference", {});
  std::optional<LoadedModel> loaded = load_or_describe(flags);
  if (!loaded) return;
  LoadedModel model = untie_merged(*std::move(loaded), flags.untie);
  loaded.reset();
  Json json = summary(outline_of(model.graph));
  if (flags.parameters)
    json["trainable"] = parameter_report(model, {.freeze = flags.freeze, .trainable = flags.trainable}, flags.batch);
  if (flags.plan || flags.memory) add_program(json, std::move(model), flags, *executor);
  print(json, flags);
}

}  // namespace

void add_inspect(CLI::App& app, int&) {
  CLI::App* command = add_command(app, "inspect", "Prints a model's contents, parameters, kernels and memory.");
  command->footer("Example:\n  halfstep inspect model.onnx --parameters --plan");
  auto flags = std::make_shared<InspectFlags>();
  add_model(*command, flags->model);
  command->add_flag(
      "--parameters", flags->parameters,
      "trainable parameters, constants that are not trained with reasons, and operators that block gradients");
  command->add_option("--untie", flags->untie, "as in halfstep train")->delimiter(',')->type_name("all|PATTERN");
  command->add_flag("--plan", flags->plan,
                    "the kernel of every node with the reason; halfstep profile measures their times");
  command
      ->add_option("--describe-device", flags->described_device,
                   "--plan for the GPU that this file describes by its properties, as JSON from cuDNN")
      ->type_name("FILE.json");
  command->add_flag("--memory", flags->memory, "predicted peak memory in bytes, by category");
  command
      ->add_option("--training", flags->training,
                   "--plan and --memory for a training step on this data instead of inference")
      ->type_name("DATA");
  flags->batch = 0;
  flags->precision.name = "";
  flags->add_to(*command, command->get_option("--training"));
  for (const char* flag : {"--freeze", "--trainable"})  // --parameters has them, too
    command->get_option(flag)->remove_needs(command->get_option("--training"));
  command->get_option("--precision")->default_str("fp32; with --training auto");
  command->get_option("--batch")->default_str(fmt::format("1; with --training {}", StepFlags().batch));
  flags->executor.add_to(*command);
  flags->executor.add_arithmetic_to(*command);
  command->add_flag("--json", flags->json, "prints everything as JSON");
  command->callback([flags] { inspect(*flags); });
}

}  // namespace halfstep::cli
