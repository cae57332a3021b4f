// Telling the constants that a model's input is normalized with: (x - mean) / std and its like.
#pragma once

#include "passes/load/model_facts.h"

namespace halfstep {

/// Whether a constant is subtracted from a float input of the model, or divides or multiplies it, in a pair of
/// operators of which one shifts and the other scales, and one subtracts or divides; from images also alone. Movement,
/// casts and scalar factors in between do not matter.
bool is_input_normalization(const ModelFacts& model, ValueId id);

}  // namespace halfstep
