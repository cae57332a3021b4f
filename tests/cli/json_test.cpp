// --json: one object on standard output, and nothing else there.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(CliTest, EveryCommandHasJson) {
  for (const char* arguments :
       {"train mlp.onnx --data x.npy,y.npy --val-data x.npy,y.npy --epochs 1 -o t.onnx",
        "evaluate mlp.onnx --data x.npy,y.npy", "run mlp.onnx --input x.npy -o out.npz",
        "convert mlp.onnx -o half.onnx --precision fp16 --verify x.npy",
        "convert mlp.onnx --dry-run --precision bf16 --calibrate x.npy --max-error 0.1",
        "inspect mlp.onnx --plan --trainable", "devices", "check --op Relu --kind execution --dtype f32"}) {
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
  EXPECT_EQ(json["precision"], "f32");
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

TEST_F(CliTest, ErrorsLeaveNoHalfOfAnObject) {
  for (const char* arguments :
       {"train mlp.onnx --data x.npy,short.npy --json", "convert garbage.onnx --dry-run --precision fp16 --json"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.text;
    EXPECT_EQ(outcome.output, "") << arguments;
    EXPECT_THAT(outcome.text, HasSubstr("halfstep: error: expected ")) << arguments;
  }
}

}  // namespace
}  // namespace halfstep
