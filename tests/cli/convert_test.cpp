// halfstep convert as a user calls it.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>

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
  EXPECT_THAT(outcome.output, HasSubstr("would be about 20"));
  EXPECT_EQ(json("report.json")["precision"], "fp16");
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

TEST_F(ConvertCommand, LeavesItsSourceAlone) {
  ASSERT_EQ(run("train mlp.onnx --data x.npy,y.npy --steps 1 --fp16-output mlp.onnx").exit_code, 2);
  // f32 weights, which a model in half does not have any more.
  save_model(load_model(folder_ / "mlp.onnx").graph, folder_ / "split.onnx", ExternalData::always);
  ASSERT_TRUE(std::filesystem::exists(folder_ / "split.onnx.data"));
  std::filesystem::create_symlink("split.onnx", folder_ / "link.onnx");
  const auto contents = [&] {
    std::string all;
    for (const char* name : {"mlp.onnx", "split.onnx", "split.onnx.data"}) {
      std::ifstream file(folder_ / name, std::ios::binary);
      all.append(std::istreambuf_iterator<char>(file), {});
    }
    return all;
  };
  const std::string before = contents();
  for (const char* call : {"mlp.onnx -o mlp.onnx", "mlp.onnx -o ./mlp.onnx", "split.onnx -o split.onnx",
                           "split.onnx -o link.onnx", "link.onnx -o split.onnx", "split.onnx -o split.onnx.data"}) {
    const Outcome outcome = run(std::string("convert --precision fp16 ") + call);
    EXPECT_EQ(outcome.exit_code, 2) << call;
    EXPECT_THAT(outcome.text, HasSubstr("which is read")) << call;
    EXPECT_TRUE(contents() == before) << call;
  }
}

TEST_F(ConvertCommand, TellsTheSizesOfTheFiles) {
  const auto size = [&](const char* name) {
    std::string text = std::to_string(std::filesystem::file_size(folder_ / name));
    for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3)
      text.insert(static_cast<std::size_t>(at), ",");
    return text;
  };
  const Outcome one = run("convert mlp.onnx -o half.onnx --precision fp16 --report report.json");
  ASSERT_EQ(one.exit_code, 0) << one.text;
  EXPECT_THAT(one.output, HasSubstr("half.onnx: " + size("half.onnx") + " bytes, from " + size("mlp.onnx") + ", in"));
  EXPECT_EQ(json("report.json")["bytes_after"], std::filesystem::file_size(folder_ / "half.onnx"));
  const Outcome two =
      run("convert mlp.onnx -o split.onnx --precision fp16 --external-data always --report report.json");
  ASSERT_EQ(two.exit_code, 0) << two.text;
  const auto both =
      std::filesystem::file_size(folder_ / "split.onnx") + std::filesystem::file_size(folder_ / "split.onnx.data");
  EXPECT_EQ(json("report.json")["bytes_after"], both);
  ASSERT_EQ(run("convert split.onnx -o again.onnx --precision fp16 --report report.json").exit_code, 0);
  EXPECT_EQ(json("report.json")["bytes_before"], both);
}

}  // namespace
}  // namespace halfstep
