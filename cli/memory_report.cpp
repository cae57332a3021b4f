#include "cli/memory_report.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/machine_memory.h"
#include "cli/common.h"
#include "graph/pages.h"
#include <halfstep/base/error.h>

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Pages of libraries and generated code that the first step touches, and the stacks of threads: measured, 1 to 8 MB.
constexpr std::size_t kFirstStep = 4'000'000;
/// A program that takes more is not run for a report. kFirstStep is off by less than 2 % of it.
constexpr std::size_t kMostToRun = 256'000'000;

/// What the process takes beside a program that it has run; nothing where that cannot be told.
std::optional<std::size_t> measured_process(const MemoryUse& use, const std::function<void()>& run) {
  try {
    run();
  } catch (const Error&) {  // a run on this data will say so
    return std::nullopt;
  }
  const std::size_t now = resident_memory().now;
  return now > use.total() ? std::optional(now - use.total()) : std::nullopt;
}

}  // namespace

BesideProgram measured_beside(const MemoryUse& use, std::size_t moments_written, std::size_t saving,
                              std::size_t read_ahead, const std::function<void()>& run) {
  if (use.is_of_device) return {};  // all of that is in the host's memory
  const ResidentMemory memory = resident_memory();
  // Large moments, the arena, inputs and outputs have pages of their own, which take no memory before they are written.
  const auto of_heap = [](std::size_t bytes) { return bytes < kPagesOfItsOwn ? bytes : 0; };
  const std::size_t written = use.parameters + use.constants + moments_written + of_heap(use.other_states) +
                              of_heap(use.inputs_outputs) + of_heap(use.arena);
  std::size_t process = memory.now > written ? memory.now - written + kFirstStep : kProcessBytes;
  if (use.total() <= kMostToRun) process = measured_process(use, run).value_or(process);
  return {.saving = saving, .read_ahead = read_ahead, .process = process, .start = memory.most};
}

Json memory_report(const MemoryUse& use, const BesideProgram& beside) {
  // What lies between the values that are needed at the fullest moment belongs to nobody else.
  const std::size_t gaps = use.arena - use.live;
  const std::pair<const char*, std::size_t> categories[] = {
      {"parameters", use.parameters},
      {"optimizer moments", use.moments},
      {"other states", use.other_states},
      {"gradients", use.gradients},
      {"activations", use.activations},
      {"workspace", use.workspace + gaps},
      {"constants", use.constants},
      {"inputs and outputs", use.inputs_outputs},
      {"batches read ahead", beside.read_ahead},
      {"saving", beside.saving},
      {"process", beside.process},
  };
  const std::size_t steps = use.total() + beside.read_ahead + beside.saving + beside.process;
  Json report{
      {"peak_bytes", std::max(steps, beside.start)}, {"start_bytes", beside.start}, {"categories", Json::array()}};
  for (const auto& [name, bytes] : categories) report["categories"].push_back({{"category", name}, {"bytes", bytes}});
  report["arena"] = {{"bytes", use.arena}, {"live_bytes", use.live}, {"node", use.step}};
  return report;
}

void print_memory(const Json& report) {
  const auto precision = report["precision"].get<std::string>();  // and perhaps a reason
  print_out("memory of {}, batch {}, {}\n", report["of"].get<std::string>(), report["batch"].get<std::int64_t>(),
            precision.substr(0, precision.find(',')));
  const auto line = [](const std::string& name, const Json& bytes) {
    print_out("  {:<20} {:>16}\n", name, with_thousands(bytes.get<std::int64_t>()));
  };
  for (const Json& row : report["categories"]) line(row["category"].get<std::string>(), row["bytes"]);
  line("start", report["start_bytes"]);
  line("peak", report["peak_bytes"]);
  if (report.contains("budget_bytes")) line("budget", report["budget_bytes"]);
  const Json& arena = report["arena"];
  print_out("  values share {0} bytes; peak use is {2} at '{1}'\n", with_thousands(arena["bytes"].get<std::int64_t>()),
            arena["node"].get<std::string>(), with_thousands(arena["live_bytes"].get<std::int64_t>()));
}

}  // namespace halfstep::cli
