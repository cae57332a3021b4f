// The command line as scripts see it: exit codes, messages, files.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "data/npy.h"
#include "data/npz.h"
#include "graph/tensor.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int exit_code = -1;
  std::string output;  ///< standard output
  std::string text;    ///< standard output, then standard error
};

/// Runs `halfstep ARGUMENTS` in the shell, in the folder `where`.
Outcome halfstep(const fs::path& where, const std::string& arguments, const std::string& environment = "") {
  const std::string command = "cd '" + where.string() + "' && " + environment + " '" HALFSTEP_PROGRAM "' " + arguments +
                              " 2>standard_error </dev/null";
  Outcome outcome;
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return outcome;
  std::array<char, 4096> buffer;
  while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.output.append(buffer.data(), count);
  const int status = pclose(pipe);
  std::ifstream errors(where / "standard_error");
  outcome.text = outcome.output + std::string(std::istreambuf_iterator<char>(errors), {});
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

/// A folder with mlp.onnx (784 inputs, 10 classes) and 40 rows of data in x.npy and y.npy.
class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "halfstep_cli_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    fs::copy_file(fs::path(HALFSTEP_SOURCE_DIR) / "models" / "mnist_mlp.onnx", folder_ / "mlp.onnx");
    constexpr std::int64_t kRows = 40, kFeatures = 784, kClasses = 10;
    Tensor x(DType::f32, {kRows, kFeatures}), y(DType::i64, {kRows});
    for (std::int64_t row = 0; row < kRows; ++row) {
      const std::int64_t label = row % kClasses;
      y.data<std::int64_t>()[row] = label;
      for (std::int64_t i = 0; i < kFeatures; ++i)
        x.data<float>()[row * kFeatures + i] = i % kClasses == label ? 1.0f : 0.0f;
    }
    write_npy(folder_ / "x.npy", x);
    write_npy(folder_ / "y.npy", y);
    write_npy(folder_ / "short.npy", y.rows(0, kRows - 1).clone());
    std::ofstream(folder_ / "garbage.onnx") << "this is no model at all\n";
  }
  void TearDown() override { fs::remove_all(folder_); }

  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    return halfstep(folder_, arguments, environment);
  }
  std::vector<nlohmann::json> read_log(const std::string& name) const {
    std::vector<nlohmann::json> lines;
    std::ifstream file(folder_ / name);
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

  fs::path folder_;
};

TEST_F(CliTest, HelpAndVersionExitWithZero) {
  for (const char* arguments : {"--help", "train --help", "evaluate --help", "run --help", "convert --help",
                                "inspect --help", "devices --help", "check --help", "--version"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.text;
    EXPECT_FALSE(outcome.text.empty()) << arguments;
  }
}

TEST_F(CliTest, WrongCallsAndInputsExitWithTwoAndSayWhy) {
  struct Case {
    const char* arguments;
    const char* says;
  };
  const Case cases[] = {
      {"", "subcommand"},
      {"paint", "paint"},
      {"train mlp.onnx --data x.npy,y.npy --colour red", "--colour"},
      {"train mlp.onnx", "--data"},
      {"train missing.onnx --data x.npy,y.npy", "missing.onnx"},
      {"train garbage.onnx --data x.npy,y.npy", "garbage.onnx"},
      {"inspect garbage.onnx", "garbage.onnx"},
      {"train mlp.onnx --data x.npy,missing.npy", "missing.npy"},
      {"train mlp.onnx --data x.npy,short.npy", "39"},
      {"train mlp.onnx --data x.npy,y.npy --lr-schedule exponential:decay_stepz=3,decay_rate=0.9", "decay_stepz"},
      {"train mlp.onnx --data x.npy,y.npy --lr-schedule sawtooth", "sawtooth"},
      {"train mlp.onnx --data x.npy,y.npy --loss cubic", "cubic"},
      {"train mlp.onnx --data x.npy,y.npy --optimizer lion", "lion"},
      {"train mlp.onnx --data x.npy,y.npy --optimizer adam --momentum 0.9", "--momentum"},
      {"train mlp.onnx --data x.npy,y.npy --metrics beauty", "beauty"},
      {"train mlp.onnx --data x.npy,y.npy --precision fp17", "fp17"},
      {"train mlp.onnx --data x.npy,y.npy --executor abacus", "abacus"},
      {"train mlp.onnx --data x.npy,y.npy --plugin missing.so", "missing.so"},
      {"train mlp.onnx --data x.npy,y.npy --batch 0", "--batch"},
      {"train mlp.onnx --data x.npy,y.npy --epochs 1 --steps 1", "--epochs"},
      {"train mlp.onnx --data x.npy,y.npy --freeze 'nothing*'", "nothing*"},
      {"train mlp.onnx --data x.npy,y.npy --scale 1/0", "1/0"},
      {"train mlp.onnx --data x.npy,y.npy --resume missing", "missing"},
      {"train mlp.onnx --data x.npy,y.npy -o same.onnx --fp16-output same.onnx", "same.onnx"},
      {"evaluate mlp.onnx --data x.npy,short.npy", "39"},
      {"run mlp.onnx --input nobody=x.npy -o out.npz", "nobody"},
      {"run mlp.onnx --input y.npy -o out.npz", "784"},
      {"convert mlp.onnx -o out.onnx --precision fp32", "fp32"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = run(c.arguments);
    EXPECT_EQ(outcome.exit_code, 2) << c.arguments << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("halfstep: ")) << c.arguments;
    EXPECT_THAT(outcome.text, HasSubstr(c.says)) << c.arguments;
  }
}

TEST_F(CliTest, OutputThatCannotBeWrittenIsFoundBeforeTraining) {
  for (const char* flag : {"-o", "--fp16-output", "--curve", "--log"}) {
    const Outcome outcome =
        run("train mlp.onnx --data x.npy,y.npy --epochs 1 " + std::string(flag) + " no/such/folder/file");
    EXPECT_THAT(outcome.exit_code, testing::AnyOf(1, 2)) << flag << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("no/such/folder")) << flag;
    EXPECT_THAT(outcome.text, Not(HasSubstr("epoch"))) << flag;
  }
}

TEST_F(CliTest, PrecisionComesFromTheEnvironmentUnlessAFlagSaysOtherwise) {
  const Outcome wrong = run("train mlp.onnx --data x.npy,y.npy --steps 1", "HALFSTEP_PRECISION=fp17");
  EXPECT_EQ(wrong.exit_code, 2) << wrong.text;
  EXPECT_THAT(wrong.text, HasSubstr("fp17"));
  const Outcome flag = run("train mlp.onnx --data x.npy,y.npy --steps 1 --precision fp32", "HALFSTEP_PRECISION=fp17");
  EXPECT_EQ(flag.exit_code, 0) << flag.text;
  const Outcome half = run("evaluate mlp.onnx --data x.npy,y.npy --json", "HALFSTEP_PRECISION=bf16");
  ASSERT_EQ(half.exit_code, 0) << half.text;
  EXPECT_THAT(half.text, HasSubstr("\"bf16\""));
}

TEST_F(CliTest, TrainingWritesModelsLogAndCurve) {
  const Outcome trained = run(
      "train mlp.onnx --data x.npy,y.npy --val-data x.npy,y.npy --epochs 5 --batch 16 --precision fp32 -o trained.onnx "
      "--fp16-output half.onnx --log log.jsonl --log-grad-norms --curve curve.svg");
  ASSERT_EQ(trained.exit_code, 0) << trained.text;
  EXPECT_TRUE(fs::exists(folder_ / "trained.onnx"));
  EXPECT_LT(fs::file_size(folder_ / "half.onnx"), fs::file_size(folder_ / "trained.onnx") * 6 / 10);
  EXPECT_TRUE(fs::exists(folder_ / "curve.svg"));

  const std::vector<nlohmann::json> log = read_log("log.jsonl");
  ASSERT_EQ(log.size(), 15u);  // 40 rows are two batches of 16 and one of 8
  EXPECT_EQ(log.front()["step"], 1);
  EXPECT_EQ(log.back()["step"], 15);
  EXPECT_EQ(log.back()["epoch"], 4);
  EXPECT_LT(log.back()["loss"].get<double>(), log.front()["loss"].get<double>());
  EXPECT_EQ(log.front()["grad_norms"].size(), 4u);

  const Outcome before = run("evaluate mlp.onnx --data x.npy,y.npy --precision fp32 --json");
  const Outcome after = run("evaluate trained.onnx --data x.npy,y.npy --precision fp32 --json");
  ASSERT_EQ(before.exit_code, 0) << before.text;
  ASSERT_EQ(after.exit_code, 0) << after.text;
  const nlohmann::json first = nlohmann::json::parse(before.output), last = nlohmann::json::parse(after.output);
  EXPECT_EQ(last["rows"], 40);
  EXPECT_LT(last["loss"].get<double>(), first["loss"].get<double>());
  EXPECT_GT(last["metrics"]["accuracy"].get<double>(), first["metrics"]["accuracy"].get<double>());
}

TEST_F(CliTest, ResumedRunEndsWhereAnUninterruptedOneDoes) {
  const std::string common = "train mlp.onnx --data x.npy,y.npy --batch 16 --precision fp32 --seed 3 ";
  const Outcome whole = run(common + "--steps 8 -o whole.onnx");
  ASSERT_EQ(whole.exit_code, 0) << whole.text;
  const Outcome first = run(common + "--steps 4 --checkpoint checkpoint --log log.jsonl");
  ASSERT_EQ(first.exit_code, 0) << first.text;
  const Outcome rest = run(common + "--steps 8 --resume checkpoint --log log.jsonl -o resumed.onnx");
  ASSERT_EQ(rest.exit_code, 0) << rest.text;
  const auto bytes = [&](const char* name) {
    std::ifstream file(folder_ / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_TRUE(bytes("whole.onnx") == bytes("resumed.onnx")) << "the models differ";
  const std::vector<nlohmann::json> log = read_log("log.jsonl");
  ASSERT_EQ(log.size(), 8u);
  for (std::size_t i = 0; i < log.size(); ++i) EXPECT_EQ(log[i]["step"], i + 1);
}

TEST_F(CliTest, OverflowSkipsStepsUntilTheLossScaleFits) {
  const Outcome trained = run(
      "train mlp.onnx --data x.npy,y.npy --precision fp16 --loss-scale 1e30 --batch 40 --steps 150 --log log.jsonl");
  ASSERT_EQ(trained.exit_code, 0) << trained.text;
  const std::vector<nlohmann::json> log = read_log("log.jsonl");
  ASSERT_EQ(log.size(), 150u);
  EXPECT_FALSE(log.front()["grads_finite"].get<bool>());
  constexpr double kLargestScale = 1 << 24;  // what a first scale above it falls to
  for (std::size_t i = 0; i + 1 < log.size(); ++i) {
    if (log[i]["grads_finite"].get<bool>()) continue;
    const double scale = log[i]["loss_scale"].get<double>(), next = log[i + 1]["loss_scale"].get<double>();
    EXPECT_EQ(next, std::min(scale / 2, kLargestScale)) << "after step " << i + 1;
  }
  EXPECT_TRUE(log.back()["grads_finite"].get<bool>());
  EXPECT_LT(log.back()["loss"].get<double>(), log.front()["loss"].get<double>() / 2);
}

TEST_F(CliTest, InterruptedRunLeavesACheckpointAndExitsWithZero) {
  const std::string command = "cd '" + folder_.string() +
                              "' && exec '" HALFSTEP_PROGRAM
                              "' train mlp.onnx --data x.npy,y.npy --epochs 100000000 --checkpoint checkpoint "
                              "--checkpoint-every 100000000 --log log.jsonl >output 2>&1 & run=$!; "
                              "while kill -0 $run && [ ! -s '" +
                              (folder_ / "log.jsonl").string() + "' ]; do sleep 0.05; done; kill -INT $run; wait $run";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(fs::exists(folder_ / "checkpoint" / "checkpoint.safetensors"));
}

TEST_F(CliTest, DumpedPassesAreModels) {
  const Outcome trained = run("train mlp.onnx --data x.npy,y.npy --steps 1 --dump-passes stages");
  ASSERT_EQ(trained.exit_code, 0) << trained.text;
  EXPECT_TRUE(fs::exists(folder_ / "stages" / "00_source.onnx"));
  std::size_t stages = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "stages")) stages += entry.path().extension() == ".onnx";
  EXPECT_GT(stages, 5u);
}

TEST_F(CliTest, RunWritesEveryOutputUnderItsName) {
  const Outcome outcome = run("run mlp.onnx --input x.npy -o out.npz --precision fp32");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const NpzFile file(folder_ / "out.npz");
  ASSERT_EQ(file.names().size(), 1u);
  const Tensor output = file.open(file.names()[0]).load();
  EXPECT_EQ(output.shape(), Shape({40, 10}));
}

TEST_F(CliTest, ConvertedModelGivesTheSamePredictions) {
  const Outcome converted = run("convert mlp.onnx -o half.onnx --precision fp16 --keep-io-types");
  ASSERT_EQ(converted.exit_code, 0) << converted.text;
  for (const char* model : {"mlp", "half"}) {
    const Outcome outcome =
        run("run " + std::string(model) + ".onnx --input x.npy --precision fp32 -o " + model + ".npz");
    ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  }
  const NpzFile full(folder_ / "mlp.npz"), half(folder_ / "half.npz");
  ASSERT_EQ(full.names(), half.names());
  const std::vector<double> a = to_doubles(full.open(full.names()[0]).load());
  const std::vector<double> b = to_doubles(half.open(half.names()[0]).load());
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 5e-3 * std::max(1.0, std::abs(a[i]))) << i;
}

TEST_F(CliTest, InspectTellsInputsParametersAndPlan) {
  const Outcome outcome = run("inspect mlp.onnx --trainable --plan --precision fp32 --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["inputs"].size(), 1u);
  EXPECT_EQ(json["inputs"][0]["shape"], "[?, 784]");
  EXPECT_EQ(json["initializers"]["elements"], 784 * 128 + 128 + 128 * 10 + 10);
  EXPECT_EQ(json["trainable"].size(), 4u);
  EXPECT_FALSE(json["plan"]["nodes"].empty());
  EXPECT_EQ(run("inspect mlp.onnx --trainable --plan").exit_code, 0);
}

TEST_F(CliTest, DevicesTellsEveryExecutor) {
  const Outcome outcome = run("devices --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json executors = nlohmann::json::parse(outcome.output)["executors"];
  EXPECT_EQ(executors.size(), 3u);
  for (const nlohmann::json& executor : executors) {
    if (executor["available"]) {
      EXPECT_FALSE(executor["auto_reason"].get<std::string>().empty()) << executor;
    } else {
      EXPECT_FALSE(executor["reason"].get<std::string>().empty()) << executor;
    }
  }
  EXPECT_THAT(run("devices").text, HasSubstr("--precision auto takes"));
}

}  // namespace
}  // namespace halfstep
