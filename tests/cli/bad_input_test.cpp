// Wrong calls, wrong input and disks that refuse: what the program says, and that nothing is lost.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include <halfstep/formats/npy.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

using BadInput = CliTest;

TEST_F(BadInput, WrongCallsAndInputsExitWithTwoAndSayWhy) {
  struct Case {
    const char* arguments;
    const char* says;
  };
  const Case cases[] = {
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
      {"train mlp.onnx --data x.npy,y.npy --optimizer tiger", "tiger"},
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
      {"train mlp.onnx --data x.npy,y.npy -o same.onnx --log ./same.onnx", "already that of --output"},
      {"train mlp.onnx --data x.npy,y.npy -o dangling.onnx --fp16-output same.onnx", "already that of --output"},
      {"train mlp.onnx --data x.npy,y.npy -o x.npy", "x.npy, which is read"},
      {"train --config read.toml --log read.toml", "read.toml, which is read"},
      {"convert mlp.onnx --config half.toml -o half.toml", "half.toml, which is read"},
      {"profile mlp.onnx --training --data x.npy,y.npy --trace x.npy", "x.npy, which is read"},
      {"train mlp.onnx --data x.npy,y.npy --val-data short.npy,short.npy --log short.npy", "which is read"},
      {"train mlp.onnx --data x.npy,y.npy --curve mlp.onnx", "mlp.onnx, which is read"},
      {"train mlp.onnx --data x.npy,y.npy -o ''", "--output"},
      {"train mlp.onnx --data x.npy,y.npy --resume loop", "loop"},
      {"train mlp.onnx --data x.npy,y.npy --optimizer sgd --momentum nan", "--momentum"},
      {"train mlp.onnx --data x.npy,y.npy --weight-decay nan", "--weight-decay"},
      {"train mlp.onnx --data x.npy,y.npy --clip-norm nan", "--clip-norm"},
      {"train mlp.onnx --data x.npy,y.npy --loss-scale nan", "--loss-scale"},
      {"train mlp.onnx --data x.npy,y.npy --lr -1", "--lr"},
      {"train mlp.onnx --data x.npy,y.npy --beta1 1", "--beta1"},
      {"train mlp.onnx --data x.npy,y.npy --epsilon 0", "--epsilon"},
      {"train mlp.onnx --data x.npy,y.npy --optimizer sgd --beta2 0.9",
       "the numbers of --optimizer sgd: --momentum, --dampening, --nesterov, --weight-decay, got --beta2"},
      {"train mlp.onnx --data x.npy,y.npy --accumulate 0", "--accumulate"},
      {"train mlp.onnx --data x.npy,y.npy --accumulate 1.5", "a whole number"},
      {"train mlp.onnx --data x.npy,y.npy --loss-scale 2 --loss-scale-min 4", "--loss-scale from 4"},
      {"train mlp.onnx --data x.npy,y.npy --seed -1", "--seed"},
      {"train mlp.onnx --data x.npy,y.npy --seed 18446744073709551616", "--seed"},
      {"evaluate mlp.onnx --data x.npy,short.npy", "39"},
      {"run mlp.onnx --input nobody=x.npy -o out.npz", "nobody"},
      {"run mlp.onnx --input y.npy -o out.npz", "784"},
      {"run mlp.onnx --input x.npy -o x.npy", "which is read"},
      {"run mlp.onnx --input loop -o out.npz", "loop"},
      {"convert mlp.onnx -o out.onnx --precision fp32", "fp32"},
      {"convert mlp.onnx --precision fp16", "--dry-run"},
      {"convert garbage.onnx -o out.onnx --precision fp16", "garbage.onnx"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --keep-io-types=nobody", "nobody"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --keep-fp32 Softmax", "op:TYPE"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --keep-fp32 'node:('", "regular expression"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --max-error 0.1", "--calibrate"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --max-error nan --calibrate x.npy", "--max-error"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --report out.txt", ".json or .html"},
      {"convert mlp.onnx -o out.json --precision fp16 --report out.json", "already that of --report"},
      {"convert mlp.onnx -o x.npy --precision fp16 --calibrate x.npy", "which is read"},
      {"check --op Relu --random -1", "--random"},
  };
  fs::create_symlink("loop", folder_ / "loop");
  std::ofstream(folder_ / "read.toml") << "model = \"mlp.onnx\"\ndata = [\"x.npy\", \"y.npy\"]\n";
  std::ofstream(folder_ / "half.toml") << "precision = \"fp16\"\n";
  fs::create_symlink("same.onnx", folder_ / "dangling.onnx");
  for (const Case& c : cases) {
    const Outcome outcome = run(c.arguments);
    EXPECT_EQ(outcome.exit_code, 2) << c.arguments << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("halfstep: error: expected ")) << c.arguments;
    EXPECT_THAT(outcome.text, HasSubstr(", got ")) << c.arguments;
    EXPECT_THAT(outcome.text, HasSubstr(c.says)) << c.arguments;
  }
}

TEST_F(BadInput, OutputThatCannotBeWrittenIsFoundBeforeTraining) {
  for (const char* flag : {"-o", "--fp16-output", "--curve", "--log", "--tensorboard"}) {
    if (flag == std::string("--tensorboard")) std::ofstream(folder_ / "no") << "a file where a folder should be\n";
    const Outcome outcome =
        run("train mlp.onnx --data x.npy,y.npy --epochs 1 " + std::string(flag) + " no/such/folder/file");
    EXPECT_THAT(outcome.exit_code, testing::AnyOf(1, 2)) << flag << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("no/such/folder")) << flag;
    EXPECT_THAT(outcome.text, Not(HasSubstr("epoch"))) << flag;
  }
}

TEST_F(BadInput, FullDiskIsAFailureThatNamesTheFile) {
  // No file may have more than so many blocks of 512 bytes: the models have 400 KB and 200 KB.
  const char* const small = "ulimit -f 100;";
  for (const char* flag : {"-o", "--fp16-output"}) {
    const Outcome outcome = run("train mlp.onnx --data x.npy,y.npy --steps 2 " + std::string(flag) + " m.onnx", small);
    EXPECT_EQ(outcome.exit_code, 1) << flag << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("m.onnx")) << flag;
    EXPECT_THAT(outcome.text, HasSubstr("File too large")) << flag;
  }
  const Outcome log = run("train mlp.onnx --data x.npy,y.npy --steps 2 --log /dev/full");
  EXPECT_EQ(log.exit_code, 1) << log.text;
  EXPECT_THAT(log.text, HasSubstr("/dev/full"));
  EXPECT_THAT(log.text, HasSubstr("No space left"));
  for (const char* flag : {"-o", "--fp16-output", "--curve"}) {
    const Outcome outcome = run("train mlp.onnx --data x.npy,y.npy --steps 2 " + std::string(flag) + " /dev/full");
    EXPECT_EQ(outcome.exit_code, 2) << flag << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("a regular file to write: /dev/full")) << flag;
  }
  const Outcome both =
      run("train mlp.onnx --data x.npy,y.npy --steps 2 -o m.onnx --fp16-output half.onnx", "ulimit -f 600;");
  EXPECT_EQ(both.exit_code, 1) << both.text;
  EXPECT_TRUE(fs::exists(folder_ / "half.onnx")) << "one file that cannot be written takes another along";
  const Outcome logged = run("train mlp.onnx --data x.npy,y.npy --batch 4 --steps 600 --log /dev/full -o logged.onnx");
  EXPECT_EQ(logged.exit_code, 1) << logged.text;
  EXPECT_TRUE(fs::exists(folder_ / "logged.onnx")) << "a log that cannot be written takes the training along";
  const Outcome events = run(
      "train mlp.onnx --data x.npy,y.npy --batch 4 --steps 600 --tensorboard events --curve c.svg", "ulimit -f 20;");
  EXPECT_EQ(events.exit_code, 1) << events.text;
  EXPECT_THAT(events.text, HasSubstr("the event file is tried again"));
  EXPECT_THAT(events.text, HasSubstr("expected a file of events that can be written"));
  for (const char* arguments : {"convert mlp.onnx --precision fp16 -o n.onnx", "devices >/dev/full"}) {
    const Outcome outcome = run(arguments, small);
    EXPECT_EQ(outcome.exit_code, 1) << arguments << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr("halfstep: error: expected ")) << arguments;
  }
}

TEST_F(BadInput, DataThatDoesNotFitTheModelIsToldBeforeAnythingIsWritten) {
  const Tensor x = open_npy(folder_ / "x.npy").load(), y = open_npy(folder_ / "y.npy").load();
  const auto save = [&](const char* name, const Tensor& from, auto&& change) {
    Tensor changed = from.clone();
    change(changed);
    write_npy(folder_ / name, changed);
  };
  save("nan.npy", x, [](Tensor& t) { t.data<float>()[17 * 784 + 5] = NAN; });
  save("high.npy", y, [](Tensor& t) { t.data<std::int64_t>()[23] = 10; });
  save("negative.npy", y, [](Tensor& t) { t.data<std::int64_t>()[23] = -1; });
  write_npy(folder_ / "narrow.npy", Tensor(DType::f32, {40, 783}));
  write_npy(folder_ / "float_y.npy", Tensor(DType::f32, {40}));
  write_npy(folder_ / "no_x.npy", Tensor(DType::f32, {0, 784}));
  write_npy(folder_ / "no_y.npy", Tensor(DType::i64, {0}));
  write_npy(folder_ / "square_y.npy", Tensor(DType::i64, {40, 7}));
  struct Case {
    const char* data;
    std::vector<const char*> says;
  };
  const Case cases[] = {
      {"nan.npy,y.npy", {"nan.npy", "17", "nan"}},
      {"x.npy,high.npy", {"high.npy", "23", "10"}},
      {"x.npy,negative.npy", {"negative.npy", "23"}},
      {"x.npy,short.npy", {"40", "39"}},
      {"narrow.npy,y.npy", {"narrow.npy", "783", "784"}},
      {"no_x.npy,no_y.npy", {"no_x.npy"}},
      {"x.npy,square_y.npy", {"7"}},
      {"x.npy,float_y.npy", {"f32", "save class indices as integers"}},
  };
  for (const Case& c : cases) {
    for (const std::string command : {"train mlp.onnx --epochs 1 -o out.onnx --data ", "evaluate mlp.onnx --data "}) {
      const Outcome outcome = run(command + c.data);
      EXPECT_EQ(outcome.exit_code, 2) << c.data << "\n" << outcome.text;
      for (const char* says : c.says) EXPECT_THAT(outcome.text, HasSubstr(says)) << command << c.data;
      EXPECT_FALSE(fs::exists(folder_ / "out.onnx")) << c.data;
    }
  }
}

TEST_F(BadInput, ModelsThatCannotBeTrainedAreToldWhy) {
  struct Case {
    const char* model;
    const char* says;
  };
  const Case cases[] = {
      {"(float[0, 784] x) => (float[0, 10] y)", "'x' has 0"},
      {"(float[N, 784] x) => ()", "a model with an output"},
  };
  for (const Case& c : cases) {
    save_model(parse_model(std::string(R"(<ir_version: 10, opset_import: ["": 20]> m )") + c.model +
                           " <int64[1] axes = {1}, float[1, 10] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}> "
                           "{ s = ReduceSum<keepdims = 1>(x, axes) y = MatMul(s, w) }")
                   .graph,
               folder_ / "odd.onnx");
    for (const std::string command : {"train odd.onnx --data x.npy,y.npy", "evaluate odd.onnx --data x.npy,y.npy"}) {
      const Outcome outcome = run(command);
      EXPECT_EQ(outcome.exit_code, 2) << command << c.model << "\n" << outcome.text;
      EXPECT_THAT(outcome.text, HasSubstr(c.says)) << command << c.model;
    }
  }
}

TEST_F(BadInput, CheckpointOfAnotherModelIsRefused) {
  const Outcome first = run("train mlp.onnx --data x.npy,y.npy --steps 2 --checkpoint checkpoint");
  ASSERT_EQ(first.exit_code, 0) << first.text;
  save_model(parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m (float[N, 784] x) => (float[N, 10] y)
    <int64[1] axes = {1}, float[1, 10] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}> { s = ReduceSum<keepdims = 1>(x, axes) y = MatMul(s, w) })")
                 .graph,
             folder_ / "other.onnx");
  const auto checkpoint = [&] {
    std::ifstream file(folder_ / "checkpoint" / "checkpoint.safetensors", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string before = checkpoint();
  const Outcome other = run("train other.onnx --data x.npy,y.npy --steps 4 --resume checkpoint");
  EXPECT_EQ(other.exit_code, 2) << other.text;
  EXPECT_THAT(other.text, HasSubstr("a checkpoint of this model"));
  const Outcome optimizer = run("train mlp.onnx --data x.npy,y.npy --steps 4 --optimizer sgd --resume checkpoint");
  EXPECT_EQ(optimizer.exit_code, 2) << optimizer.text;
  EXPECT_THAT(optimizer.text, HasSubstr("--optimizer adam"));
  EXPECT_TRUE(checkpoint() == before) << "a refused run changed the checkpoint";
}

TEST_F(CliTest, RefusedCallsLeaveNoFoldersBehind) {
  std::filesystem::create_directory(folder_ / "there");
  const Outcome refused = run(
      "train mlp.onnx --data x.npy,y.npy --loss mean_squared_error --metrics top_k --checkpoint a/b/c --tensorboard "
      "there/events");
  EXPECT_EQ(refused.exit_code, 2) << refused.text;
  for (const char* name : {"a", "there/events"}) EXPECT_FALSE(std::filesystem::exists(folder_ / name)) << name;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "there")) << "an empty folder of the user's";
  const Outcome done =
      run("train mlp.onnx --data x.npy,y.npy --steps 1 --checkpoint a/b/c --tensorboard there/events --dump-passes "
          "passes/");
  EXPECT_EQ(done.exit_code, 0) << done.text;
  for (const char* name : {"a/b/c/checkpoint.safetensors", "there/events", "passes"})
    EXPECT_TRUE(std::filesystem::exists(folder_ / name)) << name;
}

}  // namespace
}  // namespace halfstep
