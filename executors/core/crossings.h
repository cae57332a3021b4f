// Copies between the host and a device that are not made with the steps of a program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <halfstep/executors/core/assembly.h>

namespace halfstep::core {

enum class Crossing : std::uint8_t {
  none,     ///< a step
  fetched,  ///< of an output, when it is asked for: it lies in memory that stays as it is until the next run
  staged,   ///< of an input, ahead of the run
};

struct StepCrossing {
  Crossing kind = Crossing::none;
  std::size_t index = 0;  ///< of the output or input
};

/// Of each step of an assembly that is complete.
std::vector<StepCrossing> crossings_of(const Assembly& assembly);

}  // namespace halfstep::core
