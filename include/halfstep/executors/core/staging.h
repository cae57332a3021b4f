// Inputs that a device copies to itself ahead of the run that reads them.
#pragma once

#include <array>
#include <cstddef>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Copied from one of two places in host memory to the buffer that a program's kernels read.
struct StagedInput {
  std::array<void*, 2> host = {};
  void* target = nullptr;
  std::size_t bytes = 0;
};

/// The staged inputs of one program. The device has intermediate memory, so that the copy from the host can proceed
/// while the previous run still reads the target.
class Staging {
 public:
  virtual ~Staging() = default;
  /// Starts copying all inputs from this place, and returns. The place must not change until the run that takes them
  /// has ended. Replaces inputs that were given before and not taken.
  virtual void give(std::size_t place) = 0;
  /// Makes the given inputs available in the targets for the program's next steps.
  virtual void take() = 0;
};

}  // namespace core
}  // namespace halfstep
