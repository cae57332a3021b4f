#include "executors/cudnn/executor.h"

#include <fmt/format.h>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/program.h"
#include "graph/error.h"

namespace halfstep::cudnn {
namespace {

/// What every node becomes.
struct Compiled {
  std::vector<DeviceKernel> kernels;
  std::vector<Placement> placements;
  std::vector<PlanEntry> entries;
};

std::string operator_name(const Node& node) { return node.domain.empty() ? node.op : node.domain + "." + node.op; }

Compiled place_nodes(const Graph& graph, const Libraries& libraries) {
  Compiled c;
  c.kernels.resize(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    Placement& placement = c.placements.emplace_back();
    PlanEntry& entry = c.entries.emplace_back();
    entry.node = node.name;
    entry.op = operator_name(node);
    if (is_view(node) && graph[node.outputs[0]].shape.is_static()) {
      placement.place = Place::view;
      entry.kernel = "view";
      continue;
    }
    Made made = make_kernel({graph, node, libraries});
    if (auto* kernel = std::get_if<DeviceKernel>(&made)) {
      placement = {Place::device, kernel->scratch_bytes, kernel->overwrites};
      entry.kernel = kernel->name;
      entry.scratch_bytes = kernel->scratch_bytes;
      c.kernels[n] = std::move(*kernel);
    } else {
      entry.kernel = "reference";
      entry.reason = std::get<Refusal>(made).reason;
    }
  }
  settle_views(graph, c.placements);
  return c;
}

/// Refuses what can run nowhere, all of it at once; completes the plan's entries of host nodes.
void check_host_nodes(const Graph& graph, Compiled& c) {
  std::string missing;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (c.placements[n].place != Place::host) continue;
    const Node& node = graph.nodes[n];
    const OpDef* op = find_op(node.op, node.domain);
    if (!op || !op->reference)
      missing += fmt::format("{}{} ({})", missing.empty() ? "" : ", ", operator_name(node), node.name);
    if (c.entries[n].kernel == "view") c.entries[n].reason = "its operand is in host memory";
    c.entries[n].kernel = "reference, on host copies";
  }
  if (!missing.empty())
    throw_input_error("operators that halfstep has", missing, "export the model without them, or ask for them");
}

}  // namespace

CudnnExecutor::CudnnExecutor(const Device& device)
    : capabilities_(capabilities_of(device)),
      libraries_(std::make_shared<const Libraries>(open_libraries(device.id))) {}

std::unique_ptr<StateStore> CudnnExecutor::make_store() { return std::make_unique<DeviceStore>(libraries_); }

std::unique_ptr<Program> CudnnExecutor::compile(const Graph& graph, StateStore& store) {
  auto* device_store = dynamic_cast<DeviceStore*>(&store);
  if (!device_store)
    throw_input_error("a state store made by the cudnn executor", "another executor's",
                      "call make_store of the executor that compiles");
  Compiled c = place_nodes(graph, *libraries_);
  check_host_nodes(graph, c);
  Schedule schedule = make_schedule(graph, c.placements);
  Plan plan;
  plan.entries = std::move(c.entries);
  return std::make_unique<DeviceProgram>(graph, libraries_, *device_store, std::move(schedule), std::move(c.kernels),
                                         std::move(plan));
}

std::unique_ptr<Executor> make_cudnn_executor(const DetectionApi& api, std::string& reason) {
  // The build tells the lowest compute capability (as 10 * major + minor) the kernels are compiled for.
  const auto found = detect(api, HALFSTEP_CUDA_LEAST_CAPABILITY);
  if (const auto* none = std::get_if<NoDevice>(&found)) {
    reason = none->reason;
    return nullptr;
  }
  try {
    return std::make_unique<CudnnExecutor>(std::get<Device>(found));
  } catch (const Error& e) {
    reason = e.without_hint();
    return nullptr;
  }
}

}  // namespace halfstep::cudnn
