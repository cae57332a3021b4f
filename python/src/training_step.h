// A training step and its executor, for one thread at a time.
#pragma once

#include <memory>

#include "python/src/bindings.h"
#include "python/src/guarded.h"
#include "python/src/tensors.h"
#include <halfstep/executors/executor.h>
#include <halfstep/training/training_step.h>

namespace halfstep::python {

struct StepOnExecutor {
  std::unique_ptr<Executor> executor;
  TrainingStep step;
};

class GuardedStep : public Guarded<StepOnExecutor> {
 public:
  using Guarded::Guarded;

  /// A method with a batch that returns a report.
  template <StepReport (TrainingStep::*method)(const NamedTensors&)>
  StepReport with_batch(nb::handle batch) {
    const Use use = this->use();
    const NamedTensors given = tensors_from(batch, "a batch");
    return unlocked([&] { return (use->step.*method)(given); });
  }
  template <NamedTensors (TrainingStep::*method)(const NamedTensors&)>
  nb::dict outputs_for(nb::handle inputs) {
    const Use use = this->use();
    const NamedTensors given = tensors_from(inputs, "inputs");
    return arrays_from(unlocked([&] { return (use->step.*method)(given); }));
  }
  template <NamedTensors (TrainingStep::*method)() const>
  nb::dict read() {
    const Use use = this->use();
    return arrays_from(unlocked([&] { return (use->step.*method)(); }));
  }
  template <void (TrainingStep::*method)(const NamedTensors&)>
  void write(nb::handle tensors) {
    const Use use = this->use();
    const NamedTensors given = tensors_from(tensors, "tensors");
    unlocked([&] { (use->step.*method)(given); });
  }
  template <Tensor (TrainingStep::*method)() const>
  nb::object read_flat() {
    const Use use = this->use();
    return array_from(unlocked([&] { return (use->step.*method)(); }));
  }
  template <void (TrainingStep::*method)(const Tensor&)>
  void write_flat(nb::handle values) {
    const Use use = this->use();
    const Tensor given = tensor_from(values, "values");
    unlocked([&] { (use->step.*method)(given.dtype() == DType::f64 ? convert(given, DType::f32) : given); });
  }
};

}  // namespace halfstep::python
