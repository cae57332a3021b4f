#include "executors/onednn/fusion.h"

#include <algorithm>

namespace halfstep::onednn {
namespace {

bool sums_to_channels(const Graph& graph, const Node& node) {
  if (!node.is("ReduceSum")) return false;
  const ValueId axes = node.input(1);
  if (axes == kNoValue || !graph[axes].is_constant()) return false;
  const std::size_t rank = graph[node.inputs[0]].shape.rank();
  std::vector<std::int64_t> reduced = to_int64s(graph[axes].constant);
  for (std::int64_t& axis : reduced) axis += axis < 0 ? static_cast<std::int64_t>(rank) : 0;
  std::sort(reduced.begin(), reduced.end());
  std::vector<std::int64_t> wanted;
  for (std::size_t axis = 0; axis < rank; ++axis)
    if (axis != 1) wanted.push_back(static_cast<std::int64_t>(axis));
  return rank >= 3 && reduced == wanted;
}

}  // namespace

std::vector<std::pair<std::size_t, std::size_t>> bias_gradient_pairs(const Graph& graph) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t s = 0; s < graph.nodes.size(); ++s) {
    if (!sums_to_channels(graph, graph.nodes[s])) continue;
    for (std::size_t w = 0; w < graph.nodes.size(); ++w) {
      const Node& weight = graph.nodes[w];
      if (!weight.is_own("ConvGradWeight") || weight.inputs[0] != graph.nodes[s].inputs[0]) continue;
      pairs.emplace_back(w, s);
      break;
    }
  }
  // One sum to a weight.
  std::stable_sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end(), [](auto& a, auto& b) { return a.first == b.first; }),
              pairs.end());
  return pairs;
}

}  // namespace halfstep::onednn
