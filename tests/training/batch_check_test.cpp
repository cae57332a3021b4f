// What a training step says to labels and sample weights that its loss is not defined for.
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/executor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

TrainingStep step_of(Executor& executor, const LossTerm& term) {
  TrainingStepOptions options;
  options.precision = Precision::fp32;
  options.loss = LossOptions{.terms = {term}, .function = {}};
  return TrainingStep(parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 2] x) => (float[N, 2] y)
      <float[2, 2] w = {0.5, -1, 0.25, 0.1}> { y = MatMul(x, w) })"),
                      executor, options);
}

Tensor rows(const std::vector<float>& values) { return Tensor::of(values).reshaped({3, 2}); }

/// The error of a step, an evaluation and a sum of gradients, which are the same; empty: none.
std::string error_of(const LossTerm& term, const NamedTensors& batch) {
  const std::unique_ptr<Executor> executor = make_reference_executor({});
  TrainingStep step = step_of(*executor, term);
  std::vector<std::string> errors;
  const auto run = [&](auto&& call) {
    try {
      call();
      errors.emplace_back();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::input);
      errors.emplace_back(error.what());
    }
  };
  run([&] { step.evaluate(batch); });
  run([&] { step.run(batch); });
  run([&] { step.forward_backward(batch); });
  EXPECT_THAT(errors, testing::Each(errors.front()));
  EXPECT_EQ(step.updates(), errors.front().empty() ? 1 : 0);
  return errors.front();
}

TEST(BatchCheck, LabelsOfBinaryLossesAreFromZeroToOne) {
  struct Case {
    std::string loss;
    std::optional<std::int64_t> ignored;
    std::vector<float> labels;
    std::string error;
  };
  const Case cases[] = {
      {"binary_cross_entropy_logits", {}, {0, 1, 0.5f, 1, 0, 1}, ""},
      {"binary_cross_entropy_logits", {}, {0, 1, 0.5f, 1, 0, 2}, "labels from 0 to 1, got 2 in row 2 of 'labels'"},
      {"binary_cross_entropy_logits", {}, {0, 1, -0.5f, 1, 0, 2}, "got -0.5 in row 1 of 'labels'"},
      {"binary_cross_entropy_logits", {}, {0, 1, 1, 1, kNaN, 2}, "got nan in row 2 of 'labels'"},
      {"binary_cross_entropy_logits", -100, {0, 1, -100, 1, 0, 1}, ""},
      {"binary_cross_entropy_logits", -100, {0, 1, -7, 1, 0, 1}, "or -100 for ignored elements, got -7 in row 1"},
      {"binary_focal", {}, {0, 1, 1, 1, 0, -1}, "got -1 in row 2"},
      {"kl_divergence", {}, {0.5f, 0.5f, 0, 1, 0, 3}, "got 3 in row 2"},
      {"mean_squared_error", {}, {0, 1, -7, 1, 0, 2}, ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::Message() << c.loss << " " << testing::PrintToString(c.labels));
    LossTerm term{.loss = c.loss};
    term.ignore_label = c.ignored;
    const std::string error = error_of(term, {{"x", rows({1, 2, 3, 4, 5, 6})}, {"labels", rows(c.labels)}});
    EXPECT_THAT(error, HasSubstr(c.error));
    EXPECT_EQ(error.empty(), c.error.empty());
  }
}

TEST(BatchCheck, SampleWeightsAreFiniteAndNotNegative) {
  struct Case {
    float weight;
    std::string error;
  };
  const Case cases[] = {{0, ""},
                        {1e30f, ""},
                        {-0.5f, "sample weights from 0 to 1e+30, got -0.5 in row 1 of 'w'"},
                        {kNaN, "got nan in row 1 of 'w'"},
                        {kInf, "got inf in row 1 of 'w'"},
                        {2e30f, "got 2e+30 in row 1 of 'w'"}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.weight);
    LossTerm term{.loss = "mean_squared_error"};
    term.sample_weights = "w";
    const std::string error = error_of(term, {{"x", rows({1, 2, 3, 4, 5, 6})},
                                              {"labels", rows({0, 1, -7, 1, 0, 2})},
                                              {"w", Tensor::of<float>({1, c.weight, 1})}});
    EXPECT_THAT(error, HasSubstr(c.error));
    EXPECT_EQ(error.empty(), c.error.empty());
  }
}

}  // namespace
}  // namespace halfstep
