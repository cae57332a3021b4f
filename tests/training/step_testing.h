// Models, batches and a fixture for tests of a TrainingStep.
#pragma once

#include <cstdint>
#include <memory>

#include <gtest/gtest.h>

#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/training_step.h>

namespace halfstep::test {

inline constexpr const char* kClassifier =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] y)
       <float[3, 4] w1 = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2}, float[4] b1 = {0, 0, 0, 0},
        float[4, 2] w2 = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6}, float[2] b2 = {0, 0}>
       { h = Gemm(x, w1, b1) r = Tanh(h) y = Gemm(r, w2, b2) })";

/// With everything that draws or keeps statistics.
inline constexpr const char* kNormalized =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] y)
       <float[3, 4] w1 = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2},
        float[4] scale = {1, 1, 1, 1}, float[4] bias = {0, 0, 0, 0}, float[4] mean = {0, 0, 0, 0},
        float[4] var = {1, 1, 1, 1}, float[4, 2] w2 = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6}>
       { h = MatMul(x, w1) n = BatchNormalization(h, scale, bias, mean, var) d = Dropout(n) y = MatMul(d, w2) })";

inline constexpr const char* kTwoHeads =
    R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 3] x) => (float[N, 2] boxes, float[N, 3] classes)
       <float[3, 4] w = {0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2},
        float[4, 2] v = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6},
        float[4, 3] u = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6, 0.1, -0.2, 0.4, 0.3}>
       { h = MatMul(x, w) r = Tanh(h) boxes = MatMul(r, v) classes = MatMul(r, u) })";

inline Tensor rows(std::int64_t count, std::int64_t columns, int seed = 0) {
  Tensor result(DType::f32, {count, columns});
  for (std::int64_t i = 0; i < result.count(); ++i)
    result.data<float>()[i] = static_cast<float>((i * 7 + 3 * seed) % 13 - 6) / 6;
  return result;
}
inline Tensor classes(std::int64_t count, std::int64_t of, int seed = 0) {
  Tensor result(DType::i64, {count});
  for (std::int64_t i = 0; i < count; ++i) result.data<std::int64_t>()[i] = (i * 5 + seed) % of;
  return result;
}
inline NamedTensors batch(int seed = 0, std::int64_t count = 4) {
  return {{"x", rows(count, 3, seed)}, {"labels", classes(count, 2, seed)}};
}

inline TrainingStepOptions fp32(const char* optimizer = "adam") {
  TrainingStepOptions options;
  options.precision = Precision::fp32;
  options.optimizer.name = optimizer;
  options.learning_rate = 0.05;
  return options;
}

inline void expect_same(const NamedTensors& a, const NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(identical(tensor, b.at(name))) << name;
}

/// Of each executor.
class Steps : public ::testing::TestWithParam<const char*> {
 protected:
  const std::unique_ptr<Executor> executor = make_executor(GetParam(), {});
};
inline const auto all_executors = ::testing::Values("reference", "onednn");

}  // namespace halfstep::test
