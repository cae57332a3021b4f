// Small models trained for a few steps on an executor and on the reference executor.
#pragma once

#include <span>
#include <string_view>

#include <halfstep/conformance/report.h>
#include <halfstep/executors/executor.h>

namespace halfstep {

struct TrainedModel;
/// A multilayer perceptron, a convolutional network and an LSTM.
std::span<const TrainedModel* const> trained_models();
std::string_view name_of(const TrainedModel& model);

/// The element types that models are trained in.
inline constexpr DType kTrainedTypes[] = {DType::f32, DType::f16, DType::bf16};

/// Trains the model in `precision` for ten steps: other batches in each, one that must not update anything because its
/// gradients are not finite or are only accumulated, and at last a smaller batch and an evaluation, which are programs
/// of their own on the same states. Losses, and how far every parameter and other state has moved, must be the
/// reference executor's within what rounding explains. Does not apply where the executor refuses a half type that it
/// does not compute in. Never throws.
CheckReport check_training(const TrainedModel& model, DType precision, Executor& executor);

}  // namespace halfstep
