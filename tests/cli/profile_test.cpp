// halfstep profile, as a shell runs it.
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>

namespace halfstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST_F(CliTest, ProfileTellsTimesOfInferenceAndTraining) {
  for (const std::string flags :
       {"", " --training", " --training --data x.npy,y.npy", " --training --loss mean_squared_error"}) {
    const Outcome outcome =
        run("profile mlp.onnx --executor onednn --precision fp32 --batch 8 --steps 2 --json" + flags);
    ASSERT_EQ(outcome.exit_code, 0) << flags << "\n" << outcome.text;
    const nlohmann::json json = nlohmann::json::parse(outcome.output);
    EXPECT_EQ(json["of"], flags.empty() ? "inference" : "training step");
    EXPECT_EQ(json["batch"], 8);
    EXPECT_GT(json["step_us"], 0);
    EXPECT_GT(json["least_us"], 0);
    double share = 0, product_flops = 0;
    for (const nlohmann::json& row : json["operators"]) {
      share += row["share"].get<double>();
      if (row["op"].get<std::string>().find("Gemm") != std::string::npos) product_flops += row["flops"].get<double>();
    }
    EXPECT_NEAR(share, 1, 1e-9);
    // Each layer once forward, and in training once for its weights, the second also for its input.
    const double first = 2.0 * 8 * 784 * 128, second = 2.0 * 8 * 128 * 10;
    const double products = flags.empty() ? first + second : 2 * first + 3 * second;
    EXPECT_GE(product_flops, products) << flags;
    EXPECT_LE(product_flops, products + 4 * 8 * (128 + 10)) << flags;  // biases and activations
  }
}

/// A model that was exported for 4 rows, and where `is_fixed` takes no other number of them.
void save_for_four_rows(const std::filesystem::path& path, bool is_fixed) {
  const std::string body =
      is_fixed ? "int64[2] s = {3, 8}, int64[2] t = {4, 6}> { f = Reshape(x, s) r = Reshape(f, t) y = MatMul(r, w) }"
               : "float[1] b = {1}> { r = Add(x, b) y = MatMul(r, w) }";
  const LoadedModel model = parse_model(
      "<ir_version: 10, opset_import: [\"\": 24]> m (float[4,6] x) => (float[4,2] y) "
      "<float[6,2] w = {1,2,3,4,5,6,1,2,3,4,5,6}, " +
      body);
  save_model(model.graph, path);
}

TEST_F(CliTest, TheBatchOfAModelForOneSizeIsThatAskedForOrToldOf) {
  save_for_four_rows(folder_ / "free.onnx", false);
  save_for_four_rows(folder_ / "fixed.onnx", true);
  Tensor x(DType::f32, {12, 6}), y(DType::f32, {12, 2});
  write_npy(folder_ / "x6.npy", x);
  write_npy(folder_ / "y2.npy", y);
  const std::string calls[] = {"profile MODEL --steps 1", "profile MODEL --steps 1 --training",
                               "profile MODEL --steps 1 --training --data x6.npy,y2.npy", "inspect MODEL --plan",
                               "inspect MODEL --memory --plan --training x6.npy,y2.npy"};
  for (const std::string& call : calls)
    for (const bool is_fixed : {false, true}) {
      SCOPED_TRACE(call + (is_fixed ? " fixed" : " free"));
      const std::string named =
          std::regex_replace(call, std::regex("MODEL"), is_fixed ? "fixed.onnx" : "free.onnx") + " --batch 6 --json";
      const Outcome outcome = run(named);
      ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
      const nlohmann::json json = nlohmann::json::parse(outcome.output);
      EXPECT_EQ(json.contains("plan") ? json["plan"]["batch"] : json["batch"], is_fixed ? 4 : 6);
      const bool is_told = outcome.text.find("the model's batch size is fixed at 4 (") != std::string::npos;
      EXPECT_EQ(is_told, is_fixed) << outcome.text;
    }
}

TEST_F(CliTest, ProfilePrintsATableAndWritesATrace) {
  const Outcome nodes = run("profile mlp.onnx --executor onednn --batch 8 --steps 2 --training --trace trace.json");
  ASSERT_EQ(nodes.exit_code, 0) << nodes.text;
  EXPECT_THAT(nodes.output, AllOf(HasSubstr("training step, executor onednn"), HasSubstr("GFLOP/s; memory"),
                                  HasSubstr("best us"), HasSubstr("mean us"), HasSubstr("x least"), HasSubstr("share"),
                                  HasSubstr("SoftmaxCrossEntropyGrad")));
  std::ifstream file(folder_ / "trace.json");
  EXPECT_FALSE(nlohmann::json::parse(file)["traceEvents"].empty());
  EXPECT_THAT(nodes.output, HasSubstr(" that took no time: --json\n"));
  const Outcome top = run("profile mlp.onnx --executor onednn --batch 8 --steps 1 --by operator --top 1");
  EXPECT_THAT(top.output, AllOf(HasSubstr("operator"), HasSubstr("more: --top")));
  EXPECT_EQ(run("profile mlp.onnx --executor onednn --steps 1 --by scope --depth 1").exit_code, 0);
}

TEST_F(CliTest, ProfileRefusesWhatItCannotDo) {
  const struct {
    const char *arguments, *expected;
  } cases[] = {{"profile mlp.onnx --shape input", "--shape NAME=D1,D2,..., got 'input'"},
               {"profile mlp.onnx --shape input=8,x", "--shape NAME=D1,D2,..., got 'input=8,x'"},
               {"profile mlp.onnx --shape input=8,3", "got"},
               {"profile mlp.onnx --by layer", "--by"},
               {"profile mlp.onnx --trace mlp.onnx", "mlp.onnx"},
               {"profile mlp.onnx --data x.npy,y.npy", "--training with --data, got none"}};
  for (const auto& each : cases) {
    const Outcome outcome = run(each.arguments);
    EXPECT_EQ(outcome.exit_code, 2) << each.arguments << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr(each.expected)) << each.arguments;
  }
}

}  // namespace
}  // namespace halfstep
