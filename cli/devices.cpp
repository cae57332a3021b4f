// halfstep devices: what was found on this machine, and what `auto` takes.
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "executors/registry.h"
#include "training/options.h"

namespace halfstep::cli {
namespace {

void print_text(const std::vector<ExecutorStatus>& statuses) {
  for (const ExecutorStatus& status : statuses) {
    const Capabilities& found = status.capabilities;
    if (!status.available) {
      fmt::print("{:<10} not available: {}\n", status.name, status.reason);
      continue;
    }
    fmt::print("{:<10} {}\n", status.name, found.device);
    fmt::print("{:<10} features: {}\n", "",
               found.features.empty() ? "none" : fmt::format("{}", fmt::join(found.features, ", ")));
    if (found.memory) fmt::print("{:<10} memory: {:.1f} GiB\n", "", static_cast<double>(found.memory) / (1 << 30));
    fmt::print("{:<10} --precision auto takes {}: {}\n", "", precision_name(found.auto_precision), found.auto_reason);
  }
}

nlohmann::ordered_json to_json(const ExecutorStatus& status) {
  nlohmann::ordered_json json{{"name", status.name}, {"available", status.available}};
  if (!status.available) {
    json["reason"] = status.reason;
    return json;
  }
  const Capabilities& found = status.capabilities;
  json["device"] = found.device;
  json["features"] = found.features;
  json["memory_bytes"] = found.memory;
  json["native"] = nlohmann::ordered_json::object();
  for (const auto& [op_class, dtype] : found.native)
    json["native"][std::string(name_of(op_class))].push_back(name_of(dtype));
  json["auto_precision"] = name_of(found.auto_precision);
  json["auto_reason"] = found.auto_reason;
  return json;
}

void devices(bool as_json) {
  const std::vector<ExecutorStatus> statuses = executor_statuses();
  if (!as_json) return print_text(statuses);
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const ExecutorStatus& status : statuses) json.push_back(to_json(status));
  fmt::print("{}\n", nlohmann::ordered_json{{"executors", json}}.dump(2));
}

}  // namespace

void add_devices(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("devices", "Prints the executors, what they found, and what auto takes.");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "as JSON");
  command->callback([as_json] { devices(*as_json); });
}

}  // namespace halfstep::cli
