// A pass is a name and a function that transforms a graph; a pipeline is a list of passes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

struct Pass {
  std::string name;
  std::function<void(Graph&)> apply;
};
using Pipeline = std::vector<Pass>;

/// Called with the graph after every pass; stage 0 is the original graph (pass name "source").
using PassObserver = std::function<void(std::size_t stage, const std::string& pass, const Graph& graph)>;

/// Runs the passes in order. After each the graph is a valid model: invariants verified, nodes sorted, types inferred.
/// Errors of a pass are rethrown with the pass's name as a prefix.
Graph run_pipeline(Graph graph, const Pipeline& pipeline, const PassObserver& observer = {});

}  // namespace halfstep
