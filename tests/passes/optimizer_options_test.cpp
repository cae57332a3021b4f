// Defaults and ranges of the optimizer's numbers.
#include <limits>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/base/error.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace halfstep {
namespace {

using testing::AllOf;
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

TEST(OptimizerOptions, NumbersAreTheRowsUnlessTheyAreTold) {
  EXPECT_EQ(hyperparameters_of({.name = "adam"})["weight_decay"], 0);
  EXPECT_EQ(hyperparameters_of({.name = "adamw"})["weight_decay"], 0.01);
  EXPECT_EQ(hyperparameters_of({.name = "adamw", .numbers = {{"weight_decay", 0}}})["weight_decay"], 0);
  EXPECT_EQ(number("beta2").get({.name = "lion"}), 0.99);
  EXPECT_EQ(number("beta2").get({.name = "lion", .numbers = {{"beta2", 0.5}}}), 0.5);
}

TEST(OptimizerOptions, DefaultsPassAndAreTold) {
  for (const OptimizerDef& row : optimizers()) EXPECT_EQ(refusal({.name = std::string(row.name)}), "");
  EXPECT_EQ(OptimizerOptions().name, "adam");
  EXPECT_EQ(default_of(number("beta2")), "0.999; lion: 0.99");
  EXPECT_EQ(default_of(number("epsilon")), "1e-08; adagrad: 1e-10; lamb: 1e-06");
  EXPECT_EQ(default_of(number("weight-decay")), "0; adamw, lamb: 0.01");
  EXPECT_THAT(default_of(number("loss-scale-min")), HasSubstr("--loss-scale if that is less"));
}

TEST(OptimizerOptions, OneFlagHasOneRange) {
  for (const OptimizerNumber& n : optimizer_numbers())
    for (const OptimizerDef* owner : n.owners) {
      const Hyperparameter& h = *owner->find(n.hyperparameter);
      EXPECT_EQ(std::tuple(h.lowest, h.highest, h.below_highest, h.is_switch),
                std::tuple(n.lowest, n.highest, n.below_highest, n.is_switch))
          << owner->name << ' ' << n.name;
    }
}

TEST(OptimizerOptions, NumbersOutOfRangeAreRefusedByName) {
  struct Case {
    const char* name;
    const char* optimizer;
    std::vector<double> good, bad;
  };
  const Case cases[] = {
      {"momentum", "sgd", {0, 0.9, 1}, {-0.1, 1.1, kNan}},
      {"dampening", "sgd", {0, 1}, {-0.1, 2, kNan}},
      {"beta1", "adam", {0, 0.9}, {-0.1, 1, 0.99999999, kNan}},  // 0.99999999 is 1 in f32
      {"beta2", "adamw", {0, 0.9999}, {-0.1, 1, 1.5, kNan}},
      {"epsilon", "adam", {1e-8, 1}, {0, -1, 1e-50, kNan}},
      {"weight-decay", "sgd", {0, 0.1}, {-1, 1e31, kNan}},
      {"lr-decay", "adagrad", {0, 1}, {-1, kNan}},
      {"beta2-decay", "adafactor", {-0.8, 0}, {0.1, -1000, kNan}},
      {"clip-norm", "adam", {0, 5}, {-1, kNan, std::numeric_limits<double>::infinity()}},
      {"accumulate", "adam", {1, 8}, {0, -1, 1.5, kNan}},
      {"loss-scale-min", "adam", {1e-3, 1}, {0, -1, kNan}},
      {"loss-scale-growth", "adam", {1, 2}, {0.5, kNan}},
      {"loss-scale-growth-interval", "adam", {1, 100}, {0, 0.5}},
      {"loss-scale-backoff", "adam", {0.25, 0.5}, {0, 1, kNan}},
  };
  for (const Case& c : cases) {
    for (const double value : c.good) {
      OptimizerOptions options{.name = c.optimizer};
      EXPECT_NO_THROW(set_number(options, number(c.name), value)) << c.name << " " << value;
      EXPECT_EQ(number(c.name).get(options), value);
    }
    for (const double value : c.bad) {
      OptimizerOptions options{.name = c.optimizer};
      EXPECT_THROW(set_number(options, number(c.name), value), Error) << c.name << " " << value;
      if (number(c.name).whole) continue;
      if (number(c.name).set_member)
        number(c.name).set_member(options, value);
      else
        options.numbers[std::string(number(c.name).hyperparameter)] = value;
      EXPECT_THAT(refusal(options), HasSubstr("--" + std::string(c.name))) << value;
    }
  }
}

TEST(OptimizerOptions, NumbersOfAnotherOptimizerAreRefusedWithTheOnesThereAre) {
  EXPECT_THAT(refusal({.name = "adam", .numbers = {{"momentum", 0.9}}}),
              AllOf(HasSubstr("--optimizer adam: --beta1, --beta2, --epsilon, --weight-decay, got --momentum"),
                    HasSubstr("use --optimizer sgd or rmsprop")));
  EXPECT_THAT(refusal({.name = "sgd", .numbers = {{"temperature", 1}}}), HasSubstr("got --temperature"));
  EXPECT_THAT(refusal({.name = "tiger"}), HasSubstr("an optimizer: adam, adamw, sgd, lion"));
  OptimizerOptions sgd{.name = "sgd"};
  EXPECT_THROW(set_number(sgd, number("beta2"), 0.999), Error) << "told, even at its default";
}

TEST(OptimizerOptions, NesterovNeedsMomentumAndNoDampening) {
  EXPECT_EQ(refusal({.name = "sgd", .numbers = {{"momentum", 0.9}, {"nesterov", 1}}}), "");
  EXPECT_THAT(refusal({.name = "sgd", .numbers = {{"nesterov", 1}}}), HasSubstr("--momentum above 0"));
  EXPECT_THAT(refusal({.name = "sgd", .numbers = {{"momentum", 0.9}, {"dampening", 0.5}, {"nesterov", 1}}}),
              HasSubstr("dampening 0.5"));
  EXPECT_THAT(refusal({.name = "adam", .numbers = {{"nesterov", 1}}}), HasSubstr("got --nesterov"));
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
