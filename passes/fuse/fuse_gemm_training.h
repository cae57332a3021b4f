// Products with what a training step computes beside them.
#pragma once

#include <vector>

#include "passes/matcher.h"
#include <halfstep/graph/capabilities.h>

namespace halfstep {

/// The rules for an executor's GemmActivation, GemmActivationGrad and GemmSums; none for any other fusion. Its
/// activations are names of operators, "Gelu(tanh)" with the attribute `approximate`. They come after the rules of
/// plain activations, which take what nobody else reads.
std::vector<Rule> gemm_training_rules(const Fusion& fusion);

}  // namespace halfstep
