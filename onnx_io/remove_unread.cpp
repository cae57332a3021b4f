#include "onnx_io/remove_unread.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "onnx_io/proto_walk.h"

namespace halfstep {
namespace {

std::unordered_map<std::string, int> count_reads(onnx::GraphProto& graph) {
  std::unordered_map<std::string, int> reads;
  for_each_node(graph, [&](const onnx::NodeProto& node) {
    for (const std::string& name : node.input()) ++reads[name];
  });
  for_each_graph(graph, [&](const onnx::GraphProto& any) {
    for (const auto& output : any.output()) ++reads[output.name()];
  });
  return reads;
}

// Takes back what count_reads has counted of a node.
void forget_reads(onnx::NodeProto& node, std::unordered_map<std::string, int>& reads) {
  const auto forget = [&](const std::string& name) { --reads[name]; };
  for (const std::string& name : node.input()) forget(name);
  const auto forget_body = [&](onnx::GraphProto& body) {
    for (const auto& [name, count] : count_reads(body)) reads[name] -= count;
  };
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.has_g()) forget_body(*attribute.mutable_g());
    for (auto& body : *attribute.mutable_graphs()) forget_body(body);
  }
}

}  // namespace

void remove_nodes(onnx::GraphProto& graph, const std::unordered_set<const onnx::NodeProto*>& doomed) {
  auto& nodes = *graph.mutable_node();
  int kept = 0;
  for (int i = 0; i < nodes.size(); ++i)
    if (!doomed.contains(&nodes.Get(i))) nodes.SwapElements(kept++, i);
  nodes.DeleteSubrange(kept, nodes.size() - kept);
}

void remove_unread(onnx::GraphProto& graph, const std::unordered_set<std::string>& candidates) {
  if (candidates.empty()) return;
  std::unordered_map<std::string, int> reads = count_reads(graph);
  const auto is_unread = [&](const std::string& name) {
    const auto found = reads.find(name);
    return name.empty() || found == reads.end() || found->second <= 0;
  };
  std::unordered_map<std::string, onnx::NodeProto*> producers;
  for (auto& node : *graph.mutable_node())
    for (const std::string& name : node.output()) producers[name] = &node;
  std::vector<std::string> open(candidates.begin(), candidates.end());
  std::unordered_set<std::string> unread;
  std::unordered_set<const onnx::NodeProto*> doomed;
  while (!open.empty()) {
    const std::string name = std::move(open.back());
    open.pop_back();
    if (name.empty() || !is_unread(name) || !unread.insert(name).second) continue;
    const auto producer = producers.find(name);
    if (producer == producers.end()) continue;
    onnx::NodeProto& node = *producer->second;
    if (!std::all_of(node.output().begin(), node.output().end(), is_unread) || !doomed.insert(&node).second) continue;
    forget_reads(node, reads);
    open.insert(open.end(), node.input().begin(), node.input().end());
  }
  std::unordered_set<std::string> initialized;
  for (const auto& tensor : graph.initializer())
    if (unread.contains(tensor.name())) initialized.insert(tensor.name());
  remove_named(*graph.mutable_initializer(), initialized);
  remove_named(*graph.mutable_input(), initialized);
  remove_named(*graph.mutable_value_info(), unread);
  remove_nodes(graph, doomed);
}

}  // namespace halfstep
