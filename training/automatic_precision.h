// The precision that `auto` takes for a training step.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/dtype.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/executor.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/precision.h>

namespace halfstep {

/// A type to compute in.
struct ChosenPrecision {
  DType dtype = DType::f32;
  std::string reason = {};   ///< of `auto`; empty: it was asked for
  bool is_measured = false;  ///< the reason names times
};

/// f32, and the half types that the device computes natively.
std::vector<DType> native_precisions(const Capabilities& capabilities);

/// Whether it can be measured: the executor chooses by measuring, not by fixed rules.
bool measures_precision(Executor& executor);

/// That of `candidates`, of which the first is f32, in which a step takes the least time. A half type has to be clearly
/// faster than those before it: it computes with fewer bits, and f16 needs a loss scale. `lower` gives the step's graph
/// in a type, or throws where the options do not go with it. The graphs are compiled one after the other, each on a
/// store of its own, and run on batches that are made up: nothing of the run is touched. With the `held` bytes of
/// states that the run has in the meantime they take at most `memory_budget` (0: any). What was measured, and which
/// types failed, is kept with the executor's choices, by the graph's operators, types and shapes. None where nothing is
/// measured, or no two candidates could be.
std::optional<ChosenPrecision> measured_precision(Executor& executor, const std::vector<DType>& candidates,
                                                  std::size_t memory_budget, std::size_t held,
                                                  const std::function<Graph(DType)>& lower);

/// `decide` on rank 0, or in a run by itself; the other ranks take what rank 0 has. Collective.
ChosenPrecision agreed_precision(Communicator* ranks, const std::function<ChosenPrecision()>& decide);

}  // namespace halfstep
