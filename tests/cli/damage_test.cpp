// Files that change under a run, outputs in the place of what is read, and disks that are full: nothing is lost.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/cli/program.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

using Damage = CliTest;

TEST_F(Damage, DataThatIsCutEndsARunWithItsCheckpointAndModel) {
  const std::string command =
      "cd '" + folder_.string() +
      "' && { exec '" HALFSTEP_PROGRAM
      "' train mlp.onnx --data x.npy,y.npy --epochs 100000000 --checkpoint checkpoint --checkpoint-every 100000000 "
      "--log log.jsonl -o trained.onnx >output 2>errors; } & run=$!; "
      "while kill -0 $run && [ ! -s '" +
      (folder_ / "log.jsonl").string() + "' ]; do sleep 0.05; done; truncate -s 10000 '" +
      (folder_ / "x.npy").string() + "'; wait $run";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  std::ifstream errors(folder_ / "errors");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(errors), {}), AllOf(HasSubstr("x.npy"), HasSubstr("row 3 ")));
  EXPECT_TRUE(fs::exists(folder_ / "checkpoint" / "checkpoint.safetensors"));
  EXPECT_TRUE(fs::exists(folder_ / "trained.onnx"));
}

TEST_F(Damage, OutputsAreNotWhatTheRunItselfReadsOrWrites) {
  ASSERT_EQ(run("train mlp.onnx --data x.npy,y.npy --steps 1 --checkpoint checkpoint").exit_code, 0);
  ASSERT_EQ(run("train mlp.onnx --data x.npy,y.npy --steps 2 --resume checkpoint").exit_code, 0);
  save_model(load_model(folder_ / "mlp.onnx").graph, folder_ / "split.onnx", ExternalData::always);
  fs::create_hard_link(folder_ / "x.npy", folder_ / "hard.npy");
  fs::create_symlink("y.npy", folder_ / "soft.npy");
  fs::create_directories(folder_ / "idx");
  for (const char* name : {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}) {
    const fs::path source = test::source_dir() / "models" / "mnist";
    for (const auto& entry : fs::directory_iterator(source))
      if (entry.path().filename().string().starts_with(name))
        fs::copy_file(entry.path(), folder_ / "idx" / entry.path().filename());
  }
  const std::string image = fs::directory_iterator(folder_ / "idx")->path().filename().string();
  const std::string train = "train mlp.onnx --data x.npy,y.npy --steps 1 ";
  const std::string cases[] = {
      train + "-o hard.npy",
      train + "-o ./mlp.onnx",
      train + "--log hard.npy",
      train + "--log soft.npy",
      train + "-o checkpoint/checkpoint.safetensors --checkpoint checkpoint",
      train + "--log checkpoint/checkpoint.prev.safetensors --checkpoint checkpoint",
      train + "--curve checkpoint/checkpoint.safetensors --resume checkpoint",
      "train mlp.onnx --data idx --steps 1 -o idx/" + image,
      "train split.onnx --data x.npy,y.npy --steps 1 -o split.onnx",
      "train split.onnx --data x.npy,y.npy --steps 1 -o split.onnx.data",
      "train split.onnx --data x.npy,y.npy --steps 1 --log split.onnx.data",
      "run split.onnx --input x.npy -o split.onnx.data",
      "run mlp.onnx --input x.npy -o mlp.onnx",
      "convert split.onnx --precision fp16 -o split.onnx.data",
      "convert split.onnx --precision fp16 -o half.onnx --report ./split.onnx",
  };
  for (const std::string& arguments : cases) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments << "\n" << outcome.text;
  }
  EXPECT_EQ(run("evaluate split.onnx --data hard.npy,soft.npy").exit_code, 0);
}

TEST_F(Damage, AnOutputIsWrittenThroughALink) {
  fs::create_directory(folder_ / "store");
  for (const auto& [link, call] : {std::pair("link.onnx", "train mlp.onnx --data x.npy,y.npy --steps 1 -o "),
                                   std::pair("link.npz", "run mlp.onnx --input x.npy -o ")}) {
    const fs::path target = folder_ / "store" / link;
    fs::create_symlink(fs::path("store") / link, folder_ / link);
    for (const bool is_there : {false, true}) {
      ASSERT_EQ(run(std::string(call) + link).exit_code, 0) << link << is_there;
      EXPECT_TRUE(fs::is_symlink(folder_ / link));
      EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(target)));
      fs::resize_file(target, 0);
    }
    EXPECT_EQ(run(std::string(call) + link).exit_code, 0);
    EXPECT_GT(fs::file_size(target), 0u);
  }
  EXPECT_EQ(run("evaluate link.onnx --data x.npy,y.npy").exit_code, 0);
  fs::create_symlink("circle.onnx", folder_ / "circle.onnx");
  EXPECT_THAT(run("train mlp.onnx --data x.npy,y.npy --steps 1 -o circle.onnx").text,
              HasSubstr("Too many levels of symbolic links"));
}

TEST_F(Damage, ADiskThatIsFullCostsACheckpointAndNotTheModel) {
  // A limit that the checkpoint (three times the parameters) is beyond and the model is not.
  const Outcome outcome =
      run("train mlp.onnx --data x.npy,y.npy --epochs 2 --checkpoint checkpoint --log log.jsonl -o trained.onnx",
          "ulimit -f 1600;");
  EXPECT_EQ(outcome.exit_code, 1) << outcome.text;
  EXPECT_THAT(outcome.text,
              AllOf(HasSubstr("no checkpoint of step"), HasSubstr("epoch 2/2"), HasSubstr("File too large")));
  EXPECT_TRUE(fs::exists(folder_ / "trained.onnx"));
  EXPECT_EQ(read_log("log.jsonl").size(), 4u);
  EXPECT_FALSE(fs::exists(folder_ / "checkpoint" / "checkpoint.safetensors"));
}

}  // namespace
}  // namespace halfstep
