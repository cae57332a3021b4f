// --config: flags from a TOML file, and the file that a run leaves.
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Config : public CliTest {
 protected:
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder_ / name) << text; }
  std::string read(const std::string& name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

constexpr const char* kRun = R"(# a run
model = "mlp.onnx"
data = ["x.npy", "y.npy"]
val-data = "x.npy,y.npy"
epochs = 2
batch = 10
lr = 0.01
optimizer = "sgd"
nesterov = true
momentum = 0.5
no-shuffle = false
freeze = ["1.bias", "3.b*"]
metrics = ["accuracy", "top_k:3"]
scale = "1/2"
mean = [0.5]
std = 2
precision = "fp32"
output = "trained.onnx"
log = "log.jsonl"
)";

TEST_F(Config, EveryFlagIsAKey) {
  write("run.toml", kRun);
  const Outcome outcome = run("train --config run.toml", "HALFSTEP_PRECISION=fp16");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("epoch 2/2"), HasSubstr("optimizer  sgd, learning rate 0.01"),
                                    HasSubstr("precision  fp32"), HasSubstr("top_k:3")));
  EXPECT_EQ(read_log("log.jsonl").size(), 8u);
  EXPECT_TRUE(fs::exists(folder_ / "trained.onnx"));
}

TEST_F(Config, ParameterGroupsAreAList) {
  const std::string groups = R"(parameter-group = ["1.*:lr_factor=0.5,weight_decay=0.1", "*:frozen_updates=2"])";
  write("run.toml", std::string(kRun) + groups + "\n");
  const Outcome outcome = run("train --config run.toml --checkpoint kept");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(read("trained.toml"), HasSubstr("'*:frozen_updates=2'"));
  const Outcome other = run("train --config run.toml --resume kept --epochs 3 --parameter-group '1.*:lr_factor=2'");
  EXPECT_EQ(other.exit_code, 0) << other.text;
  EXPECT_THAT(other.text, HasSubstr("resuming with --parameter-group 1.*:lr_factor=2; the checkpoint was made with "
                                    "1.*:lr_factor=0.5,weight_decay=0.1 *:lr_factor=1,frozen_updates=2"));
  const struct {
    const char *group, *says;
  } cases[] = {{"layer9.*:lr_factor=2", "a group with at least one parameter of its own, got 'layer9.*'"},
               {"1.*", "a parameter group as PATTERN:KEY=VALUE"},
               {"1.*:lr=2", "got 'lr'"},
               {"1.*:beta1=0.5", "got 'beta1'"}};
  for (const auto& c : cases) {
    const Outcome wrong = run(std::string("train --config run.toml --parameter-group '") + c.group + "'");
    EXPECT_EQ(wrong.exit_code, 2) << c.group;
    EXPECT_THAT(wrong.text, HasSubstr(c.says)) << c.group;
  }
}

TEST_F(Config, FlagsOfTheCallWin) {
  write("run.toml", kRun);
  const Outcome outcome =
      run("train --config run.toml --lr 0.5 --steps 3 --nesterov=false --precision bf16 -o other.onnx",
          "HALFSTEP_PRECISION=bf16");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("learning rate 0.5"), HasSubstr("precision  bf16")));
  EXPECT_EQ(read_log("log.jsonl").size(), 3u);
  EXPECT_TRUE(fs::exists(folder_ / "other.onnx"));
  EXPECT_FALSE(fs::exists(folder_ / "trained.onnx"));
}

TEST_F(Config, WhatARunLeavesRepeatsIt) {
  const std::string flags =
      "train mlp.onnx --data x.npy,y.npy --steps 6 --batch 7 --seed 18446744073709551615 --lr 1e-2 "
      "--freeze '1.b*,3.[b]ias' --mean .5 --precision fp32 --clip-norm 1 -o first.onnx";
  const Outcome first = run(flags);
  ASSERT_EQ(first.exit_code, 0) << first.text;
  EXPECT_THAT(first.output, HasSubstr("first.toml"));
  EXPECT_THAT(read("first.toml"),
              AllOf(HasSubstr("\nsteps = 6\n"), HasSubstr("\nlr = 0.01\n"), Not(HasSubstr("\nepochs"))));
  const std::string model = read("first.onnx");
  fs::remove(folder_ / "first.onnx");
  const Outcome again = run("train --config first.toml");
  ASSERT_EQ(again.exit_code, 0) << again.text;
  EXPECT_TRUE(read("first.onnx") == model);
  EXPECT_EQ(run("train mlp.onnx --data x.npy,y.npy --steps 2 --checkpoint kept").exit_code, 0);
  const Outcome resumed = run("train --config kept/run.toml --resume kept --steps 3 --log resumed.jsonl");
  EXPECT_EQ(resumed.exit_code, 0) << resumed.text;
  EXPECT_EQ(read_log("resumed.jsonl").size(), 1u);
}

TEST_F(Config, FlagsThatNoFileCanHoldAreFoundBeforeTheRun) {
  write("run.toml", kRun);
  const Outcome outcome = run("train --config run.toml -o 'a\xff.onnx'");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("the flags of this run will not be written"));
  EXPECT_TRUE(fs::exists(folder_ / "a\xff.onnx"));
  const Outcome asked = run("train --config run.toml --save-config c.toml -o 'b\xff.onnx'");
  EXPECT_EQ(asked.exit_code, 2) << asked.text;
  EXPECT_THAT(asked.text, HasSubstr("flags in UTF-8"));
  EXPECT_FALSE(fs::exists(folder_ / "b\xff.onnx"));
}

TEST_F(Config, NoFileOfAnotherKindIsReplaced) {
  write("run.toml", kRun);
  const Outcome outcome = run("train --config run.toml -o run.onnx");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("run.toml exists with other contents"));
  EXPECT_EQ(read("run.toml"), kRun);
  EXPECT_EQ(run("train --config run.toml --save-config none -o a.onnx").exit_code, 0);
  EXPECT_FALSE(fs::exists(folder_ / "a.toml"));
  EXPECT_EQ(run("train --config run.toml --save-config b.toml -o a.onnx").exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "b.toml"));
  EXPECT_EQ(run("train mlp.onnx --data x.npy,y.npy --steps 1 --checkpoint c").exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "c" / "run.toml"));
  const Outcome taken = run("train --config run.toml --save-config x.npy -o a.onnx");
  EXPECT_EQ(taken.exit_code, 2);
  EXPECT_THAT(taken.text, HasSubstr("x.npy, which is read"));
}

TEST_F(Config, ErrorsNameFileAndLine) {
  const struct {
    const char* text;
    const char* error;
  } cases[] = {
      {"lr = 0.1\nlearning-rat = 3\n", "expected flags of halfstep train as keys, got 'learning-rat' in run.toml:2"},
      {"learning-rate = 3", "Hint: did you mean 'lr'?"},
      {"epoch = 3", "Hint: did you mean 'epochs'?"},
      {"config = \"run.toml\"", "got 'config' in run.toml:1"},
      {"lr = \"fast\"", "expected a number for lr, got the string 'fast' in run.toml:1"},
      {"lr = -1", "expected a number of at least 0 for --lr, got '-1' in run.toml:1"},
      {"\nepochs = 2.5", "expected a whole number for epochs, got 2.5 in run.toml:2"},
      {"epochs = 0", "expected a whole number from 1 to"},
      {"epochs = true", "expected a whole number for epochs, got true in run.toml:1"},
      {"no-shuffle = \"yes\"", "expected true or false for no-shuffle, got the string 'yes' in run.toml:1"},
      {"optimizer = 3.5", "expected a string for optimizer, got 3.5"},
      {"mean = [0.5, \"a\"]", "expected a number in the array mean, got the string 'a' in run.toml:1"},
      {"output-form = \"onnx\"", "expected inference or training for --output-form, got 'onnx' in run.toml:1"},
      {"epochs = [1]", "expected a whole number for epochs, got an array in run.toml:1"},
      {"[train]\nlr = 1", "got 'train' in run.toml:1"},
      {"lr = 1\nlr 2\n", "expected TOML, got run.toml:2: "},
      {"output = \"a\xff\"", "expected TOML, got run.toml:1: "},
      {"epochs = 1\nsteps = 1", "expected one of"},
  };
  for (const auto& [text, error] : cases) {
    write("run.toml", text);
    const Outcome outcome = run("train mlp.onnx --data x.npy,y.npy --config run.toml");
    EXPECT_EQ(outcome.exit_code, 2) << text << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr(error)) << text;
  }
  EXPECT_THAT(run("train mlp.onnx --data x.npy,y.npy --config none.toml").text,
              HasSubstr("expected a file for --config, got nothing at none.toml"));
  EXPECT_THAT(run("train mlp.onnx --data x.npy,y.npy --config .").text, HasSubstr("a TOML file of at most 1 MiB"));
  // A call is wrong by itself, whatever the file says.
  write("run.toml", "epochs = 1\n");
  EXPECT_THAT(run("train --config run.toml").text, HasSubstr("expected MODEL.onnx, got none"));
  EXPECT_THAT(run("train --resume kept").text,
              HasSubstr("add --config with the file of the run's, such as kept/run.toml"));
  EXPECT_THAT(run("train mlp.onnx --data x.npy,y.npy --confg run.toml").text, HasSubstr("did you mean '--config'?"));
}

TEST_F(Config, OtherCommandsTakeOneToo) {
  write("evaluate.toml", "model = \"mlp.onnx\"\ndata = \"x.npy,y.npy\"\njson = true\n");
  const Outcome evaluated = run("evaluate --config evaluate.toml");
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.text;
  EXPECT_EQ(nlohmann::json::parse(evaluated.output)["rows"], 40);
  write(
      "convert.toml",
      "model = \"mlp.onnx\"\noutput = \"half.onnx\"\nprecision = \"fp16\"\nkeep-io-types = true\nverify = [\"x.npy\"]\n"
      "report = [\"a.json\", \"b.html\"]\nmax-error = 0.5\ncalibrate = \"x.npy\"\n");
  const Outcome converted = run("convert --config convert.toml");
  EXPECT_EQ(converted.exit_code, 0) << converted.text;
  for (const char* file : {"half.onnx", "a.json", "b.html"}) EXPECT_TRUE(fs::exists(folder_ / file)) << file;
  write("run.toml", "input = [\"x.npy\"]\noutput = \"out.npz\"\n");
  EXPECT_EQ(run("run mlp.onnx --config run.toml").exit_code, 0);
  write("devices.toml", "json = true\n");
  EXPECT_TRUE(nlohmann::json::accept(run("devices --config devices.toml").output));
}

}  // namespace
}  // namespace halfstep
