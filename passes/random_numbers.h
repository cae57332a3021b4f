// Random numbers that differ from step to step.
#pragma once

#include <cstdint>

#include "passes/pass.h"

namespace halfstep {

/// The state that counts steps for everything drawn at random; made when there is none.
ValueId step_counter(Graph& graph);

enum class DrawingFor {
  steps,       ///< of training: the counter moves
  evaluation,  ///< beside training, which must not depend on it: other numbers, the same for each batch until a step
};

/// RandomNormal, RandomUniform, their Like, Bernoulli and Multinomial become PhiloxRandom and arithmetic. A node with a
/// seed of its own draws by that, others by `seed`; nodes of one seed draw the same. Shapes must be known. Throws
/// Error(input) for one in a loop or branch whose course depends on data.
Pass draw_by_counter(std::int64_t seed, DrawingFor use = DrawingFor::steps);

}  // namespace halfstep
