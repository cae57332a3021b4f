// The random numbers of operators that draw, one definition for every executor.
#pragma once

#include <cstdint>
#include <span>

#include "ops/random/philox_dropout.h"
#include <halfstep/graph/graph.h>

namespace halfstep::ops {

/// Numbers from `first` on, with `spread`: a uniform distribution between first and first + spread, without the upper
/// end, or a normal one of mean `first` and standard deviation `spread`.
struct Distribution {
  bool is_normal = false;
  float first = 0, spread = 1;
};

/// Fills `out`. Element i is a function of the stream and i alone.
void draw(const DropoutStream& stream, const Distribution& distribution, std::span<float> out);

/// Whether the node is one of ai.onnx that draws: RandomNormal, RandomNormalLike, RandomUniform, RandomUniformLike,
/// Bernoulli, Multinomial.
bool draws_numbers(const Node& node);

/// What RandomNormal, RandomUniform and their Like say of the numbers.
Distribution distribution_of(const Node& node);

/// The seed that the node has as an attribute, as a key for Philox. Nodes of one seed draw the same.
bool has_seed(const Node& node);
std::uint64_t seed_of(const Node& node);

}  // namespace halfstep::ops
