// A node's stage is the largest number of edges, on any path from its readers to it, that do not join. Nodes of one
// stage that edges connect become a group: every edge between two groups leads from a higher stage to a lower one, so
// that groups have an order. First stages count from the end of the graph, so that a node goes with what reads it:
// what only the backward pass reads is computed there. Then the groups are taken for nodes, and stages count from the
// beginning, which joins what one of several readers, the nearest to the end, kept apart.
#include "passes/fuse/group_nodes.h"

#include <algorithm>
#include <numeric>

namespace halfstep {
namespace {

struct Edge {
  std::size_t from, to;  // units
  bool joins;
};

/// Disjoint sets.
class Sets {
 public:
  explicit Sets(std::size_t count) : parent_(count) { std::iota(parent_.begin(), parent_.end(), std::size_t{0}); }
  std::size_t find(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(std::size_t a, std::size_t b) { parent_[find(a)] = find(b); }

 private:
  std::vector<std::size_t> parent_;
};

/// The stage of each unit: the edges that do not join on the way to it from where no edge leads to.
std::vector<std::size_t> stages(std::size_t units, const std::vector<Edge>& edges) {
  std::vector<std::size_t> first(units + 1, 0), waiting(units, 0), stage(units, 0), ready;
  for (const Edge& edge : edges) {
    ++first[edge.from + 1];
    ++waiting[edge.to];
  }
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<const Edge*> leaving(edges.size());
  std::vector<std::size_t> next(first.begin(), first.end() - 1);
  for (const Edge& edge : edges) leaving[next[edge.from]++] = &edge;
  for (std::size_t u = 0; u < units; ++u)
    if (waiting[u] == 0) ready.push_back(u);
  while (!ready.empty()) {
    const std::size_t unit = ready.back();
    ready.pop_back();
    for (std::size_t e = first[unit]; e < first[unit + 1]; ++e) {
      const Edge& edge = *leaving[e];
      stage[edge.to] = std::max(stage[edge.to], stage[unit] + (edge.joins ? 0 : 1));
      if (--waiting[edge.to] == 0) ready.push_back(edge.to);
    }
  }
  return stage;
}

void join_stages(Sets& sets, std::size_t units, const std::vector<Edge>& edges) {
  const std::vector<std::size_t> stage = stages(units, edges);
  for (const Edge& edge : edges)
    if (edge.joins && stage[edge.from] == stage[edge.to]) sets.join(edge.from, edge.to);
}

}  // namespace

std::vector<std::vector<std::size_t>> group_nodes(const Graph& graph,
                                                  const std::function<bool(std::size_t a, std::size_t b)>& together) {
  const std::size_t nodes = graph.nodes.size();
  std::vector<Edge> edges;
  for (std::size_t n = 0; n < nodes; ++n) {
    for (const ValueId in : graph.nodes[n].inputs) {
      if (!graph.producer(in)) continue;
      const auto producer = static_cast<std::size_t>(graph.producer_index(in));
      edges.push_back({n, producer, together(producer, n)});
    }
  }
  Sets sets(nodes);
  join_stages(sets, nodes, edges);

  std::vector<Edge> between;
  for (const Edge& edge : edges) {
    const std::size_t from = sets.find(edge.to), to = sets.find(edge.from);
    if (from != to) between.push_back({from, to, edge.joins});
  }
  join_stages(sets, nodes, between);

  std::vector<std::vector<std::size_t>> of_set(nodes), groups;
  for (std::size_t n = 0; n < nodes; ++n) of_set[sets.find(n)].push_back(n);
  for (std::size_t n = 0; n < nodes; ++n)
    if (std::vector<std::size_t>& group = of_set[sets.find(n)]; !group.empty() && group.front() == n)
      groups.push_back(group);
  return groups;
}

}  // namespace halfstep
