// Multiplies the gradient that backpropagation starts from by the loss scale, a state.
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/passes/passes.h>

namespace halfstep {

Pass scale_loss(LossScaleOptions options) {
  return {"scale_loss", [options](Graph& graph) {
            if (!options.enabled) return;
            const ValueId seed = graph.find(StepRole::loss_gradient);
            if (seed == kNoValue)
              throw_failure("a differentiated graph", "no gradient of the loss", "differentiate first");
            Builder b(graph);
            b.set_context("loss_scale");
            const Expr scale = b.expr(graph.add_state(
                kLossScaleState, Tensor::scalar(static_cast<float>(options.initial)), StateRole::loss_scale));
            graph.step.push_back({StepRole::loss_scale, scale.id()});
            const Shape shape = graph[seed].shape;
            const Expr scaled = b.reshape(b.cast(scale, graph[seed].dtype), shape);
            graph.replace_uses(seed, scaled.id());
            graph.remove_dead();
          }};
}

}  // namespace halfstep
