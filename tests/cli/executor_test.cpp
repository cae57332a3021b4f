// Which executor and precision a command takes, and what it says of them.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "formats/npz.h"
#include "tests/cli/program.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

// A device that prefers bf16: what inference takes there unless it is told.
constexpr const char* kPlugin = " --plugin '" HALFSTEP_TEST_PLUGIN "' ";

TEST_F(CliTest, InferenceIsInFp32UnlessToldOtherwise) {
  struct Case {
    std::string flags, environment;
    const char* precision;
  };
  const Case cases[] = {{"", "", "fp32"},
                        {"--precision auto", "", "bf16"},
                        {"", "HALFSTEP_PRECISION=auto", "bf16"},
                        {"", "HALFSTEP_PRECISION=fp16", "fp16"},
                        {"--precision fp32", "HALFSTEP_PRECISION=bf16", "fp32"}};
  for (const Case& c : cases) {
    const Outcome evaluated = run("evaluate mlp.onnx --data x.npy,y.npy --json" + (kPlugin + c.flags), c.environment);
    ASSERT_EQ(evaluated.exit_code, 0) << evaluated.text;
    EXPECT_EQ(nlohmann::json::parse(evaluated.output)["precision"], c.precision) << c.flags << c.environment;
    const Outcome outputs = run("run mlp.onnx --input x.npy -o out.npz --json" + (kPlugin + c.flags), c.environment);
    ASSERT_EQ(outputs.exit_code, 0) << outputs.text;
    EXPECT_EQ(nlohmann::json::parse(outputs.output)["precision"], c.precision) << c.flags << c.environment;
    const Outcome plan = run("inspect mlp.onnx --plan --json" + (kPlugin + c.flags), c.environment);
    ASSERT_EQ(plan.exit_code, 0) << plan.text;
    EXPECT_THAT(nlohmann::json::parse(plan.output)["plan"]["precision"].get<std::string>(),
                testing::StartsWith(c.precision))
        << c.flags << c.environment;
  }
  const Outcome training = run("inspect mlp.onnx --plan --training x.npy,y.npy --json" + std::string(kPlugin));
  ASSERT_EQ(training.exit_code, 0) << training.text;
  EXPECT_THAT(nlohmann::json::parse(training.output)["plan"]["precision"].get<std::string>(),
              HasSubstr("bf16, chosen by auto"));
  EXPECT_THAT(run("train mlp.onnx --data x.npy,y.npy --steps 1" + std::string(kPlugin)).output,
              HasSubstr("precision  bf16, chosen by auto"));
}

TEST_F(CliTest, MemoryOfATrainingStepFollowsItsOptimizer) {
  for (const std::string executor : {"reference", "onednn"}) {
    const auto bytes = [&](const std::string& flags) {
      const Outcome outcome =
          run("inspect mlp.onnx --memory --training x.npy,y.npy --batch 8 --json --executor " + executor + flags);
      EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
      std::map<std::string, std::int64_t> found;
      if (outcome.exit_code != 0) return found;
      const nlohmann::json report = nlohmann::json::parse(outcome.output);
      for (const nlohmann::json& row : report["memory"]["categories"]) found[row["category"]] = row["bytes"];
      return found;
    };
    constexpr std::int64_t kBytes = (784 * 128 + 128 + 128 * 10 + 10) * 4, kCounters = 64;
    std::map<std::string, std::int64_t> plain = bytes(" --optimizer sgd");
    EXPECT_EQ(plain["parameters"], kBytes);
    EXPECT_LE(plain["optimizer moments"], kCounters);
    EXPECT_GE(plain["gradients"], kBytes / 2) << executor;
    EXPECT_NEAR(bytes(" --optimizer sgd --momentum 0.9")["optimizer moments"], kBytes, kCounters);
    EXPECT_NEAR(bytes("")["optimizer moments"], 2 * kBytes, kCounters);
    EXPECT_GE(bytes(" --accumulate 2")["other states"], kBytes);
    EXPECT_LE(bytes(" --freeze '1.weight'")["parameters"], kBytes / 2);
  }
  EXPECT_THAT(run("profile mlp.onnx --training --steps 1 --optimizer sgd --momentum 0.9").output, HasSubstr("SgdStep"));
}

// What lies in memory already when the process is measured is not counted twice, as the moments of small parameters.
TEST_F(CliTest, MemoryOfTheProcessIsMeasuredBesideItsProgram) {
  const auto process_of = [&](const std::string& optimizer) {
    const Outcome outcome =
        run("inspect mlp.onnx --memory --training x.npy,y.npy --batch 8 --json --executor onednn "
            "--optimizer " +
            optimizer);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    if (outcome.exit_code != 0) return std::int64_t{0};
    const nlohmann::json memory = nlohmann::json::parse(outcome.output)["memory"];
    std::int64_t sum = 0, process = 0;
    for (const nlohmann::json& row : memory["categories"]) {
      sum += row["bytes"].get<std::int64_t>();
      if (row["category"] == "process") process = row["bytes"];
    }
    const std::int64_t start = memory["start_bytes"];
    EXPECT_GT(start, 0);
    EXPECT_EQ(memory["peak_bytes"], std::max(sum, start));
    return process;
  };
  [[maybe_unused]] constexpr std::int64_t kMoments = 2 * (784 * 128 + 128 + 128 * 10 + 10) * 4;
  const std::int64_t adam = process_of("adam"), sgd = process_of("sgd");
  EXPECT_GT(std::min(adam, sgd), 0);
#ifndef __SANITIZE_ADDRESS__  // which keeps what is freed for a while
  EXPECT_NEAR(static_cast<double>(adam), static_cast<double>(sgd), 0.7 * kMoments);
#endif
}

TEST_F(CliTest, MemoryBudgetsHaveUnits) {
  const std::string train = "train mlp.onnx --data x.npy,y.npy --steps 1 --memory-budget ";
  for (const char* budget : {"2GiB", "500MB", "1000000000"}) EXPECT_EQ(run(train + budget).exit_code, 0) << budget;
  EXPECT_THAT(run(train + "much").text, HasSubstr("such as 500MB"));
  EXPECT_THAT(run(train + "1kB").text, HasSubstr("a memory budget of at least"));
  const std::string refused = run(train + "1kB").text;
  const std::size_t at = refused.find("at least ");
  ASSERT_NE(at, std::string::npos) << refused;
  const auto least = std::stoll(refused.substr(at + std::string("at least ").size()));
  for (const std::int64_t budget : {std::int64_t{least}, std::int64_t{100'000'000'000}}) {
    const Outcome outcome =
        run("inspect mlp.onnx --memory --training x.npy,y.npy --json --memory-budget " + std::to_string(budget));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
    const nlohmann::json memory = nlohmann::json::parse(outcome.output)["memory"];
    EXPECT_EQ(memory["batch"], 32) << "as halfstep train";
    EXPECT_EQ(outcome.text.find("exceeds --memory-budget") != std::string::npos, memory["peak_bytes"] > budget);
    EXPECT_LE(memory["budget_bytes"].get<std::int64_t>(), budget) << "as the run, which it is enough for";
  }
  // Of a step in which nothing can be computed again, so that the least is what it takes.
  const auto counted = [&] {
    const Outcome outcome = run("inspect mlp.onnx --memory --training x.npy,y.npy --json");
    return nlohmann::json::parse(outcome.output)["memory"]["budget_bytes"].get<std::int64_t>();
  }();
  EXPECT_EQ(run(train + std::to_string(counted)).exit_code, 0);
  EXPECT_EQ(counted, least);
  EXPECT_THAT(run("inspect mlp.onnx --memory --training x.npy,y.npy --precision fp32").output,
              HasSubstr("\nmemory of training step, batch 32, fp32\n"));
  EXPECT_THAT(run("inspect mlp.onnx --memory").output, HasSubstr("\nmemory of inference, batch 1, fp32\n"));
  for (const char* flag : {"--memory-budget 2GiB", "--optimizer sgd", "--freeze '1.*'"})
    EXPECT_THAT(run("profile mlp.onnx --steps 1 " + std::string(flag)).text, HasSubstr("--training")) << flag;
}

TEST_F(CliTest, ParametersFollowFreezeAndTrainable) {
  const auto names = [&](const std::string& flags, const char* list) {
    const Outcome outcome = run("inspect mlp.onnx --parameters --json" + flags);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    std::map<std::string, std::string> found;
    if (outcome.exit_code != 0) return found;
    const nlohmann::json report = nlohmann::json::parse(outcome.output);
    for (const nlohmann::json& row : report["trainable"][list]) found[row["name"]] = row.value("reason", "");
    return found;
  };
  EXPECT_EQ(names("", "parameters").size(), 4u);
  EXPECT_EQ(names(" --freeze '1.*'", "parameters").size(), 2u);
  EXPECT_EQ(names(" --freeze '1.*'", "not_trained")["1.weight"], "frozen by '1.*'");
  EXPECT_THAT(run("inspect mlp.onnx --freeze '1.*'").text, HasSubstr("--parameters or --training with --freeze"));
  EXPECT_EQ(names(" --trainable '1.*'", "parameters").size(), 2u);
  EXPECT_THAT(run("inspect mlp.onnx --trainable '1.*'").text, HasSubstr("--parameters or --training with --trainable"));
  EXPECT_EQ(run("inspect mlp.onnx --memory --training x.npy,y.npy --trainable '1.*'").exit_code, 0);
  EXPECT_EQ(run("profile mlp.onnx --training --steps 1 --trainable '1.*'").exit_code, 0);
  EXPECT_THAT(run("inspect mlp.onnx --parameters --freeze 'nothing*'").text, HasSubstr("nothing*"));
}

TEST_F(CliTest, Fp32MathWithoutEffectIsTold) {
  for (const std::string call : {"inspect mlp.onnx --plan", "run mlp.onnx --input x.npy -o out.npz"}) {
    const std::string flags[] = {" --executor reference", kPlugin};
    for (const std::string& executor : flags) {
      const Outcome outcome = run(call + executor + " --fp32-math bf16");
      EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
      EXPECT_THAT(outcome.text, HasSubstr("f32 math bf16 has no effect")) << call << executor;
      EXPECT_THAT(run(call + executor + " --fp32-math tf32").text, HasSubstr("f32 math tf32 has no effect"));
      EXPECT_THAT(run(call + executor + " --deterministic off").text,
                  HasSubstr("executor has only deterministic kernels"));
      EXPECT_THAT(run(call + executor + " --fp32-math strict --deterministic on").text,
                  Not(HasSubstr("has no effect")));
    }
  }
  const Outcome lower = run("evaluate mlp.onnx --data x.npy,y.npy --executor onednn --fp32-math bf16");
  EXPECT_EQ(lower.output.find("fp32, products and convolutions in bf16 (--fp32-math)") != std::string::npos,
            lower.text.find("has no effect") == std::string::npos)
      << lower.text;
  EXPECT_THAT(run("inspect mlp.onnx --fp32-math bf16").text, HasSubstr("--plan or --memory with --fp32-math"));
  EXPECT_THAT(run("inspect mlp.onnx --deterministic off").text, HasSubstr("--deterministic"));
}

TEST_F(CliTest, TrainingWithTuningMeasuresItsPrecision) {
  const nlohmann::json devices = nlohmann::json::parse(run("devices --json").output);
  const auto onednn = std::ranges::find_if(devices["executors"], [](const auto& e) { return e["name"] == "onednn"; });
  const nlohmann::json products = (*onednn)["native"]["matmul"];
  const auto has = [&](const char* type) { return std::ranges::find(products, type) != products.end(); };
  const char* wanted = has("bf16") || has("f16") ? "chosen by auto: measured " : "chosen by auto: oneDNN finds no ";
  const std::string cache = "XDG_CACHE_HOME=. ", calls[] = {"train mlp.onnx --data x.npy,y.npy --steps 1",
                                                            "inspect mlp.onnx --plan --training x.npy,y.npy",
                                                            "profile mlp.onnx --training --data x.npy,y.npy --steps 1"};
  std::string first;
  for (const std::string& call : calls) {
    const Outcome outcome = run(call + " --batch 8 --executor onednn --tune fast", cache);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
    const std::size_t at = outcome.output.find(wanted);
    ASSERT_NE(at, std::string::npos) << outcome.output;
    const std::string line = outcome.output.substr(at, outcome.output.find('\n', at) - at);
    if (first.empty()) first = line;
    EXPECT_EQ(line, first) << "measured again";
  }
  EXPECT_THAT(run(calls[0] + std::string(" --executor onednn")).output, Not(HasSubstr("measured")));
  EXPECT_THAT(run(calls[0] + std::string(" --executor onednn --tune fast --precision fp32"), cache).output,
              HasSubstr("precision  fp32\n"));
}

TEST_F(CliTest, TuningIsAChoiceOfTheCpuAlone) {
  const std::string call = "run mlp.onnx --input x.npy -o out.npz";
  EXPECT_THAT(run(call + " --executor reference --tune fast").text, HasSubstr("tuning fast has no effect"));
  EXPECT_THAT(run(call + " --executor onednn --tune fats").text, HasSubstr("fast"));
  EXPECT_THAT(run("inspect mlp.onnx --tune fast").text, HasSubstr("--plan or --memory with --tune"));
}

TEST_F(CliTest, InferenceGivesTheValuesOfFp32) {
  ASSERT_EQ(run("run mlp.onnx --input x.npy -o default.npz" + std::string(kPlugin)).exit_code, 0);
  ASSERT_EQ(run("run mlp.onnx --input x.npy -o fp32.npz --precision fp32 --executor reference").exit_code, 0);
  const NpzFile found(folder_ / "default.npz"), expected(folder_ / "fp32.npz");
  ASSERT_EQ(found.names(), expected.names());
  EXPECT_TRUE(identical(found.open(found.names()[0]).load(), expected.open(expected.names()[0]).load()));
}

TEST_F(CliTest, MissingGpuIsToldOnlyWhereItWasAskedFor) {
  const std::string hidden = "CUDA_VISIBLE_DEVICES=-1";  // the GPU that this machine may have
  for (const char* arguments :
       {"train mlp.onnx --data x.npy,y.npy --steps 1 -o t.onnx", "evaluate mlp.onnx --data x.npy,y.npy",
        "run mlp.onnx --input x.npy -o out.npz", "inspect mlp.onnx --plan",
        "convert mlp.onnx --dry-run --precision fp16 --verify x.npy", "check --op Relu --kind execution"}) {
    const Outcome outcome = run(arguments, hidden);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.text;
    EXPECT_EQ(outcome.text, outcome.output) << arguments << " said something on standard error";
  }
  EXPECT_THAT(run("devices", hidden).output, HasSubstr("cudnn      not available: "));
  const Outcome asked = run("run mlp.onnx --input x.npy -o out.npz --executor cudnn", hidden);
  EXPECT_EQ(asked.exit_code, 2) << asked.text;
  EXPECT_THAT(asked.text, HasSubstr("error: expected executor 'cudnn' to work on this machine, got none: "));
}

TEST_F(CliTest, DevicesTellsEveryExecutor) {
  const Outcome outcome = run("devices --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["executors"].size(), 3u);
  std::string first;
  for (const nlohmann::json& executor : json["executors"]) {
    if (!executor["available"]) {
      EXPECT_FALSE(executor["reason"].get<std::string>().empty()) << executor;
      continue;
    }
    EXPECT_FALSE(executor["auto_reason"].get<std::string>().empty()) << executor;
    EXPECT_GT(executor["memory_bytes"].get<std::uint64_t>(), 0u) << executor;
    if (first.empty()) first = executor["name"];
  }
  EXPECT_EQ(json["auto"], first);
  const std::string text = run("devices").text;
  for (const char* part :
       {"features: ", "memory: ", "native arithmetic: ", "--precision auto selects", "--executor auto selects"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST_F(CliTest, PluginIsAFileBeforeItIsANameForTheLoader) {
  fs::copy_file(HALFSTEP_TEST_PLUGIN, folder_ / "plugin.so");
  const Outcome bare = run("evaluate mlp.onnx --data x.npy,y.npy --json --plugin plugin.so");
  ASSERT_EQ(bare.exit_code, 0) << bare.text;
  EXPECT_EQ(nlohmann::json::parse(bare.output)["executor"], "bf16");
  const Outcome listed = run("devices --plugin plugin.so --json");
  ASSERT_EQ(listed.exit_code, 0) << listed.text;
  const nlohmann::json json = nlohmann::json::parse(listed.output);
  ASSERT_EQ(json["executors"].size(), 4u);
  EXPECT_EQ(json["executors"][3]["name"], "bf16");
  EXPECT_NE(json["auto"], "bf16");
  const Outcome one = run("evaluate mlp.onnx --data x.npy,y.npy --plugin plugin.so --device cuda:0");
  EXPECT_EQ(one.exit_code, 2) << one.text;
  EXPECT_THAT(one.text, HasSubstr("has no devices to choose from"));
  for (const char* arguments : {"devices --plugin missing.so", "devices --plugin mlp.onnx"}) {
    const Outcome wrong = run(arguments);
    EXPECT_EQ(wrong.exit_code, 2) << wrong.text;
    EXPECT_THAT(wrong.text, HasSubstr("error: expected an executor plug-in that works on this machine, got none: "));
  }
}

TEST_F(CliTest, PluginRunsWhatItHasAndTheReferenceKernelsRunTheRest) {
  const Outcome plan = run("inspect mlp.onnx --plan --json" + std::string(kPlugin));
  ASSERT_EQ(plan.exit_code, 0) << plan.text;
  const nlohmann::json json = nlohmann::json::parse(plan.output);
  std::vector<std::string> kernels;
  for (const nlohmann::json& node : json["plan"]["nodes"]) kernels.push_back(node["kernel"]);
  EXPECT_THAT(kernels, testing::ElementsAre("reference", "plug-in: relu", "reference"));
  const Outcome checked = run("check --op Relu" + std::string(kPlugin));
  EXPECT_EQ(checked.exit_code, 0) << checked.text;
  EXPECT_THAT(checked.text, HasSubstr(" 0 failed"));
}

}  // namespace
}  // namespace halfstep
