// halfstep profile, as a shell runs it.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
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

// Rows that are equal are one row that was expanded, unless they may be trained apart.
TEST_F(CliTest, ABatchThatOnlyTrainingFixesIsTakenByMadeUpData) {
  save_model(parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[2,3] x) => (float[2,2] y)
                            <float[2,3] b = {1,1,1,1,1,1}, float[3,2] w = {1,2,3,4,5,6}> {
                              r = Add(x, b) y = MatMul(r, w) })")
                 .graph,
             folder_ / "equal.onnx");
  for (const auto& [call, batch] : {std::pair("profile equal.onnx --steps 1 --batch 5 --json", 5),
                                    std::pair("profile equal.onnx --steps 1 --batch 5 --json --training", 2)}) {
    const Outcome outcome = run(call);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
    EXPECT_EQ(nlohmann::json::parse(outcome.output)["batch"], batch) << call;
    EXPECT_EQ(outcome.text.find("is fixed at 2 (tried with 13 rows: Add") != std::string::npos, batch == 2);
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

// One exporter of PyTorch writes modules into the names of nodes, the other into their metadata.
TEST_F(CliTest, ScopesAreModulesWhateverTheExporter) {
  const auto scopes_of = [&](const std::string& model, const std::string& flags) {
    const Outcome outcome = run("profile " + model + " --executor onednn --steps 1 --json" + flags);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    std::set<std::string> scopes;
    if (outcome.exit_code != 0) return scopes;
    const nlohmann::json json = nlohmann::json::parse(outcome.output);
    for (const nlohmann::json& row : json["scopes"]) scopes.insert(row["scope"]);
    return scopes;
  };
  const std::filesystem::path zoo = test::source_dir() / "models" / "zoo";
  const std::string older = zoo / "lenet-torchscript" / "model.onnx", newer = zoo / "lenet-dynamo" / "model.onnx";
  EXPECT_THAT(scopes_of(newer, ""), testing::Contains("/7"));
  const std::string all[] = {"", " --precision bf16", " --training --precision fp32", " --training --precision bf16"};
  for (const std::string& flags : all) EXPECT_EQ(scopes_of(newer, flags), scopes_of(older, flags)) << flags;

  for (const auto& [from, to] : {std::pair(older, "older.onnx"), std::pair(newer, "newer.onnx")})
    ASSERT_EQ(run("convert '" + from + "' --precision bf16 --keep-io-types -o " + to).exit_code, 0);
  EXPECT_EQ(scopes_of("newer.onnx", ""), scopes_of("older.onnx", ""));
  write_npy(folder_ / "images.npy", Tensor(DType::f32, {40, 1, 28, 28}));
  ASSERT_EQ(run("train '" + newer + "' --data images.npy,y.npy --steps 1 -o saved.onnx").exit_code, 0);
  EXPECT_EQ(scopes_of("saved.onnx", ""), scopes_of(newer, ""));
}

}  // namespace
}  // namespace halfstep
