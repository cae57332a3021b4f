// Multiplies the gradient that backpropagation starts from by the loss scale, a state, and by a weight, an input.
#include "passes/step/step_writing.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {

Pass scale_loss(LossScaleOptions options, bool by_weight) {
  return {"scale_loss", [options, by_weight](Graph& graph) {
            if (!options.enabled && !by_weight) return;
            const ValueId seed = graph.find(StepRole::loss_gradient);
            if (seed == kNoValue)
              throw_failure("a differentiated graph", "no gradient of the loss", "differentiate first");
            Builder b(graph);
            b.set_context("loss_scale");
            Expr factor;
            if (by_weight) factor = add_scalar_input(b, "loss_weight", DType::f32, StepRole::loss_weight);
            if (options.enabled) {
              const Tensor initial = Tensor::scalar(static_cast<float>(options.initial));
              const Expr scale =
                  as(StepRole::loss_scale, add_state(b, kLossScaleState, initial, StateRole::loss_scale).now);
              factor = factor ? factor * scale : scale;
            }
            const Shape shape = graph[seed].shape;
            graph.replace_uses(seed, b.reshape(b.cast(factor, graph[seed].dtype), shape).id());
            graph.remove_dead();
          }};
}

}  // namespace halfstep
