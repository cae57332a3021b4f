// The command line as scripts see it: exit codes, messages, files.
#include <algorithm>
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

#include "formats/npz.h"
#include "tests/cli/program.h"
#include "tests/temporary_directory.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

TEST_F(CliTest, EvaluateNeedsNothingToTrain) {
  save_model(parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m (float[N, 784] x) => (float[N, 784] y)
    { y = Neg(x) })")
                 .graph,
             folder_ / "fixed.onnx");
  const Outcome outcome = run("evaluate fixed.onnx --data x.npy,y.npy --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_EQ(nlohmann::json::parse(outcome.output)["rows"], 40);
  const Outcome trained = run("train fixed.onnx --data x.npy,y.npy");
  EXPECT_EQ(trained.exit_code, 2) << trained.text;
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
  EXPECT_EQ(log.front()["epoch"], 1);
  EXPECT_EQ(log.back()["epoch"], 5);
  EXPECT_EQ(log.back()["update"], 15);
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

TEST_F(CliTest, TheLogHasEpochsWithMetricsAndValidation) {
  const std::string common =
      "train mlp.onnx --data x.npy,y.npy --batch 16 --precision fp32 --metrics accuracy,top_k:3 ";
  ASSERT_EQ(run(common + "--val-data x.npy,y.npy --epochs 2 --checkpoint checkpoint --log log.jsonl").exit_code, 0);
  ASSERT_EQ(run(common + "--val-data x.npy,y.npy --epochs 3 --resume checkpoint --log log.jsonl").exit_code, 0);
  const std::vector<nlohmann::json> epochs = read_log("log.jsonl", "train");
  ASSERT_EQ(epochs.size(), 3u);
  for (std::size_t i = 0; i < epochs.size(); ++i) {
    EXPECT_EQ(epochs[i]["epoch"], i + 1);
    EXPECT_EQ(epochs[i]["step"], 3 * (i + 1));
    for (const char* part : {"train", "validation"}) {
      EXPECT_EQ(epochs[i][part].size(), 3u) << epochs[i];
      EXPECT_GT(epochs[i][part]["loss"].get<double>(), 0);
      EXPECT_LE(epochs[i][part]["accuracy"], epochs[i][part]["top_k:3"]) << epochs[i];
    }
  }
  EXPECT_EQ(read_log("log.jsonl").size(), 9u);
  ASSERT_EQ(run(common + "--epochs 1 --log plain.jsonl").exit_code, 0);
  EXPECT_FALSE(read_log("plain.jsonl", "train").at(0).contains("validation"));
}

TEST_F(CliTest, OptimizerNumbersAreTheLibrarys) {
  const std::string help = run("train --help").text;
  for (const char* said :
       {"--beta1", "--beta2", "--epsilon", "--dampening", "--loss-scale-min", "0.999", "1e-08", "2000", "lamb: 0.01"})
    EXPECT_THAT(help, HasSubstr(said));
  const auto loss = [&](const std::string& flags) {
    const Outcome outcome =
        run("train mlp.onnx --data x.npy,y.npy --precision fp32 --steps 3 --log log.jsonl " + flags);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    return read_log("log.jsonl").back()["loss"].get<double>();
  };
  EXPECT_EQ(loss("--beta1 0.9 --beta2 0.999 --epsilon 1e-8"), loss(""));
  for (const char* flags : {"--beta1 0.5", "--beta2 0.5", "--epsilon 0.1", "--optimizer adamw --weight-decay 10"})
    EXPECT_NE(loss(flags), loss("")) << flags;
  EXPECT_NE(loss("--optimizer sgd --momentum 0.9 --dampening 0.9"), loss("--optimizer sgd --momentum 0.9"));
  EXPECT_NE(loss("--optimizer rmsprop --centered"), loss("--optimizer rmsprop"));
}

TEST_F(CliTest, EveryOptimizerTrainsAndIsTold) {
  const std::string help = run("train --help").text, readme = read_text(test::source_dir() / "README.md"),
                    operators = read_text(test::source_dir() / "docs" / "operators.md");
  for (const OptimizerDef& row : optimizers()) {
    const std::string name(row.name);
    const Outcome outcome = run("train mlp.onnx --data x.npy,y.npy --epochs 3 --lr 0.01 --optimizer " + name);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("optimizer  " + name + ", learning rate 0.01"));
    EXPECT_THAT(help, HasSubstr(name));
    EXPECT_THAT(readme, HasSubstr("`" + name + "`"));
    EXPECT_THAT(operators, HasSubstr(std::string(row.op)));
  }
}

TEST_F(CliTest, GivesUpAfterAsManySkippedUpdatesAsToldTo) {
  const Outcome outcome =
      run("train mlp.onnx --data x.npy,y.npy --precision fp32 --loss-scale 1e30 --loss-scale-min 1e29 "
          "--loss-scale-backoff 0.5 "
          "--lr 1e30 --max-skipped 3 --log log.jsonl --epochs 1000");
  EXPECT_EQ(outcome.exit_code, 1) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("7 updates"));  // three, and four halvings
  EXPECT_FALSE(read_log("log.jsonl").back()["grads_finite"].get<bool>());
}

TEST_F(CliTest, AResumedRunTellsWhatDiffers) {
  const std::string common = "train mlp.onnx --data x.npy,y.npy --precision fp32 ";
  ASSERT_EQ(run(common + "--steps 2 --checkpoint checkpoint").exit_code, 0);
  const Outcome resumed = run(common + "--steps 3 --resume checkpoint --lr 0.01 --clip-norm 1");
  EXPECT_EQ(resumed.exit_code, 0);
  EXPECT_THAT(resumed.text, HasSubstr("resuming with --lr 0.01; the checkpoint was made with 0.001\n"));
  EXPECT_THAT(resumed.text, HasSubstr("resuming with --clip-norm 1; the checkpoint was made with 0\n"));
}

TEST_F(CliTest, AModelStoredInHalfIsTrainedInFullAndSavedAsItWas) {
  for (const char* half : {"fp16", "bf16"}) {
    ASSERT_EQ(run("convert mlp.onnx -o half.onnx --precision " + std::string(half)).exit_code, 0);
    const Outcome trained =
        run("train half.onnx --data x.npy,y.npy --precision fp32 --lr 1e-5 --steps 20 -o trained.onnx "
            "--fp16-output fp16.onnx --log log.jsonl");
    ASSERT_EQ(trained.exit_code, 0) << trained.text;
    const std::string type = half == std::string("fp16") ? "f16" : "bf16";
    EXPECT_THAT(trained.text, HasSubstr("4 parameters were trained in f32 and written in " + type));
    EXPECT_THAT(run("inspect trained.onnx --parameters").text, HasSubstr(type));
    EXPECT_THAT(run("inspect fp16.onnx --parameters").text, testing::AllOf(HasSubstr("f16"), Not(HasSubstr("bf16"))));
    const std::vector<nlohmann::json> log = read_log("log.jsonl");
    EXPECT_LT(log.back()["loss"].get<double>(), log.front()["loss"].get<double>());
    EXPECT_EQ(run("evaluate trained.onnx --data x.npy,y.npy --precision fp32").exit_code, 0);
    EXPECT_EQ(run("run fp16.onnx --input x.npy -o out.npz --precision fp32").exit_code, 0);
  }
}

TEST_F(CliTest, ThePrecisionLineIsPlain) {
  const std::string common = "train mlp.onnx --data x.npy,y.npy --steps 1 --executor reference --precision ";
  EXPECT_THAT(run(common + "auto").text, HasSubstr("precision  fp32, chosen by auto: the reference executor computes"));
  EXPECT_THAT(run(common + "fp16").text,
              HasSubstr("precision  fp16, as requested; this device stores fp16 and computes "
                        "in fp32: --precision fp32 is faster\n"));
  EXPECT_THAT(run(common + "fp32").text, HasSubstr("precision  fp32\n"));
}

// OpenMP may give a region fewer threads than there are.
TEST_F(CliTest, FewerThreadsThanAskedForComputeTheSame) {
  const std::string common = "train mlp.onnx --data x.npy,y.npy --executor onednn --precision fp32 --steps 4 ";
  ASSERT_EQ(run(common + "--threads 1 --log one.jsonl").exit_code, 0);
  const std::vector<nlohmann::json> expected = read_log("one.jsonl");
  for (const char* environment : {"OMP_THREAD_LIMIT=1", "OMP_DYNAMIC=true"}) {
    const Outcome outcome = run(common + "--threads 2 --log two.jsonl", environment);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
    const std::vector<nlohmann::json> found = read_log("two.jsonl");
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i]["loss"].get<float>(), expected[i]["loss"].get<float>(), 1e-4)
          << environment << ", step " << i;
  }
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

TEST_F(CliTest, KilledRunsLeaveEachStepInTheLogOnce) {
  // What a killed run leaves: a checkpoint of step 3, and a log that goes on to step 7.
  const std::string common = "train mlp.onnx --data x.npy,y.npy --batch 40 --precision fp32 ";
  ASSERT_EQ(run(common + "--steps 3 --checkpoint checkpoint --log log.jsonl").exit_code, 0);
  ASSERT_EQ(run(common + "--steps 7 --log log.jsonl").exit_code, 0);
  const Outcome resumed = run(common + "--steps 9 --resume checkpoint --log log.jsonl");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.text;
  const std::vector<nlohmann::json> log = read_log("log.jsonl");
  ASSERT_EQ(log.size(), 9u);
  for (std::size_t i = 0; i < log.size(); ++i) EXPECT_EQ(log[i]["step"], i + 1);
}

TEST_F(CliTest, LogReachesTheCheckpointWhenARunIsKilled) {
  const std::string command = "cd '" + folder_.string() +
                              "' && exec '" HALFSTEP_PROGRAM
                              "' train mlp.onnx --data x.npy,y.npy --steps 100000000 --checkpoint checkpoint "
                              "--checkpoint-every 5 --log log.jsonl >output 2>&1 & run=$!; "
                              "while kill -0 $run && [ ! -s '" +
                              (folder_ / "checkpoint" / "checkpoint.prev.safetensors").string() +
                              "' ]; do sleep 0.05; done; kill -KILL $run; wait $run";
  std::system(command.c_str());
  const Outcome resumed = run("train mlp.onnx --data x.npy,y.npy --epochs 1 --resume checkpoint --log log.jsonl");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.text;
  const std::vector<nlohmann::json> log = read_log("log.jsonl");
  ASSERT_GE(log.size(), 5u);
  EXPECT_EQ(log.size() % 5, 0u) << "as many steps as the checkpoint has";
  for (std::size_t i = 0; i < log.size(); ++i) EXPECT_EQ(log[i]["step"], i + 1);
}

TEST_F(CliTest, OpenMpThreadsDoNotSpinUnlessTheUserSaysSo) {
  // libgomp shows what it took from the environment on standard error.
  const auto spins = [&](const std::string& environment) {
    const std::string text = run("devices", "OMP_DISPLAY_ENV=verbose " + environment).text;
    const std::size_t at = text.rfind("GOMP_SPINCOUNT = '");
    return at == text.npos ? "none" : text.substr(at + 18, text.find('\'', at + 18) - at - 18);
  };
  EXPECT_EQ(spins("env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT"), "1000");
  EXPECT_EQ(spins("env -u OMP_WAIT_POLICY GOMP_SPINCOUNT=77"), "77");
  EXPECT_EQ(spins("env -u GOMP_SPINCOUNT OMP_WAIT_POLICY=passive"), "0");
}

TEST_F(CliTest, OverflowSkipsStepsUntilTheLossScaleFits) {
  const Outcome trained = run(
      "train mlp.onnx --data x.npy,y.npy --precision fp16 --loss-scale 1e30 --batch 40 --steps 150 --log log.jsonl");
  ASSERT_EQ(trained.exit_code, 0) << trained.text;
  const std::vector<nlohmann::json> log = read_log("log.jsonl");
  ASSERT_EQ(log.size(), 150u);
  EXPECT_FALSE(log.front()["grads_finite"].get<bool>());
  for (std::size_t i = 0; i + 1 < log.size(); ++i) {
    if (log[i]["grads_finite"].get<bool>()) continue;
    const double scale = log[i]["loss_scale"].get<double>(), next = log[i + 1]["loss_scale"].get<double>();
    EXPECT_FLOAT_EQ(next, scale / 2) << "after step " << i + 1;
  }
  EXPECT_TRUE(log.back()["grads_finite"].get<bool>());
  EXPECT_LT(log.back()["loss"].get<double>(), log.front()["loss"].get<double>() / 2);
}

TEST_F(CliTest, InterruptedRunWritesItsResultAndExitsWithTheSignal) {
  for (const auto& [signal, exit_code] : {std::pair("INT", 130), std::pair("TERM", 143)}) {
    const std::string name = signal;
    const std::string command =
        "cd '" + folder_.string() +
        "' && exec '" HALFSTEP_PROGRAM "' train mlp.onnx --data x.npy,y.npy --epochs 100000000 --checkpoint " + name +
        " --checkpoint-every 100000000 --log " + name + ".jsonl -o " + name + ".onnx >output" +
        " 2>&1 & run=$!; while kill -0 $run && [ ! -s '" + (folder_ / (name + ".jsonl")).string() +
        "' ]; do sleep 0.05; done; kill -" + name + " $run; wait $run";
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), exit_code);
    EXPECT_TRUE(fs::exists(folder_ / name / "checkpoint.safetensors"));
    EXPECT_TRUE(fs::exists(folder_ / (name + ".onnx")));
  }
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

TEST_F(CliTest, RunWritesTheOnlyOutputAsAnArrayWhereTheFileIsCalledSo) {
  ASSERT_EQ(run("run mlp.onnx --input x.npy -o out.npz").exit_code, 0);
  const Outcome outcome = run("run mlp.onnx --input x.npy -o out.npy");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const NpzFile file(folder_ / "out.npz");
  EXPECT_TRUE(identical(open_npy(folder_ / "out.npy").load(), file.open(file.names()[0]).load()));
  save_model(
      parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m (float[N, 784] x) => (float[N, 784] y, float[N, 784] z)
    { y = Neg(x) z = Abs(x) })")
          .graph,
      folder_ / "two.onnx");
  const Outcome two = run("run two.onnx --input x.npy -o two.npy");
  EXPECT_EQ(two.exit_code, 2) << two.text;
  EXPECT_THAT(two.text, HasSubstr("an .npz file for several outputs, got two.npy\nHint: write -o two.npz"));
  EXPECT_FALSE(fs::exists(folder_ / "two.npy"));
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
  const Outcome outcome = run("inspect mlp.onnx --parameters --plan --precision fp32 --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const nlohmann::json json = nlohmann::json::parse(outcome.output);
  EXPECT_EQ(json["inputs"].size(), 1u);
  EXPECT_EQ(json["inputs"][0]["shape"], nlohmann::json::array({nullptr, 784}));
  EXPECT_EQ(json["initializers"]["elements"], 784 * 128 + 128 + 128 * 10 + 10);
  EXPECT_EQ(json["trainable"].size(), 4u);
  EXPECT_FALSE(json["plan"]["nodes"].empty());
  EXPECT_EQ(run("inspect mlp.onnx --parameters --plan").exit_code, 0);
}

/// mlp.onnx with an operator that is not known, in unknown.onnx.
void write_unknown_operator(const std::filesystem::path& folder) {
  std::ifstream source(folder / "mlp.onnx", std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(source), {});
  const std::size_t at = bytes.find("\x22\x04Relu");  // the field of the operator's type
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at + 2, 4, "Curl");
  std::ofstream(folder / "unknown.onnx", std::ios::binary) << bytes;
}

TEST_F(CliTest, InspectListsWhatItCanOfAModelWithUnknownOperators) {
  write_unknown_operator(folder_);
  const Outcome listed = run("inspect unknown.onnx --json");
  EXPECT_EQ(listed.exit_code, 0) << listed.text;
  const auto json = nlohmann::json::parse(listed.output);
  EXPECT_EQ(json["operators"]["Gemm"], 2);
  EXPECT_EQ(json["operators"]["Curl"], 1);
  EXPECT_EQ(json["initializers"]["elements"], 101770);
  ASSERT_EQ(json["unsupported"].size(), 1u);
  EXPECT_EQ(json["unsupported"][0]["operator"], "Curl");
  EXPECT_EQ(json["unsupported"][0]["domain"], "ai.onnx");
  EXPECT_EQ(json["unsupported"][0]["count"], 1);
  EXPECT_THAT(run("inspect unknown.onnx").output, HasSubstr("not supported"));
  // What needs the operator's meaning is refused, after what can be told.
  const Outcome refused = run("inspect unknown.onnx --parameters");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.output, HasSubstr("101,770 elements"));
  EXPECT_THAT(refused.text, HasSubstr("Curl"));
}

TEST_F(CliTest, ReportsAndErrorsNameTheFileOnce) {
  EXPECT_EQ(run("convert mlp.onnx --precision fp16 --dry-run --report report.json --report report.html").exit_code, 0);
  std::ifstream report(folder_ / "report.json"), page(folder_ / "report.html");
  EXPECT_EQ(nlohmann::json::parse(report)["model"], "mlp.onnx");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(page), {}), HasSubstr("<title>mlp.onnx</title>"));
  const std::string refusal = run("convert garbage.onnx -o half.onnx --precision fp16").text;
  const std::size_t first = refusal.find("garbage.onnx");
  ASSERT_NE(first, std::string::npos) << refusal;
  EXPECT_EQ(refusal.find("garbage.onnx", first + 1), std::string::npos) << refusal;
}

TEST_F(CliTest, RunOfAnEndlessLoopEndsWithTheFirstSignal) {
  save_model(parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m (float[1] x) => (float[1] y)
    <int64 n = {9223372036854775807}, bool c = {1}> { y = Loop (n, c, x)
      <body = b (int64 i, bool go, float[1] s) => (bool again, float[1] t) { again = Identity(go) t = Neg(s) }> })")
                 .graph,
             folder_ / "endless.onnx");
  write_npy(folder_ / "one.npy", Tensor::of<float>({1}));
  // Sends the signal once the program catches both, which is while the model runs. The shell that becomes the program
  // catches one.
  std::ofstream(folder_ / "send.sh") << R"(signal=$1; shift
"$@" & pid=$!
until grep -q 'SigCgt:.*[4567cdef]..[2367abef]$' /proc/$pid/status || grep -q 'State:.Z' /proc/$pid/status; do sleep 0.02; done
kill -$signal $pid
wait $pid)";
  for (const char* signal : {"INT", "TERM"}) {
    const Outcome outcome =
        run("run endless.onnx --input one.npy -o y.npz --executor reference", "sh send.sh " + std::string(signal));
    EXPECT_EQ(outcome.exit_code, std::string(signal) == "INT" ? 130 : 143) << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("halfstep: interrupted while the model ran; nothing was written\n"));
    EXPECT_FALSE(fs::exists(folder_ / "y.npz"));
  }
}

}  // namespace
}  // namespace halfstep
