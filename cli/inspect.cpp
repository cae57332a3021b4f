// halfstep inspect: what is in a model, what can be trained in it, and how a device would run it.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "onnx_io/load.h"
#include "passes/pipelines.h"

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InspectFlags {
  std::string model;
  ExecutorFlags executor;
  PrecisionFlag precision;
  std::int64_t batch = 1;
  bool trainable = false, plan = false, json = false;
};

std::string full_name(const Node& node) { return node.domain.empty() ? node.op : node.domain + "." + node.op; }

Json describe(const Value& value) {
  return {{"name", value.name}, {"type", name_of(value.dtype)}, {"shape", value.shape.to_string()}};
}

Json summary(const Graph& graph) {
  Json json{{"inputs", Json::array()}, {"outputs", Json::array()}, {"operators", Json::object()}};
  for (const ValueId id : graph.inputs) json["inputs"].push_back(describe(graph[id]));
  for (const ValueId id : graph.outputs) json["outputs"].push_back(describe(graph[id]));
  std::map<std::string, std::int64_t> counts;
  for (const Node& node : graph.nodes) ++counts[full_name(node)];
  for (const auto& [op, count] : counts) json["operators"][op] = count;
  std::int64_t tensors = 0, elements = 0;
  for (const Value& value : graph.values) {
    if (!value.is_constant() || !value.is_initializer) continue;
    ++tensors;
    elements += value.constant.count();
  }
  json["initializers"] = {{"tensors", tensors}, {"elements", elements}};
  return json;
}

Json trainable_parameters(const Graph& source) {
  const Graph graph = run_pipeline(source, {separate_merged_parameters(), select_parameters()});
  Json json = Json::array();
  for (const State& state : graph.states) {
    if (state.role != StateRole::parameter) continue;
    json.push_back(describe(graph[state.value]));
    json.back()["elements"] = state.initial.count();
  }
  return json;
}

Json inference_plan(const Graph& source, const InspectFlags& flags) {
  const std::unique_ptr<Executor> executor = flags.executor.open();
  const Precision asked = flags.precision.value();
  const DType precision = resolve(asked, executor->capabilities());
  const Graph graph = run_pipeline(
      source, inference_pipeline({.by_name = {}, .batch = flags.batch}, precision, executor->capabilities()));
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = executor->compile(graph, *store);
  const Plan& plan = program->plan();
  Json json{{"executor", executor->name()},
            {"precision", describe_precision(precision, asked, executor->capabilities())},
            {"batch", flags.batch},
            {"arena_bytes", plan.arena_bytes},
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

/// Rows of the given members, in columns as wide as their widest cell.
void print_table(const Json& rows, const std::vector<std::string>& members) {
  std::vector<std::size_t> widths(members.size());
  const auto cell = [](const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); };
  for (std::size_t i = 0; i < members.size(); ++i) {
    widths[i] = members[i].size();
    for (const Json& row : rows) widths[i] = std::max(widths[i], cell(row[members[i]]).size());
  }
  const auto print_row = [&](const auto& text_of) {
    std::string line = " ";
    for (std::size_t i = 0; i < members.size(); ++i) line += fmt::format(" {:<{}} ", text_of(members[i]), widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  };
  print_row([](const std::string& member) { return member; });
  for (const Json& row : rows) print_row([&](const std::string& member) { return cell(row[member]); });
}

void print_text(const Json& json) {
  for (const char* part : {"inputs", "outputs"}) {
    fmt::print("{}\n", part);
    print_table(json[part], {"name", "type", "shape"});
  }
  fmt::print("operators\n");
  for (const auto& [op, count] : json["operators"].items()) fmt::print("  {:>4} {}\n", count.get<std::int64_t>(), op);
  fmt::print("initializers\n  {} tensors, {} elements\n", json["initializers"]["tensors"].get<std::int64_t>(),
             with_thousands(json["initializers"]["elements"].get<std::int64_t>()));
  if (json.contains("trainable")) {
    fmt::print("trainable\n");
    print_table(json["trainable"], {"name", "type", "shape", "elements"});
  }
  if (json.contains("plan")) {
    const Json& plan = json["plan"];
    fmt::print("plan\n  executor {}, precision {}\n  batch {}, {} bytes for values, {} for states\n",
               plan["executor"].get<std::string>(), plan["precision"].get<std::string>(),
               plan["batch"].get<std::int64_t>(), with_thousands(plan["arena_bytes"].get<std::int64_t>()),
               with_thousands(plan["state_bytes"].get<std::int64_t>()));
    for (const Json& note : plan["notes"]) fmt::print("  {}\n", note.get<std::string>());
    print_table(plan["nodes"], {"node", "op", "kernel", "reason"});
  }
}

void inspect(const InspectFlags& flags) {
  const LoadedModel model = load_model(flags.model);
  Json json = summary(model.graph);
  if (flags.trainable) json["trainable"] = trainable_parameters(model.graph);
  if (flags.plan) json["plan"] = inference_plan(model.graph, flags);
  if (flags.json) {
    // Names come from the file and may be no UTF-8.
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_text(json);
  }
}

}  // namespace

void add_inspect(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("inspect", "Prints what is in a model.");
  auto flags = std::make_shared<InspectFlags>();
  add_model(*command, flags->model);
  command->add_flag("--trainable", flags->trainable, "the parameters that training would change");
  command->add_flag("--plan", flags->plan, "the kernel of every node, and why");
  command->add_option("--batch", flags->batch, "rows the plan is for")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  flags->precision.add_to(*command);
  flags->executor.add_to(*command);
  command->add_flag("--json", flags->json, "as JSON");
  command->callback([flags] { inspect(*flags); });
}

}  // namespace halfstep::cli
