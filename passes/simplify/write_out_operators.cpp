#include "passes/simplify/write_out_operators.h"

#include "ops/written_out.h"

namespace halfstep {

Pass write_out_operators(bool before_gradient) {
  return {"write_out_operators", [before_gradient](Graph& graph) {
            Builder b(graph);
            std::vector<bool> gone(graph.nodes.size(), false);
            for (std::size_t i = 0; i < gone.size(); ++i) {
              const Node node = graph.nodes[i];  // a copy: nodes move when the graph grows
              const ops::WrittenOut* row = ops::written_out(node);
              if (!row || row->before_gradient != before_gradient) continue;
              b.set_context(node.name + ".", node.forward);
              Expr result = row->result(b, node);
              if (!result) continue;
              if (result.id() == node.inputs[0]) result = b.op("Identity", {result});
              gone[i] = true;
              const std::string name = graph[node.outputs[0]].name;
              graph.replace_uses(node.outputs[0], result.id());
              graph.rename(node.outputs[0], name + ".replaced");
              graph.rename(result.id(), name);
            }
            graph.remove_nodes(gone);
            graph.sort();
          }};
}

}  // namespace halfstep
