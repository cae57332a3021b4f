// What ONNX leaves to the reader in RNN, LSTM and GRU, and input that does not fit.
#include "ops/recurrent/recurrent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor filled(Shape shape, float value) {
  Tensor t(DType::f32, std::move(shape));
  for (float& x : t.span<float>()) x = value;
  return t;
}

/// One input and one hidden unit; what the operator computes is a plain sum when the activation is Affine.
std::vector<Tensor> run_sum(const std::vector<std::int32_t>& lengths, const char* direction, std::int64_t steps) {
  const auto batch = static_cast<std::int64_t>(lengths.size());
  Tensor initial = filled({1, batch, 1}, 100);
  return run_op("RNN", kOnnxDomain,
                {filled({steps, batch, 1}, 1), filled({1, 1, 1}, 1), filled({1, 1, 1}, 1), filled({1, 2}, 0),
                 Tensor::of(lengths), initial},
                2,
                {{"hidden_size", std::int64_t{1}},
                 {"direction", std::string(direction)},
                 {"activations", std::vector<std::string>{"Affine"}}});
}

TEST(Recurrent, StopsAtTheEndOfEachSequence) {
  const std::vector<Tensor> y = run_sum({3, 1}, "forward", 3);
  EXPECT_THAT(y[0].span<float>(), ElementsAre(101, 101, 102, 0, 103, 0));
  EXPECT_THAT(y[1].span<float>(), ElementsAre(103, 101));
}

TEST(Recurrent, ReverseBeginsAtTheEndOfEachSequence) {
  const std::vector<Tensor> y = run_sum({3, 1}, "reverse", 3);
  EXPECT_THAT(y[0].span<float>(), ElementsAre(103, 101, 102, 0, 101, 0));
  EXPECT_THAT(y[1].span<float>(), ElementsAre(103, 101));
}

TEST(Recurrent, EmptySequenceKeepsItsInitialState) {
  const std::vector<Tensor> y = run_sum({0, 2}, "forward", 2);
  EXPECT_THAT(y[0].span<float>(), ElementsAre(0, 101, 0, 102));
  EXPECT_THAT(y[1].span<float>(), ElementsAre(100, 102));
}

TEST(RecurrentActivations, TakeParametersInOrder) {
  Node node;
  node.op = "GRU";
  node.attributes = {{"direction", std::string("bidirectional")},
                     {"activations", std::vector<std::string>{"Tanh", "LeakyRelu", "Affine", "ScaledTanh"}},
                     {"activation_alpha", std::vector<float>{0.5f, 2, 3}},
                     {"activation_beta", std::vector<float>{0.25f}}};
  const std::string_view defaults[] = {"Sigmoid", "Tanh"};
  const ops::RecurrentAttributes attributes(node, defaults);
  ASSERT_EQ(attributes.directions.size(), 2u);
  EXPECT_FALSE(attributes.directions[0].reverse);
  EXPECT_TRUE(attributes.directions[1].reverse);
  EXPECT_DOUBLE_EQ(attributes.directions[0].activations[1].value(-4), -2);
  EXPECT_DOUBLE_EQ(attributes.directions[1].activations[0].value(3), 6.25);
  EXPECT_DOUBLE_EQ(attributes.directions[1].activations[1].value(0), 0);
  EXPECT_DOUBLE_EQ(attributes.directions[1].activations[1].slope(0), 3);  // alpha given, beta its default
}

struct BadCall {
  const char* what;
  Attributes attributes;
  Shape b = {1, 4};
  std::int32_t length = 3;
};

class RecurrentRefuses : public ::testing::TestWithParam<BadCall> {};

TEST_P(RecurrentRefuses, WithAReason) {
  const BadCall& bad = GetParam();
  try {
    run_op("RNN", kOnnxDomain,
           {filled({3, 1, 2}, 1), filled({1, 2, 2}, 1), filled({1, 2, 2}, 1), filled(bad.b, 1),
            Tensor::of<std::int32_t>({bad.length})},
           1, bad.attributes);
    FAIL() << "no error about " << bad.what;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::input);
    EXPECT_THAT(e.what(), HasSubstr(bad.what));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Calls, RecurrentRefuses,
    ::testing::Values(BadCall{"activations",
                              {{"hidden_size", std::int64_t{2}}, {"activations", std::vector<std::string>{"Sine"}}}},
                      BadCall{"clip", {{"hidden_size", std::int64_t{2}}, {"clip", -1.0f}}},
                      BadCall{"hidden_size", {{"hidden_size", std::int64_t{3}}}},
                      BadCall{"direction", {{"hidden_size", std::int64_t{2}}, {"direction", std::string("up")}}},
                      BadCall{"W", {{"hidden_size", std::int64_t{2}}, {"direction", std::string("bidirectional")}}},
                      BadCall{"B", {{"hidden_size", std::int64_t{2}}}, {1, 3}},
                      BadCall{"sequence_lens", {{"hidden_size", std::int64_t{2}}}, {1, 4}, 4},
                      BadCall{"sequence_lens", {{"hidden_size", std::int64_t{2}}}, {1, 4}, -1}));

}  // namespace
}  // namespace halfstep
