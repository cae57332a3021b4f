// Defaults and ranges of the optimizer's numbers.
#include "passes/optimizer_options.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/error.h"

namespace halfstep {
namespace {

using testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string refusal(const OptimizerOptions& options) {
  try {
    check(options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::input);
    return error.what();
  }
  return {};
}

const OptimizerNumber& number(std::string_view name) {
  for (const OptimizerNumber& n : optimizer_numbers())
    if (n.name == name) return n;
  throw std::out_of_range(std::string(name));
}

TEST(OptimizerOptions, WeightDecayIsWhatPyTorchHasUnlessItIsSet) {
  EXPECT_EQ(weight_decay_of({.kind = OptimizerKind::sgd}), 0);
  EXPECT_EQ(weight_decay_of({.kind = OptimizerKind::adam}), 0);
  EXPECT_EQ(weight_decay_of({.kind = OptimizerKind::adamw}), 0.01);
  EXPECT_EQ(weight_decay_of({.kind = OptimizerKind::adamw, .weight_decay = 0.0}), 0);
  EXPECT_EQ(weight_decay_of({.kind = OptimizerKind::adam, .weight_decay = 0.5}), 0.5);
}

TEST(OptimizerOptions, DefaultsPassAndAreTold) {
  for (OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adam, OptimizerKind::adamw})
    EXPECT_EQ(refusal({.kind = kind}), "");
  EXPECT_EQ(default_of(number("beta2")), "0.999");
  EXPECT_EQ(default_of(number("epsilon")), "1e-08");
  EXPECT_EQ(default_of(number("weight-decay")), "0; adamw: 0.01");
  EXPECT_THAT(default_of(number("loss-scale-min")), HasSubstr("--loss-scale if that is less"));
}

TEST(OptimizerOptions, NumbersOutOfRangeAreRefusedByName) {
  struct Case {
    const char* name;
    OptimizerKind kind;
    std::vector<double> good, bad;
  };
  using enum OptimizerKind;
  const Case cases[] = {
      {"momentum", sgd, {0, 0.9, 1}, {-0.1, 1.1, kNan}},
      {"dampening", sgd, {0, 1}, {-0.1, 2, kNan}},
      {"beta1", adam, {0, 0.9}, {-0.1, 1, 0.99999999, kNan}},  // 0.99999999 is 1 in f32
      {"beta2", adamw, {0, 0.9999}, {-0.1, 1, 1.5, kNan}},
      {"epsilon", adam, {1e-8, 1}, {0, -1, 1e-50, kNan}},
      {"weight-decay", sgd, {0, 0.1}, {-1, 1e31, kNan}},
      {"clip-norm", adam, {0, 5}, {-1, kNan, std::numeric_limits<double>::infinity()}},
      {"accumulate", adam, {1, 8}, {0, -1, 1.5, kNan}},
      {"loss-scale-min", adam, {1e-3, 1}, {0, -1, kNan}},
      {"loss-scale-growth", adam, {1, 2}, {0.5, kNan}},
      {"loss-scale-growth-interval", adam, {1, 100}, {0, 0.5}},
      {"loss-scale-backoff", adam, {0.25, 0.5}, {0, 1, kNan}},
  };
  for (const Case& c : cases) {
    for (const double value : c.good) {
      OptimizerOptions options{.kind = c.kind};
      EXPECT_NO_THROW(set_number(options, number(c.name), value)) << c.name << " " << value;
      EXPECT_EQ(number(c.name).get(options), value);
    }
    for (const double value : c.bad) {
      OptimizerOptions options{.kind = c.kind};
      EXPECT_THROW(set_number(options, number(c.name), value), Error) << c.name << " " << value;
      if (number(c.name).whole) continue;
      number(c.name).set(options, value);
      EXPECT_THAT(refusal(options), HasSubstr("--" + std::string(c.name))) << value;
    }
  }
}

TEST(OptimizerOptions, NumbersOfAnotherOptimizerAreRefused) {
  EXPECT_THAT(refusal({.kind = OptimizerKind::adam, .momentum = 0.9}), HasSubstr("--momentum with --optimizer sgd"));
  EXPECT_THAT(refusal({.kind = OptimizerKind::sgd, .beta1 = 0.8}), HasSubstr("--beta1 with --optimizer adam or adamw"));
  OptimizerOptions sgd{.kind = OptimizerKind::sgd};
  EXPECT_THROW(set_number(sgd, number("beta2"), 0.999), Error) << "told, even at its default";
}

TEST(OptimizerOptions, NesterovNeedsMomentumAndNoDampening) {
  using enum OptimizerKind;
  EXPECT_EQ(refusal({.kind = sgd, .momentum = 0.9, .nesterov = true}), "");
  EXPECT_THAT(refusal({.kind = sgd, .nesterov = true}), HasSubstr("--momentum above 0"));
  EXPECT_THAT(refusal({.kind = sgd, .momentum = 0.9, .dampening = 0.5, .nesterov = true}), HasSubstr("dampening 0.5"));
  EXPECT_THAT(refusal({.kind = adam, .nesterov = true}), HasSubstr("--nesterov with --optimizer sgd"));
}

TEST(LossScaleOptions, AnInitialScaleBeyondTheUsualBoundsIsABound) {
  struct Case {
    LossScaleOptions options;
    double lowest, highest;
    std::int64_t backoffs;
  };
  const Case cases[] = {
      {{.enabled = true}, 1, 16777216, 16},
      {{.enabled = true, .initial = 0.001}, 0.001, 16777216, 0},
      {{.enabled = true, .initial = 0x1p40}, 1, 0x1p40, 40},
      {{.enabled = true, .initial = 8, .min = 0.25}, 0.25, 16777216, 5},
      {{.enabled = true, .initial = 9, .backoff_factor = 0.25}, 1, 16777216, 2},
      {{.enabled = true, .initial = 8, .min = 8.0, .max = 8.0}, 8, 8, 0},
      {{.enabled = false}, 1, 16777216, 0},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(c.options.lowest(), c.lowest);
    EXPECT_EQ(c.options.highest(), c.highest);
    EXPECT_EQ(c.options.backoffs(), c.backoffs) << c.options.initial;
  }
  OptimizerOptions options;
  options.loss_scale = {.enabled = true, .initial = 2, .min = 4.0};
  EXPECT_THAT(refusal(options), HasSubstr("--loss-scale from 4"));
  options.loss_scale = {.enabled = true, .initial = 2, .max = 1.0};
  EXPECT_THAT(refusal(options), HasSubstr("to 1"));
}

}  // namespace
}  // namespace halfstep
