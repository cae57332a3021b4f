// Recurrent layers with one bias. ONNX gives RNN, LSTM and GRU two, Wb beside Rb in one tensor B, which are added up;
// exporters of frameworks with one bias, such as Keras, write it as Wb and leave Rb zero. Both get the same gradient,
// so that training both would double the bias's step.
#pragma once

#include <cstdint>

#include "passes/load/model_facts.h"
#include <halfstep/graph/graph.h>

namespace halfstep {

/// The extent of Wb on the last axis of a constant that is B with an Rb of zeros, of a layer with one bias; else 0. GRU
/// with linear_before_reset does not add the two up: it has both.
std::int64_t single_bias_extent(const ModelFacts& model, ValueId id);

/// Makes the first `extent` elements on the last axis of a constant a constant of its own, under the same name; what
/// read the whole reads a Concat of it with the rest.
void separate_leading(Graph& graph, ValueId id, std::int64_t extent);

}  // namespace halfstep
