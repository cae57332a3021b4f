// A program that accepts the inputs of its next run during the current one.
#pragma once

#include <cstddef>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// An additional interface of a program: `run` in two halves, between which the inputs of the next run may be passed.
class OverlappedProgram {
 public:
  virtual ~OverlappedProgram() = default;

  /// Whether input i can be passed ahead. Not for small inputs, inputs that the host reads, and devices that compute in
  /// host memory.
  virtual bool takes_ahead(std::size_t i) const = 0;
  /// Memory for such an input of the next run, which the current run does not use. Valid until `start`.
  virtual Tensor ahead(std::size_t i) = 0;
  /// Starts copying the memory of `ahead` to the device, for all inputs that can be passed ahead, and returns.
  virtual void give_ahead() = 0;

  /// Starts a run and returns. With `ahead`, the run uses the inputs of `give_ahead`, which must have been called since
  /// the last start. Do not write to the memory of Program::input until `finish`.
  virtual void start(bool ahead) = 0;
  /// Returns when the run has ended and outputs and states are available.
  virtual void finish() = 0;
};

/// nullptr if the program has no input that can be passed ahead.
OverlappedProgram* overlapped(Program& program);

}  // namespace halfstep
