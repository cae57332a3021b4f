// Memory use of a compiled program, by category.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// In bytes. A program allocates only states, constants, the arena, and its inputs and outputs. If the device has its
/// own memory, only that is counted, not host memory such as inputs and outputs.
struct MemoryUse {
  bool is_of_device = false;  ///< with memory of its own

  // States, in their present layouts.
  std::size_t parameters = 0;    ///< with their half copies
  std::size_t moments = 0;       ///< of the optimizer
  std::size_t other_states = 0;  ///< running statistics, sums of gradients, counters

  std::size_t constants = 0;       ///< with their copies in other layouts
  std::size_t inputs_outputs = 0;  ///< on a device with its own memory: staging memory for inputs
  std::size_t inputs = 0;          ///< of these

  std::size_t arena = 0;  ///< all other memory
  // At the step of the program with the peak use of the arena.
  std::size_t live = 0;         ///< minimum size of an arena
  std::size_t gradients = 0;    ///< of parameters
  std::size_t activations = 0;  ///< other values of the graph, and their copies in other layouts
  std::size_t workspace = 0;    ///< scratch memory of kernels
  std::string step;             ///< the node

  std::size_t states() const { return parameters + moments + other_states; }
  std::size_t total() const { return states() + constants + inputs_outputs + arena; }
};

/// Memory of a process besides its programs: libraries, ONNX's schemas, graphs and the source's message, generated
/// code. Measured on Linux on x86-64: 52 MB for mnist_mlp, 55 MB for an LSTM, 65 MB for a GPT-2 of 4 layers and 68 MB
/// for ViT-Tiny, whose message has 2.6 MB. GPU libraries loaded by a plug-in are not included.
inline constexpr std::size_t kProcessBytes = 58'000'000;

/// None if the executor does not report it.
std::optional<MemoryUse> memory_of(const Program& program);

}  // namespace halfstep
