// Whether two values of a graph are the same, computed twice.
#pragma once

#include <halfstep/base/api.h>
#include <halfstep/executors/core/kernel_context.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Whether `a` and `b` have the same elements because the same nodes give them, from the same values. A training step
/// that computes activations again (halfstep/passes/step/recompute.h) has such pairs: a gradient kernel reads the
/// second one, and what the forward kernel kept belongs to the first.
bool same_elements(const Graph& graph, ValueId a, ValueId b);

/// Of a gradient node that reads X as input 1: what the forward kernel left, where its X had the same elements; nullptr
/// otherwise.
const ForwardRecord* record_of_same_x(KernelContext& context);

/// The same of a gradient node whose first inputs are all those of the forward node, for all of them.
const ForwardRecord* record_of_same_inputs(KernelContext& context);

/// The same of a normalization, where that has statistics.
const ForwardRecord* forward_statistics(KernelContext& context);

}  // namespace core
}  // namespace halfstep
