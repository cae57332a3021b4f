#include "onnx_io/sort_nodes.h"

#include <functional>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

// All names that the node reads, or that its subgraphs read from enclosing graphs (and some that they define).
void collect_reads(const onnx::NodeProto& node, std::vector<std::string>& reads) {
  reads.insert(reads.end(), node.input().begin(), node.input().end());
  const auto visit_graph = [&](const onnx::GraphProto& graph) {
    for (const auto& inner : graph.node()) collect_reads(inner, reads);
    for (const auto& output : graph.output()) reads.push_back(output.name());
  };
  for (const auto& attribute : node.attribute()) {
    if (attribute.has_g()) visit_graph(attribute.g());
    for (const auto& graph : attribute.graphs()) visit_graph(graph);
  }
}

template <class Owner>
void sort_owner(Owner& owner, const std::string& name) {
  const int n = owner.node_size();
  std::unordered_map<std::string, int> producer;
  for (int i = 0; i < n; ++i)
    for (const std::string& output : owner.node(i).output())
      if (!output.empty()) producer[output] = i;
  std::vector<std::vector<int>> readers(static_cast<std::size_t>(n));
  std::vector<int> waiting(static_cast<std::size_t>(n));
  bool sorted = true;
  for (int i = 0; i < n; ++i) {
    std::vector<std::string> reads;
    collect_reads(owner.node(i), reads);
    std::unordered_set<int> before;
    for (const std::string& read : reads)
      if (auto it = producer.find(read); it != producer.end() && it->second != i) before.insert(it->second);
    for (int p : before) {
      readers[p].push_back(i);
      ++waiting[i];
      sorted = sorted && p < i;
    }
  }
  for (auto& node : *owner.mutable_node())
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) sort_owner(*attribute.mutable_g(), name);
      for (auto& graph : *attribute.mutable_graphs()) sort_owner(graph, name);
    }
  if (sorted) return;
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (int i = 0; i < n; ++i)
    if (waiting[i] == 0) ready.push(i);
  std::vector<int> order;
  while (!ready.empty()) {
    const int i = ready.top();
    ready.pop();
    order.push_back(i);
    for (int reader : readers[i])
      if (--waiting[reader] == 0) ready.push(reader);
  }
  if (static_cast<int>(order.size()) != n)
    throw_input_error("a graph without cycles", "a cycle in '" + name + "'", "export the model again");
  std::remove_reference_t<decltype(*owner.mutable_node())> nodes;
  for (int i : order) nodes.Add()->Swap(owner.mutable_node(i));
  owner.mutable_node()->Swap(&nodes);
}

}  // namespace

void sort_nodes(onnx::ModelProto& model) {
  sort_owner(*model.mutable_graph(), model.graph().name());
  for (auto& function : *model.mutable_functions()) sort_owner(function, function.name());
}

}  // namespace halfstep
