// An optimizer's update for executors that have no kernel for it: the formula of its row, node by node.

#include <halfstep/ops/builder.h>
#include <halfstep/ops/optimizers/optimizer_def.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// What would linger below the normal numbers of f32 goes to zero: a moment whose gradients have stopped decays to a
// subnormal that rounding then keeps for good, and arithmetic on those is slow. A normal number is multiplied by 1.
Expr without_subnormals(Expr x) {
  if (x.dtype() != DType::f32) return x;
  Builder& b = x.builder();
  return x * b.op("Min", {b.op("Abs", {x}) * 0x1p126, b.scalar(1, x.dtype())});
}

void write_out(Builder& b, const Node& node, const OptimizerDef& row) {
  Graph& graph = b.graph();
  const StepOperands operands(node);
  const Hyperparameters h(row, node.attributes);
  const auto in = [&](std::size_t i) { return b.expr(node.inputs[i]); };
  const Expr apply = in(2);
  const auto replace = [&](std::size_t output, Expr next) {
    const Expr gated = b.op("Where", {apply, next, in(operands.replaced(output))});
    const std::string name = graph[node.outputs[output]].name;
    graph.replace_uses(node.outputs[output], gated.id());
    graph.rename(node.outputs[output], name + ".replaced");
    graph.rename(gated.id(), name);
  };
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < operands.parameters; ++i) shapes.push_back(in(operands.parameter(i)).shape());
  const SlotPlaces places = slot_places(row, h, shapes);
  for (std::size_t i = 0; i < operands.parameters; ++i) {
    std::vector<Expr> slots;
    for (const auto& place : places[i]) slots.push_back(place ? in(operands.first_slot() + *place) : Expr());
    const ParameterUpdate next = update_parameter(row, h, in(0), in(1), in(3), in(operands.parameter(i)),
                                                  in(operands.gradient(i)), std::move(slots));
    replace(i, next.parameter);
    for (std::size_t slot = 0; slot < next.slots.size(); ++slot)
      if (places[i][slot]) replace(operands.parameters + *places[i][slot], without_subnormals(next.slots[slot]));
  }
}

}  // namespace

Pass write_out_update(std::set<std::string, std::less<>> updates) {
  return {"write_out_update", [updates = std::move(updates)](Graph& graph) {
            Builder b(graph);
            b.set_context("optimizer");
            std::vector<bool> gone(graph.nodes.size(), false);
            for (std::size_t i = 0; i < gone.size(); ++i) {
              const Node node = graph.nodes[i];  // a copy: nodes move when the graph grows
              const OptimizerDef* row = optimizer_of(node);
              gone[i] = row && !updates.contains(node.op);
              if (gone[i]) write_out(b, node, *row);
            }
            graph.remove_nodes(gone);
            graph.sort();
          }};
}

}  // namespace halfstep
