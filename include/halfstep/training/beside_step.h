// Memory of a training run beside its step.
#pragma once

#include <cstddef>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// In bytes, as a memory budget counts it.
struct BesideStep {
  std::size_t process = 0;     ///< kProcessBytes
  std::size_t saving = 0;      ///< the largest parameter, which is copied when the model is saved
  std::size_t read_ahead = 0;  ///< batches that wait for their step

  std::size_t total() const { return process + saving + read_ahead; }
};

}  // namespace halfstep
