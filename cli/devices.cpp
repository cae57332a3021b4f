// halfstep devices: the devices of this machine, and the choice of `auto`.
#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/json_table.h"
#include "cli/ranks.h"
#include "distributed/gather.h"
#include "distributed/topology.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/launcher.h>
#include <halfstep/distributed/registry.h>
#include <halfstep/executors/registry.h>
#include <halfstep/training/options.h>

namespace halfstep::cli {
namespace {

struct DevicesFlags {
  std::string plugin;
  bool json = false;
};

constexpr const char* kNone = "none";

/// The choice of --executor auto; null where none is available.
const ExecutorStatus* first_available(const std::vector<ExecutorStatus>& statuses) {
  const auto first = std::ranges::find_if(statuses, &ExecutorStatus::available);
  return first == statuses.end() ? nullptr : &*first;
}

std::string automatic(const std::vector<ExecutorStatus>& statuses) {
  const ExecutorStatus* first = first_available(statuses);
  return first ? first->name : kNone;
}

/// "f32: matmul, convolution; bf16: matmul"
std::string native_arithmetic(const Capabilities& found) {
  std::vector<std::string> types;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    std::vector<std::string_view> classes;
    for (const auto& [op_class, native] : found.native)
      if (native == dtype) classes.push_back(name_of(op_class));
    if (!classes.empty()) types.push_back(fmt::format("{} ({})", name_of(dtype), fmt::join(classes, ", ")));
  }
  return types.empty() ? kNone : fmt::format("{}", fmt::join(types, "; "));
}

/// What a rank computes on.
struct RankDevice {
  RankPlace place;
  std::string device;
};

/// Of the ranks that a launcher has started; none for a process by itself. Collective.
std::vector<RankDevice> rank_devices(Communicator& ranks, const std::vector<ExecutorStatus>& statuses) {
  const ExecutorStatus* first = first_available(statuses);
  const std::string own = first ? fmt::format("{} on {}", first->name, first->capabilities.device) : kNone;
  const std::vector<RankPlace> places = places_of(ranks);
  const std::vector<std::string> names = gather(ranks, own);
  std::vector<RankDevice> result;
  for (std::size_t rank = 0; rank < places.size(); ++rank) result.push_back({places[rank], names[rank]});
  return result;
}

void print_ranks(const std::vector<RankDevice>& ranks) {
  std::set<std::string> hosts;
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  for (const RankDevice& rank : ranks) {
    hosts.insert(rank.place.host);
    table.push_back({{"rank", std::to_string(table.size())},
                     {"host", rank.place.host},
                     {"cores", cores_text(rank.place.cores)},
                     {"device", rank.device}});
  }
  print_out("{} ranks on {} host{}\n", ranks.size(), hosts.size(), hosts.size() == 1 ? "" : "s");
  print_table(table, {"rank", "host", "cores", "device"});
}

/// "--device cuda:0: NVIDIA H100, compute capability 9.0, 132 multiprocessors, 79.2 GiB, GPU-5c8e..."
void print_devices(const std::vector<DeviceStatus>& devices) {
  for (const DeviceStatus& each : devices) {
    std::vector<std::string> facts{each.name};
    facts.insert(facts.end(), each.features.begin(), each.features.end());
    facts.push_back(each.uuid);
    print_out("{:<10} --device {}: {}{}\n", "", each.id, joined(facts),
              each.reason.empty() ? "" : fmt::format("; not available: {}", each.reason));
  }
}

void print_text(const std::vector<ExecutorStatus>& statuses) {
  for (const ExecutorStatus& status : statuses) {
    const Capabilities& found = status.capabilities;
    if (!status.available) {
      print_out("{:<10} not available: {}\n", status.name, status.reason);
      print_devices(status.devices);
      continue;
    }
    print_out("{:<10} {}\n", status.name, found.device);
    print_out("{:<10} features: {}\n", "", found.features.empty() ? kNone : joined(found.features));
    if (found.memory) print_out("{:<10} memory: {:.1f} GiB\n", "", static_cast<double>(found.memory) / (1 << 30));
    print_out("{:<10} native arithmetic: {}\n", "", native_arithmetic(found));
    print_out("{:<10} --precision auto selects {}: {}\n", "", precision_name(found.auto_precision), found.auto_reason);
    print_devices(status.devices);
  }
  print_out("--executor auto selects {}\n", automatic(statuses));
}

nlohmann::ordered_json to_json(const DeviceStatus& device) {
  nlohmann::ordered_json json{{"id", device.id},
                              {"uuid", device.uuid},
                              {"device", device.name},
                              {"features", device.features},
                              {"memory_bytes", device.memory},
                              {"available", device.reason.empty()}};
  if (!device.reason.empty()) json["reason"] = device.reason;
  return json;
}

nlohmann::ordered_json to_json(const ExecutorStatus& status) {
  nlohmann::ordered_json json{{"name", status.name}, {"available", status.available}};
  for (const DeviceStatus& device : status.devices) json["devices"].push_back(to_json(device));
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
  json["auto_precision"] = precision_name(found.auto_precision);
  json["auto_reason"] = found.auto_reason;
  return json;
}

/// `ranks`: null for a process by itself.
int devices_on(const std::shared_ptr<Communicator>& ranks, const DevicesFlags& flags) {
  std::vector<ExecutorStatus> statuses = executor_statuses();
  const std::string taken = automatic(statuses);
  if (const std::string missing = missing_plugin_folders(); !missing.empty()) print_message(missing);
  if (!flags.plugin.empty()) {
    const std::unique_ptr<Executor> executor = load_executor(flags.plugin, {});
    statuses.push_back({std::string(executor->name()), true, "", executor->capabilities()});
  }
  const std::vector<RankDevice> places = ranks ? rank_devices(*ranks, statuses) : std::vector<RankDevice>();
  if (!flags.json) {
    print_text(statuses);
    if (ranks) print_ranks(places);
    return 0;
  }
  nlohmann::ordered_json json{{"executors", nlohmann::ordered_json::array()}, {"auto", taken}};
  for (const ExecutorStatus& status : statuses) json["executors"].push_back(to_json(status));
  for (const RankDevice& rank : places)
    json["ranks"].push_back({{"host", rank.place.host}, {"cores", rank.place.cores}, {"device", rank.device}});
  print_json(json);
  return 0;
}

/// Null where there is one process, or they cannot find each other: what there is on this machine is told without MPI,
/// too.
std::shared_ptr<Communicator> ranks_of_launcher() {
  const std::optional<Launch> launch = find_launch();
  if (!launch || !launch->starts_mpi) return nullptr;
  try {
    return open_communicator("auto");
  } catch (const SharedError&) {
    throw;
  } catch (const Error& error) {
    print_message(fmt::format("only this machine is described, not where the {} ranks of {} are: {}", launch->size,
                              launch->launcher, error.without_hint()));
    return nullptr;
  }
}

int devices(const DevicesFlags& flags) {
  const std::shared_ptr<Communicator> ranks = ranks_of_launcher();
  if (!ranks) return devices_on(nullptr, flags);
  return on_rank(*ranks, flags.json, [&] { return devices_on(ranks, flags); });
}

}  // namespace

void add_devices(CLI::App& app, int& exit_code) {
  CLI::App* command =
      add_command(app, "devices", "Lists executors, their devices and features, and the choice of auto.");
  command->footer(
      "Under mpirun or srun also where each rank runs: its host, cores and device.\n\nExample:\n"
      "  halfstep devices --json");
  auto flags = std::make_shared<DevicesFlags>();
  command->add_option("--plugin", flags->plugin, "an additional shared library with an executor")
      ->type_name("LIB.so")
      ->check(not_empty());
  command->add_flag("--json", flags->json, "prints everything as JSON");
  command->callback([flags, &exit_code] { exit_code = devices(*flags); });
}

}  // namespace halfstep::cli
