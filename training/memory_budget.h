// Training steps that keep to a number of bytes.
#pragma once

#include <cstddef>
#include <memory>

#include "training/step_program.h"
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/pass.h>
#include <halfstep/training/beside_step.h>

namespace halfstep {

/// What a budget counts of a step in the host's memory beside its MemoryUse.
BesideStep beside_step(const Graph& graph);

/// Compiles a training step, or one up to its gradients. Where it would take more than `budget` bytes (0: any) it
/// computes activations again (`recompute`), as few as will do, and `observer` is shown that. What a graph does not
/// tell, kernels' own memory and copies in other layouts, is seen when a step is compiled: up to a few are, until one
/// fits.
///
/// Counted is what a process that trains takes: MemoryUse of the step and `beside_step`; on a device with memory of its
/// own, MemoryUse alone, which is of that. Throws Error(input) with the least that the step can take where that is more
/// than the budget, and where the executor cannot tell what its programs take.
std::unique_ptr<StepProgram> compile_within(std::size_t budget, const Graph& graph, Executor& executor,
                                            StateStore& store, const PassObserver& observer = {});

}  // namespace halfstep
