// Random numbers that differ from step to step.
#pragma once

#include <cstdint>

#include <halfstep/passes/pass.h>

namespace halfstep {

/// The state that counts steps for everything drawn at random; made when there is none.
ValueId step_counter(Graph& graph);

enum class DrawingFor {
  steps,       ///< of training: the counter moves
  evaluation,  ///< beside training, which must not depend on it: the same for each batch until a step, and other
               ///< numbers than the step's where the node has no seed of its own
};

/// RandomNormal, RandomUniform, their Like, Bernoulli and Multinomial become PhiloxRandom and arithmetic. A node with a
/// seed of its own draws by that, others by `seed`; nodes of one seed draw the same, and so do the iterations of a loop
/// that was written out. Shapes must be known. Throws Error(input) for one in a loop or branch whose course depends on
/// data.
Pass draw_by_counter(std::int64_t seed, DrawingFor use = DrawingFor::steps);

}  // namespace halfstep
