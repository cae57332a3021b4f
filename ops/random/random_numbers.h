// The random numbers of random operators, defined once for all executors.
#pragma once

#include <cstdint>
#include <span>

#include "ops/random/philox_dropout.h"
#include <halfstep/graph/graph.h>

namespace halfstep::ops {

/// Numbers with offset `first` and `spread`: a uniform distribution between first and first + spread, excluding the
/// upper end, or a normal one with mean `first` and standard deviation `spread`.
struct Distribution {
  bool is_normal = false;
  float first = 0, spread = 1;
};

/// Fills `out`. Element i is a function of the stream and i alone.
void draw(const DropoutStream& stream, const Distribution& distribution, std::span<float> out);

/// Whether the node is a random operator of ai.onnx: RandomNormal, RandomNormalLike, RandomUniform, RandomUniformLike,
/// Bernoulli, Multinomial.
bool draws_numbers(const Node& node);

/// The distribution given by the attributes of RandomNormal, RandomUniform and their Like variants.
Distribution distribution_of(const Node& node);

/// The node's seed attribute as a key for Philox. Nodes with the same seed draw the same numbers.
bool has_seed(const Node& node);
std::uint64_t seed_of(const Node& node);

}  // namespace halfstep::ops
