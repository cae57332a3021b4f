// Batch normalizations of cuDNN's backend API.
#pragma once

#include <vector>

#include "tests/executors/cudnn/emulation/backend_values.h"

namespace emulation {

bool is_normalization(const Descriptor& operation);
/// Whether a graph with normalizations is one of those that cuDNN 9.19 plans: from compute capability 8.0 on, of
/// channels that lie beside each other and are a multiple of 16 bytes, alone, with a ReLU or an addition and a ReLU
/// behind it, or the gradient, alone or of a ReLU whose operand is computed again.
bool is_known_normalization(const std::vector<const Descriptor*>& operations);

void normalize(const Descriptor& operation, Values& values);
void normalize_gradient(const Descriptor& operation, Values& values);

}  // namespace emulation
