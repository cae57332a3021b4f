// A pass is a name and a function that turns a graph into another; a pipeline is the list of them.
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

/// Is shown the graph after every pass: stage 0 is the graph as given (pass name "source").
using PassObserver = std::function<void(std::size_t stage, const std::string& pass, const Graph& graph)>;

/// Runs the passes in order. After each the graph is a valid model: invariants verified, nodes sorted, types inferred.
/// Errors of a pass are thrown on with the pass's name in front.
Graph run_pipeline(Graph graph, const Pipeline& pipeline, const PassObserver& observer = {});

}  // namespace halfstep
