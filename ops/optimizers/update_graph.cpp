#include "ops/optimizers/update_graph.h"

#include <utility>
#include <vector>

#include <halfstep/ops/builder.h>

namespace halfstep {

Graph update_graph(const OptimizerDef& row, const Hyperparameters& h, const Shape& shape, DType dtype) {
  Graph graph;
  Builder b(graph);
  const auto input = [&](const Shape& s) { return b.expr(graph.add_input("", dtype, s)); };
  const Expr lr = input({}), step = input({}), factor = input({}), parameter = input(shape), gradient = input(shape);
  std::vector<Expr> slots;
  for (const OptimizerSlot& slot : row.slots) {
    const std::optional<Shape> s = slot.shape(h, shape);
    slots.push_back(s ? input(*s) : Expr());
  }
  const ParameterUpdate next = update_parameter(row, h, lr, step, factor, parameter, gradient, std::move(slots));
  graph.outputs.push_back(next.parameter.id());
  for (const Expr& slot : next.slots)
    if (slot) graph.outputs.push_back(slot.id());
  return graph;
}

}  // namespace halfstep
