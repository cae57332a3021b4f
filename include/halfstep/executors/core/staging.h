// Inputs that a device copies to itself ahead of the run that reads them.
#pragma once

#include <array>
#include <cstddef>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// From one of two places in the host's memory to where a program's kernels read it.
struct StagedInput {
  std::array<void*, 2> host = {};
  void* target = nullptr;
  std::size_t bytes = 0;
};

/// Of one program. The device has memory of its own between both, so that the copy from the host may go on while the
/// run before still reads the target.
class Staging {
 public:
  virtual ~Staging() = default;
  /// Begins to copy all inputs from that place of each, and returns. The place must stay as it is until a run that took
  /// them has ended. What was given before and not taken is forgotten.
  virtual void give(std::size_t place) = 0;
  /// Has the program's next steps find in the targets what was given.
  virtual void take() = 0;
};

}  // namespace core
}  // namespace halfstep
