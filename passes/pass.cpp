#include <halfstep/base/error.h>
#include <halfstep/passes/pass.h>

namespace halfstep {

Graph run_pipeline(Graph graph, const Pipeline& pipeline, const PassObserver& observer) {
  if (observer) observer(0, "source", graph);
  std::size_t stage = 0;
  for (const Pass& pass : pipeline) {
    pass.apply(graph);
    try {
      graph.sort();
      verify(graph);
    } catch (const Error& e) {
      throw Error(e.kind(), e.required() + " after pass '" + pass.name + "'", e.found(), e.remedy());
    }
    if (observer) observer(++stage, pass.name, graph);
  }
  return graph;
}

}  // namespace halfstep
