// Parameter groups as text, and where they are checked.
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include <halfstep/executors/executor.h>
#include <halfstep/passes/step/parameter_group.h>
#include <halfstep/training/trainer.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(ParameterGroups, AreReadFromTextAndWrittenAsIt) {
  const ParameterGroup group = parse_parameter_group("m/a:0/*:lr_factor=0.1,weight_decay=0,frozen_updates=100");
  EXPECT_EQ(group, (ParameterGroup{"m/a:0/*", 0.1, 100, {{"weight_decay", 0}}})) << "a name may have colons";
  EXPECT_EQ(parse_parameter_group(to_string(group)), group);
  const ParameterGroup plain{"b"};
  EXPECT_EQ(parse_parameter_group(to_string(plain)), plain);
}

TEST(ParameterGroups, SayWhatIsWrongWithAText) {
  const struct {
    const char *text, *says;
  } cases[] = {
      {"b", "a parameter group as PATTERN:KEY=VALUE,..., got 'b'"},
      {":lr_factor=1", "a parameter group as"},
      {"b:", "a parameter group as"},
      {"b:lr_factor", "got 'lr_factor' in 'b:lr_factor'"},
      {"b:lr_factor=1,,weight_decay=0", "got '' in"},
      {"b:lr_factor=fast", "a number for lr_factor in 'b:lr_factor=fast', got 'fast'"},
      {"b:frozen_updates=1.5", "a whole number for frozen_updates"},
      {"b:lr_factor=1,lr_factor=2", "'lr_factor' twice"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(error_of(Error::Kind::input, [&] { parse_parameter_group(c.text); }), HasSubstr(c.says)) << c.text;
}

TEST(ParameterGroups, SayWhichKeysThereAre) {
  const struct {
    const char *text, *optimizer, *says;
  } cases[] = {
      {"b:speed=1", "adam",
       "expected the keys of a parameter group with the optimizer adam: lr_factor, frozen_updates, beta1"},
      {"b:speed=1", "adam", "got 'speed' for 'b'"},
      {"b:beta1=0.5", "sgd", "the keys of a parameter group with the optimizer sgd"},
      {"b:weight-decay=0", "adam", "got 'weight-decay' for 'b'"},
      {"b:weight_decay=-1", "adam", "expected weight_decay of 'b' as a number from 0"},
  };
  for (const auto& c : cases) {
    OptimizerOptions options{.name = c.optimizer};
    options.groups = {parse_parameter_group(c.text)};
    const std::string text = error_of(Error::Kind::input, [&] { check(options); });
    EXPECT_THAT(text, HasSubstr(c.says)) << c.text;
    EXPECT_EQ(text.find("--"), std::string::npos) << "a group has keys, no flags: " << text;
  }
}

TEST(ParameterGroups, OfNoParameterAreRefusedBeforeAnythingRuns) {
  const auto executor = make_reference_executor();
  TrainingStepOptions step;
  step.optimizer.groups = {{"b"}, {"layer*"}};
  EXPECT_THAT(error_of(Error::Kind::input, [&] { TrainingStep(small_model(), *executor, step); }),
              HasSubstr("got 'layer*'"));
  step.optimizer.groups = {{"*"}, {"b"}};
  EXPECT_THAT(error_of(Error::Kind::input, [&] { TrainingStep(small_model(), *executor, step); }), HasSubstr("got 'b'"))
      << "the first has all";
  TrainerOptions options;
  options.optimizer.groups = {{"layer*"}};
  EXPECT_THAT(error_of(Error::Kind::input, [&] { Trainer(small_model(), *executor, small_rows(), options); }),
              HasSubstr("got 'layer*'"));
}

TEST(ParameterGroups, AreRememberedByACheckpoint) {
  const TemporaryDirectory directory;
  const auto executor = make_reference_executor();
  TrainerOptions options{.precision = Precision::fp32, .epochs = 1, .batch_size = 4, .checkpoint = directory.path()};
  options.optimizer.groups = {parse_parameter_group("b:lr_factor=0.1")};
  Trainer(small_model(), *executor, small_rows(), options).fit({});
  options.epochs = 2;
  options.resume = directory.path();
  options.optimizer.groups = {parse_parameter_group("b:lr_factor=0.2,frozen_updates=3")};
  std::vector<std::string> notices;
  Trainer(small_model(), *executor, small_rows(), options).fit({.on_notice = [&](const std::string& text) {
    notices.push_back(text);
  }});
  EXPECT_THAT(notices, Contains("resuming with --parameter-group b:lr_factor=0.2,frozen_updates=3; the checkpoint was "
                                "made with b:lr_factor=0.1"));
}

}  // namespace
}  // namespace halfstep
