// The operations of cuDNN's backend API: one convolution, normalizations, and products, reductions and elementwise
// operations, of which attention is made.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tests/executors/cudnn/emulation/backend_descriptor.h"

namespace emulation {

bool is_convolution(const Descriptor& operation);
/// Whether all operands of a convolution are f32.
bool is_of_f32(const Descriptor& convolution);
/// Whether cuDNN has kernels for a graph of these.
bool has_engines(const std::vector<const Descriptor*>& operations);
/// Why the operation is none; empty when it is.
const char* fault_of(const Descriptor& operation);

/// Computes them in order; `addresses` are those of the tensors, by their ids.
void apply(const std::vector<const Descriptor*>& operations, const std::map<std::int64_t, void*>& addresses);

}  // namespace emulation
