#include "cli/memory_report.h"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "cli/common.h"

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

Json memory_report(const MemoryUse& use, std::size_t largest_saved, std::size_t read_ahead) {
  // What lies between the values that are needed at the fullest moment belongs to nobody else.
  const std::size_t gaps = use.arena - use.live;
  const std::pair<const char*, std::size_t> categories[] = {
      {"parameters", use.parameters},     {"optimizer moments", use.moments},
      {"other states", use.other_states}, {"gradients", use.gradients},
      {"activations", use.activations},   {"workspace", use.workspace + gaps},
      {"constants", use.constants},       {"inputs and outputs", use.inputs_outputs},
      {"batches read ahead", read_ahead}, {"saving", largest_saved},
      {"process", kProcessBytes},
  };
  Json report{{"peak_bytes", use.total() + read_ahead + largest_saved + kProcessBytes}, {"categories", Json::array()}};
  for (const auto& [name, bytes] : categories) report["categories"].push_back({{"category", name}, {"bytes", bytes}});
  report["arena"] = {{"bytes", use.arena}, {"live_bytes", use.live}, {"node", use.step}};
  return report;
}

void print_memory(const Json& report) {
  print_out("memory\n");
  const auto line = [](const std::string& name, const Json& bytes) {
    print_out("  {:<20} {:>16}\n", name, with_thousands(bytes.get<std::int64_t>()));
  };
  for (const Json& row : report["categories"]) line(row["category"].get<std::string>(), row["bytes"]);
  line("peak", report["peak_bytes"]);
  const Json& arena = report["arena"];
  print_out("  values share {0} bytes; peak use is {2} at '{1}'\n", with_thousands(arena["bytes"].get<std::int64_t>()),
            arena["node"].get<std::string>(), with_thousands(arena["live_bytes"].get<std::int64_t>()));
}

}  // namespace halfstep::cli
