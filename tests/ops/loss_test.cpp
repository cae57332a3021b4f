// Labels the losses must refuse or leave out.
#include <cmath>

#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

const Tensor kScores = Tensor::of<float>({1, 2, 3, -1, -1, -1}, Shape{2, 3});

struct LossOp {
  const char* op;
  std::string_view domain;
  std::vector<Tensor> before;  ///< operands before the labels
  Attributes attributes;
};

const std::vector<LossOp> kLosses = {
    {"SoftmaxCrossEntropyLoss", kOnnxDomain, {kScores}, {}},
    {"NegativeLogLikelihoodLoss", kOnnxDomain, {kScores}, {}},
    {"SoftmaxCrossEntropyGrad", kOwnDomain, {Tensor::scalar(1.0F), kScores}, {}},
    {"NegativeLogLikelihoodLossGrad",
     kOwnDomain,
     {Tensor::scalar(1.0F)},
     {{"input_shape", std::vector<std::int64_t>{2, 3}}}},
};

std::vector<Tensor> run_with_labels(const LossOp& loss, const Tensor& labels, Attributes attributes) {
  std::vector<Tensor> in = loss.before;
  in.push_back(labels);
  for (const auto& [name, value] : loss.attributes) attributes.set(name, value);
  return run_op(loss.op, loss.domain, in, 1, std::move(attributes));
}

TEST(Losses, RefuseLabelsThatAreNoClass) {
  for (const LossOp& loss : kLosses)
    for (const std::int64_t bad : {std::int64_t{3}, std::int64_t{-1}, std::int64_t{1} << 40}) {
      SCOPED_TRACE(loss.op);
      try {
        run_with_labels(loss, Tensor::of<std::int64_t>({0, bad}), {{"ignore_index", std::int64_t{-100}}});
        ADD_FAILURE() << "took label " << bad;
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), Error::Kind::input);
        EXPECT_NE(std::string(e.what()).find(std::to_string(bad) + " at position 1"), std::string::npos) << e.what();
      }
    }
}

TEST(Losses, LeaveOutIgnoredPoints) {
  const Attributes ignore = {{"ignore_index", std::int64_t{-100}}};
  const Tensor labels = Tensor::of<std::int64_t>({-100, 1});
  EXPECT_NEAR(*run_with_labels(kLosses[0], labels, ignore)[0].data<float>(), std::log(3.0), 1e-6);
  EXPECT_EQ(*run_with_labels(kLosses[1], labels, ignore)[0].data<float>(), 1);
  for (const LossOp& gradient : {kLosses[2], kLosses[3]}) {
    const std::vector<double> d = to_doubles(run_with_labels(gradient, labels, ignore)[0]);
    EXPECT_EQ(std::vector<double>(d.begin(), d.begin() + 3), (std::vector<double>{0, 0, 0})) << gradient.op;
    EXPECT_LT(d[4], 0) << gradient.op;
  }
}

TEST(Losses, AreZeroWithoutAGradientWhereNoPointCounts) {
  const Attributes ignore = {{"ignore_index", std::int64_t{-100}}};
  for (const LossOp& loss : kLosses)
    for (const double d : to_doubles(run_with_labels(loss, Tensor::of<std::int64_t>({-100, -100}), ignore)[0]))
      EXPECT_EQ(d, 0) << loss.op;
}

TEST(SoftmaxCrossEntropyLoss, StaysFiniteForLargeScores) {
  const Tensor scores = Tensor::of<float>({1000, -1000}, Shape{1, 2});
  const std::vector<Tensor> out =
      run_op("SoftmaxCrossEntropyLoss", kOnnxDomain, {scores, Tensor::of<std::int64_t>({1})}, 2);
  EXPECT_EQ(*out[0].data<float>(), 2000);
  EXPECT_EQ(out[1].data<float>()[0], 0);
}

}  // namespace
}  // namespace halfstep
