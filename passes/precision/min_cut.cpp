#include "passes/precision/min_cut.h"

#include <algorithm>

namespace halfstep {

int MinCut::add_vertex() {
  out_.emplace_back();
  return static_cast<int>(out_.size()) - 1;
}

void MinCut::add_arc(int from, int to, std::int64_t capacity) {
  const int index = static_cast<int>(arcs_.size());
  arcs_.push_back({to, capacity});
  arcs_.push_back({from, 0});
  out_[from].push_back(index);
  out_[to].push_back(index + 1);
}

bool MinCut::find_levels() {
  level_.assign(out_.size(), -1);
  level_[kSource] = 0;
  std::vector<int> queue{kSource};
  for (std::size_t i = 0; i < queue.size(); ++i)
    for (int a : out_[queue[i]]) {
      const Arc& arc = arcs_[a];
      if (arc.capacity == 0 || level_[arc.to] >= 0) continue;
      level_[arc.to] = level_[queue[i]] + 1;
      queue.push_back(arc.to);
    }
  return level_[kSink] >= 0;
}

// A path of the level graph, found with a stack of its own: models are deeper than a thread's stack.
std::int64_t MinCut::push(int start, std::int64_t limit) {
  std::vector<int> path;
  int vertex = start;
  while (vertex != kSink) {
    auto& next = next_[vertex];
    const auto& out = out_[vertex];
    bool moved = false;
    for (; next < out.size(); ++next) {
      const Arc& arc = arcs_[out[next]];
      if (arc.capacity == 0 || level_[arc.to] != level_[vertex] + 1) continue;
      path.push_back(out[next]);
      vertex = arc.to;
      moved = true;
      break;
    }
    if (moved) continue;
    if (path.empty()) return 0;
    vertex = arcs_[path.back() ^ 1].to;
    path.pop_back();
    ++next_[vertex];
  }
  std::int64_t flow = limit;
  for (int a : path) flow = std::min(flow, arcs_[a].capacity);
  for (int a : path) {
    arcs_[a].capacity -= flow;
    arcs_[a ^ 1].capacity += flow;
  }
  return flow;
}

std::vector<bool> MinCut::source_side() {
  while (find_levels()) {
    next_.assign(out_.size(), 0);
    while (push(kSource, 2 * kInfinite) > 0) {
    }
  }
  // What can still reach the sink is the sink's; all the rest is the source's.
  std::vector<bool> source(out_.size(), true);
  source[kSink] = false;
  std::vector<int> queue{kSink};
  for (std::size_t i = 0; i < queue.size(); ++i)
    for (int a : out_[queue[i]]) {
      const Arc& reverse = arcs_[a];
      if (arcs_[a ^ 1].capacity == 0 || !source[reverse.to]) continue;
      source[reverse.to] = false;
      queue.push_back(reverse.to);
    }
  return source;
}

}  // namespace halfstep
