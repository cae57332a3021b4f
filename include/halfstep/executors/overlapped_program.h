// A program that takes the inputs of its next run while one goes on.
#pragma once

#include <cstddef>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// What a program is besides: `run` in two halves, between which the inputs of the next run may be given.
class OverlappedProgram {
 public:
  virtual ~OverlappedProgram() = default;

  /// Whether input i can be given ahead. Small ones cannot, nor what the host reads, nor any where kernels compute in
  /// the host's memory.
  virtual bool takes_ahead(std::size_t i) const = 0;
  /// Memory for such an input of the next run, other than what the run that goes on takes. Good until `start`.
  virtual Tensor ahead(std::size_t i) = 0;
  /// Begins to copy to the device what `ahead` has, of all inputs that are taken ahead, and returns.
  virtual void give_ahead() = 0;

  /// Begins a run, and returns while it goes on. `ahead`: with what was given ahead in the place of those inputs, which
  /// must have been since the last start. Until `finish`, memory of Program::input is not to be written.
  virtual void start(bool ahead) = 0;
  /// Returns when the run has ended; then outputs and states are there.
  virtual void finish() = 0;
};

/// nullptr where the program has no input that can be given ahead.
OverlappedProgram* overlapped(Program& program);

}  // namespace halfstep
