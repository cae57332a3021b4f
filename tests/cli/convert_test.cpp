// halfstep convert as a user calls it.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

using testing::HasSubstr;

class ConvertCommand : public CliTest {
 protected:
  nlohmann::json json(const std::string& name) const {
    std::ifstream file(folder_ / name);
    return nlohmann::json::parse(file);
  }
};

TEST_F(ConvertCommand, DryRunTellsAndWritesNothing) {
  const Outcome outcome = run("convert mlp.onnx --precision fp16 --dry-run --report report.json --report report.html");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.output, HasSubstr("would be: 20"));
  EXPECT_EQ(json("report.json")["precision"], "f16");
  EXPECT_GT(std::filesystem::file_size(folder_ / "report.html"), 1000u);
  const Outcome unnamed = run("convert mlp.onnx -o out.onnx --precision fp16 --dry-run");
  ASSERT_EQ(unnamed.exit_code, 0) << unnamed.text;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.onnx"));
}

TEST_F(ConvertCommand, MeasuresVerifiesAndSearches) {
  const Outcome outcome = run(
      "convert mlp.onnx -o half.onnx --precision bf16 --keep-io-types --executor reference --calibrate x.npy --verify "
      "x.npy --max-error 1e-3 --report report.json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("trial"));
  const nlohmann::json report = json("report.json");
  EXPECT_LE(report["errors"][0]["relative_error"], 1e-3);
  bool measured = false;
  for (const auto& tensor : report["tensors"]) measured = measured || tensor["kind"] == "activation";
  EXPECT_TRUE(measured);
}

TEST_F(ConvertCommand, AnOutputThatBecomesInfiniteFailsTheVerification) {
  Tensor large(DType::f32, {2, 784});
  for (float& x : large.span<float>()) x = 1e6f;
  write_npy(folder_ / "large.npy", large);
  for (const char* dry : {"", " --dry-run"}) {
    const Outcome outcome = run(std::string("convert mlp.onnx -o half.onnx --precision fp16 --executor reference "
                                            "--verify large.npy --report report.json") +
                                dry);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("elements infinite or NaN"));
    EXPECT_THAT(outcome.text, HasSubstr("no model was written"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "half.onnx"));
    EXPECT_GT(json("report.json")["errors"][0]["non_finite"], 0);
    const Outcome printed = run(std::string("convert mlp.onnx -o half.onnx --precision fp16 --executor reference "
                                            "--verify large.npy --json") +
                                dry);
    EXPECT_EQ(printed.exit_code, 1) << printed.text;
    EXPECT_GT(nlohmann::json::parse(printed.output)["errors"][0]["non_finite"], 0);
  }
  const Outcome measured = run(
      "convert mlp.onnx -o half.onnx --precision fp16 --executor reference --calibrate large.npy --verify large.npy");
  EXPECT_EQ(measured.exit_code, 0) << measured.text;
  EXPECT_THAT(measured.text, HasSubstr("warning: output '"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "half.onnx"));
}

TEST_F(ConvertCommand, KeepsTheNamedTypesAndNodes) {
  const Outcome outcome =
      run("convert mlp.onnx -o half.onnx --precision fp16 --keep-io-types=input --keep-fp32 op:Gemm,op:MatMul "
          "--external-data always");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "half.onnx.data"));
  const Outcome again = run("convert half.onnx -o inline.onnx --precision fp16 --keep-io-types --external-data never");
  ASSERT_EQ(again.exit_code, 0) << again.text;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "inline.onnx.data"));
}

}  // namespace
}  // namespace halfstep
