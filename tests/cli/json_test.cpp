// --json: one object on standard output, and nothing else there.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(CliTest, EveryCommandHasJson) {
  for (const char* arguments : {"train mlp.onnx --data x.npy,y.npy --val-data x.npy,y.npy --epochs 1 -o t.onnx",
                                "evaluate mlp.onnx --data x.npy,y.npy", "run mlp.onnx --input x.npy -o out.npz",
                                "convert mlp.onnx -o half.onnx --precision fp16 --verify x.npy",
                                "convert mlp.onnx --dry-run --precision bf16 --calibrate x.npy --max-error 0.1",
                                "inspect mlp.onnx --plan --parameters", "profile mlp.onnx --steps 1", "devices",
                                "check --op Relu --kind execution --dtype f32"}) {
    const Outcome outcome = run(arguments + std::string(" --json"));
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.text;
    const nlohmann::json json = nlohmann::json::parse(outcome.output, nullptr, false);
    EXPECT_TRUE(json.is_object()) << arguments << "\n" << outcome.output;
  }
}

TEST_F(CliTest, TrainingsJsonTellsTheResult) {
  const Outcome outcome =
      run("train mlp.onnx --data x.npy,y.npy --val-data x.npy,y.npy --epochs 3 --precision fp32 -o trained.onnx "
          "--executor reference --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["finished"], true);
  EXPECT_EQ(json["steps"], 6);
  EXPECT_EQ(json["parameters"], 784 * 128 + 128 + 128 * 10 + 10);
  EXPECT_EQ(json["executor"], "reference");
  EXPECT_EQ(json["precision"], "fp32");
  EXPECT_EQ(json["loss_function"], "softmax_cross_entropy");
  EXPECT_EQ(json["output"], "trained.onnx");
  EXPECT_GT(json["last_epoch"]["loss"].get<double>(), json["validation"]["loss"].get<double>());
  EXPECT_TRUE(json["last_epoch"].contains("accuracy"));
  EXPECT_THAT(outcome.text, HasSubstr("epoch 3/3"));  // for people, on standard error

  const Outcome checked = run("evaluate trained.onnx --data x.npy,y.npy --executor reference --json");
  ASSERT_EQ(checked.exit_code, 0) << checked.text;
  EXPECT_NEAR(nlohmann::json::parse(checked.output)["loss"].get<double>(), json["validation"]["loss"].get<double>(),
              1e-6);
}

TEST_F(CliTest, RunsJsonTellsTheOutputs) {
  const Outcome outcome = run("run mlp.onnx --input x.npy -o out.npz --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["file"], "out.npz");
  ASSERT_EQ(json["outputs"].size(), 1u);
  EXPECT_EQ(json["outputs"][0]["type"], "f32");
  EXPECT_EQ(json["outputs"][0]["shape"], nlohmann::json({40, 10}));
}

TEST_F(CliTest, ShapesAreLists) {
  const Outcome outcome = run("inspect mlp.onnx --parameters --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["inputs"][0]["shape"], nlohmann::json({nullptr, 784}));
  EXPECT_EQ(json["outputs"][0]["shape"], nlohmann::json({nullptr, 10}));
  EXPECT_EQ(json["trainable"]["parameters"][0]["shape"], nlohmann::json({128, 784}));
  EXPECT_THAT(run("inspect mlp.onnx").output, HasSubstr("[?, 784]"));
}

TEST_F(CliTest, ALogTellsThatAnEpochIsNotWhole) {
  const std::string train = "train mlp.onnx --data x.npy,y.npy --executor reference --checkpoint c --log log.jsonl ";
  const auto epochs = [&] {
    std::vector<std::string> found;
    std::ifstream log(folder_ / "log.jsonl");
    for (std::string line; std::getline(log, line);) {
      const nlohmann::json record = nlohmann::json::parse(line);
      if (record.contains("train"))
        found.push_back(record["epoch"].dump() + (record.value("partial", false) ? " partial" : ""));
    }
    return found;
  };
  ASSERT_EQ(run(train + "--steps 3").exit_code, 0);  // an epoch has two
  EXPECT_THAT(epochs(), testing::ElementsAre("1", "2 partial"));
  ASSERT_EQ(run(train + "--epochs 2 --resume c").exit_code, 0);
  EXPECT_THAT(epochs(), testing::ElementsAre("1", "2"));
}

TEST_F(CliTest, ErrorsAreDocumentsToo) {
  std::ofstream(folder_ / "run.toml") << "json = true\n";
  for (const char* arguments :
       {"train mlp.onnx --data x.npy,short.npy --json", "train mlp.onnx --data x.npy,short.npy --config run.toml",
        "train mlp.onnx --json --lr fast --data x.npy,y.npy", "train --json --no-such-flag",
        "evaluate garbage.onnx --data x.npy,y.npy --json", "run mlp.onnx --input none.npy -o o.npz --json",
        "convert garbage.onnx --dry-run --precision fp16 --json", "inspect none.onnx --json",
        "devices --plugin none.so --json", "check --op NoSuchOperator --json"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("halfstep: error: expected ")) << arguments;
    const nlohmann::json json = nlohmann::json::parse(outcome.output, nullptr, false);
    ASSERT_TRUE(json.is_object() && json.contains("error")) << arguments << "\n" << outcome.output;
    EXPECT_EQ(json.size(), 1u) << outcome.output;
    EXPECT_EQ(json["error"]["kind"], "input");
    for (const char* part : {"expected", "got", "hint"}) EXPECT_TRUE(json["error"][part].is_string()) << arguments;
    EXPECT_THAT(outcome.text, HasSubstr("expected " + json["error"]["expected"].get<std::string>()));
  }
}

// A result that something is wrong with is one document.
TEST_F(CliTest, WhatFailsAtTheEndHasItsResultAndTheError) {
  const Outcome outcome = run("train mlp.onnx --data x.npy,y.npy --steps 2 --log /dev/full -o t.onnx --json");
  EXPECT_EQ(outcome.exit_code, 1) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["steps"], 2);
  EXPECT_EQ(json["error"]["kind"], "failure");
  EXPECT_THAT(json["error"]["expected"].get<std::string>(), HasSubstr("/dev/full"));

  Tensor huge(DType::f32, {1, 784});
  for (std::int64_t i = 0; i < 784; ++i) huge.data<float>()[i] = 1e30f;
  write_npy(folder_ / "huge.npy", huge);
  const Outcome converted = run("convert mlp.onnx --precision fp16 -o half.onnx --verify huge.npy --json");
  EXPECT_EQ(converted.exit_code, 1) << converted.text;
  const nlohmann::json report = nlohmann::json::parse(converted.output);
  EXPECT_GT(report.size(), 2u);
  EXPECT_THAT(report["error"]["got"].get<std::string>(), HasSubstr("no model was written"));
}

TEST_F(CliTest, NumbersThatJsonLacksAreText) {
  Tensor huge(DType::f32, {40, 784});
  for (std::int64_t i = 0; i < huge.count(); ++i) huge.data<float>()[i] = 3e38f;
  write_npy(folder_ / "huge.npy", huge);
  const Outcome outcome = run("evaluate mlp.onnx --data huge.npy,y.npy --metrics confusion --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["loss"], "NaN");
  const nlohmann::json confusion = json["metrics"]["confusion"];
  ASSERT_EQ(confusion["labels"].size(), 10u);
  EXPECT_EQ(confusion["labels"][3], "3");
  // Whether a score is infinite or NaN depends on the order of a sum, and so on the CPU.
  nlohmann::json outputs = confusion["labels"];
  if (confusion["outputs"].size() > outputs.size()) outputs.push_back("NaN");
  EXPECT_EQ(confusion["outputs"], outputs);
  EXPECT_EQ(confusion["counts"][3].size(), outputs.size());
}

}  // namespace
}  // namespace halfstep
