#include "executors/core/compile_node.h"

#include <algorithm>

#include <fmt/format.h>

#include "executors/core/standard_kernels.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/kernel_context.h>
#include <halfstep/executors/core/reference_call.h>

namespace halfstep::core {
namespace {

template <class F>
bool any_operand(const Node& node, const F& f) {
  const auto holds = [&](ValueId id) { return id != kNoValue && f(id); };
  return std::ranges::any_of(node.inputs, holds) || std::ranges::any_of(node.outputs, holds);
}

/// Why no kernel of the executor's own is asked about a node; empty when they are.
std::string why_not(const Assembly& assembly, const Node& node) {
  const Graph& graph = assembly.graph();
  if (any_operand(node, [&](ValueId id) { return assembly.is_dynamic(id); }))
    return "the shape depends on data, or the elements are strings";
  if (any_operand(node, [&](ValueId id) { return graph[id].shape.count() == 0; })) return "an operand has no elements";
  std::string reason;
  any_operand(node, [&](ValueId id) {
    if (!assembly.device().holds(graph[id].dtype))
      reason = fmt::format("{} is {}, which the device has no kernels for", graph[id].name, name_of(graph[id].dtype));
    return !reason.empty();
  });
  return reason;
}

/// The makers that are asked about a node, best first.
std::vector<KernelMaker> makers_of(const std::vector<KernelRow>& table, const Node& node) {
  std::vector<KernelMaker> makers;
  const auto row = std::ranges::find_if(table, [&](const KernelRow& each) { return node.is(each.op, each.domain); });
  if (row != table.end()) makers = row->makers;
  if (keeps_order(node)) makers.push_back(make_view);
  return makers;
}

/// Of a kernel, which may have absorbed nodes.
EntryFacts node_facts(const Graph& graph, std::size_t index, const Made& made, const std::vector<bool>& before,
                      const std::vector<bool>& absorbed) {
  if (!made.bind) return {.kind = EntryKind::view};
  std::vector<std::size_t> nodes{index};
  for (std::size_t i = 0; i < absorbed.size(); ++i)
    if (absorbed[i] && !before[i]) nodes.push_back(i);
  return {.kind = made.kernel == "reference" ? EntryKind::reference : EntryKind::kernel,
          .cost = cost_of(graph, nodes),
          .computed = computed_type(graph, graph.nodes[index])};
}

/// Whether any of these buffers is a value's, or that of a copy of it. The value is a node's result.
bool is_in_any(Assembly& assembly, ValueId id, const std::vector<BufferId>& touched,
               const std::vector<EntryFacts>& facts) {
  const auto is_touched = [&](BufferId buffer) { return std::ranges::find(touched, buffer) != touched.end(); };
  std::vector<BufferId> places{assembly.read(id).buffer};
  if (is_touched(places[0])) return true;
  for (std::size_t s = 0; s < assembly.steps().size(); ++s) {
    if (facts[s].kind != EntryKind::conversion) continue;
    const std::vector<BufferId>& both = assembly.steps()[s].touches;  // source, target
    if (std::ranges::find(places, both[0]) == places.end()) continue;
    if (is_touched(both[1])) return true;
    places.push_back(both[1]);
  }
  return false;
}

/// Inputs of a node, results of others, that its kernel does not read. `facts` are those of all steps so far.
void note_unread(Assembly& assembly, const Node& node, const std::vector<BufferId>& touched,
                 const std::vector<EntryFacts>& facts, UnreadInputs& unread) {
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId id = node.inputs[i];
    if (id == kNoValue || !assembly.graph().producer(id) || assembly.is_dynamic(id) || assembly.schedule().is_lazy[id])
      continue;
    if (!is_in_any(assembly, id, touched, facts)) unread[node.name].push_back(i);
  }
}

}  // namespace

void add_conversion_facts(Assembly& assembly, const std::string& made_for, std::vector<EntryFacts>& facts) {
  const auto bytes = [&](BufferId id) {
    const Assembly::Buffer& buffer = assembly.buffers()[id];
    return static_cast<double>(buffer.state ? buffer.state->bytes() : buffer.bytes);
  };
  for (std::size_t i = facts.size(); i < assembly.steps().size(); ++i) {
    const std::vector<BufferId>& touched = assembly.steps()[i].touches;  // source, target, scratch
    facts.push_back({.kind = EntryKind::conversion,
                     .made_for = made_for,
                     .cost = {.bytes = bytes(touched[0]) + bytes(touched[1])}});
  }
}

bool compile_node(Assembly& assembly, const std::vector<KernelRow>& table, CollectiveKernels& collective,
                  std::size_t index, std::int32_t position, std::vector<bool>& absorbed, std::vector<EntryFacts>& facts,
                  UnreadInputs& unread) {
  const Node& node = assembly.graph().nodes[index];
  PlanEntry entry{node.name, operator_name(node), "", "", 0};
  if (absorbed[index]) {
    entry.kernel = "fused";
    entry.reason = "computed along with the kernel of another node";
    assembly.append({entry, {}, {}});
    facts.push_back({.kind = EntryKind::fused});
    return true;
  }
  auto attempt = [&](const auto& maker) {
    const std::vector<bool> absorbed_before = absorbed;
    KernelContext context(assembly, index, position, absorbed);
    Made made = maker(context);
    if (!made.remark.empty()) entry.reason += (entry.reason.empty() ? "" : "; ") + made.remark;
    if (made.kernel.empty()) {
      if (context.is_touched())
        throw_failure("a kernel maker that refuses before it asks for memory", node.op, "report it");
      return false;
    }
    entry.kernel = made.kernel;
    entry.scratch_bytes = context.scratch_bytes();
    add_conversion_facts(assembly, node.name, facts);
    if (made.bind) note_unread(assembly, node, context.touches(), facts, unread);
    facts.push_back(node_facts(assembly.graph(), index, made, absorbed_before, absorbed));
    assembly.append({entry, std::move(made.bind), context.touches()});
    context.append_conversions();
    add_conversion_facts(assembly, node.name, facts);
    return true;
  };
  if (collective.takes(node)) return attempt([&](KernelContext& context) { return collective.make(context); });
  entry.reason = why_not(assembly, node);
  if (entry.reason.empty()) {
    const std::vector<KernelMaker> makers = makers_of(table, node);
    if (std::ranges::any_of(makers, [&](KernelMaker maker) { return attempt(maker); })) return true;
    if (makers.empty()) entry.reason = "no kernel of its own";
  }
  return attempt(make_reference);
}

}  // namespace halfstep::core
