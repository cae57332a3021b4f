#include <algorithm>

#include "graph/bodies.h"
#include "ops/control_flow/control_flow.h"
#include "ops/control_flow/unroll.h"
#include "passes/simplify/control_flow.h"
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

bool any_control_flow(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), is_control_flow);
}

bool inline_once(Graph& graph) {
  bool changed = false;
  for (Node& node : graph.take_nodes()) {
    if (!is_control_flow(node) || !reason_not_inlined(graph, node).empty()) {
      graph.append(std::move(node));
      continue;
    }
    changed = true;
    append_inlined(graph, node);
  }
  return changed;
}

}  // namespace

Pass hoist_initializers() {
  return {"hoist_initializers", [](Graph& graph) {
            // From the innermost bodies outwards: what leaves a body may have come from one inside it.
            auto hoist = [](auto& self, Graph& within) -> void {
              for (std::size_t n = 0; n < within.nodes.size(); ++n) {
                if (!has_body(within.nodes[n])) continue;
                const Graph::Edit node = within.edit(n);
                change_bodies(*node, [&](Graph& body) { self(self, body); });
                hoist_constants(within, *node, /*only_initializers=*/true);
              }
            };
            hoist(hoist, graph);
          }};
}

Pass inline_control_flow() {
  return {"inline_control_flow", [](Graph& graph) {
            if (!any_control_flow(graph)) return;
            const Pass fold = fold_constants();
            do fold.apply(graph);
            while (inline_once(graph));
          }};
}

}  // namespace halfstep
