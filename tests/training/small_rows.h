// A few rows to train with, and a model that they train.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/data/dataset.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/trainer.h>

namespace halfstep {

/// Eight rows of two numbers, and of one, 0 or 1.
inline Dataset small_rows() {
  Tensor x(DType::f32, {8, 2}), y(DType::f32, {8, 1});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 3) / 4;
  for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>(i % 2);
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

/// Of two inputs, with a weight "w" and a bias "b".
inline LoadedModel small_model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 1] y)
                        <float[2, 1] w = {0.5, -1}, float[1] b = {0}> { y = Gemm(x, w, b) })");
}

/// Three epochs of three batches, the last of which has two rows.
inline TrainerOptions small_options() {
  TrainerOptions result{.losses = {{"mean_squared_error"}}, .precision = Precision::fp32, .epochs = 3, .batch_size = 3};
  result.optimizer.name = "sgd";
  result.schedule.base_lr = 0.1;
  return result;
}

/// The loss of each step of a run.
inline std::vector<float> losses_of(Trainer& trainer) {
  std::vector<float> losses;
  trainer.fit({.on_step = [&](const StepResult& r) { losses.push_back(r.loss); }});
  return losses;
}

}  // namespace halfstep
