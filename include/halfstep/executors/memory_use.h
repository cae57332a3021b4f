// What a compiled program keeps in memory, by what it is.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// In bytes. States, constants and the arena are all that a program allocates but for its inputs and outputs.
struct MemoryUse {
  // States, in the layouts they have.
  std::size_t parameters = 0;
  std::size_t moments = 0;       ///< of the optimizer
  std::size_t other_states = 0;  ///< running statistics, sums of gradients, counters

  std::size_t constants = 0;  ///< with their copies in other layouts
  std::size_t inputs_outputs = 0;

  std::size_t arena = 0;  ///< where all else lies
  // At the step of the program at which the most of the arena is needed.
  std::size_t live = 0;         ///< what an arena of the least size would have
  std::size_t gradients = 0;    ///< of parameters
  std::size_t activations = 0;  ///< other values of the graph, and their copies in other layouts
  std::size_t workspace = 0;    ///< what kernels ask for beside
  std::string step;             ///< the node

  std::size_t states() const { return parameters + moments + other_states; }
  std::size_t total() const { return states() + constants + inputs_outputs + arena; }
};

/// What a process takes besides, without a model: its libraries, ONNX's schemas, the pages of its threads. What
/// training mnist_mlp took on Linux on x86-64 (52 MB), without the model's part. Libraries of a GPU that a plug-in
/// loads are not in it.
inline constexpr std::size_t kProcessBytes = 50'000'000;

/// None where the executor cannot tell.
std::optional<MemoryUse> memory_of(const Program& program);

}  // namespace halfstep
