// A graph with an exchange between ranks.
#pragma once

#include <string>
#include <vector>

#include "ops/collective/all_reduce.h"
#include <halfstep/graph/graph.h>
#include <halfstep/ops/builder.h>

namespace halfstep::test {

/// The sum over the ranks of Relu of x, which has three elements.
inline Graph reduction() {
  Graph graph;
  graph.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(graph);
  const Expr x = b.expr(graph.add_input("x", DType::f32, {3}));
  const Expr started = b.own("StartAllReduce", {Expr(), b.op("Relu", {x})});
  const std::vector<Expr> sums =
      b.multi("FinishAllReduce", kOwnDomain, {started}, 1, {{"shapes", flattened({Shape{3}})}});
  graph.outputs = {sums[0].id()};
  return graph;
}

}  // namespace halfstep::test
