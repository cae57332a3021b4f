// Folders of pictures, from the command line.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/data/pictures.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// Folders pictures/train and pictures/val with ten classes: which columns are bright tells the class.
class Pictures : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    fs::copy_file(test::source_dir() / "models" / "mnist_lenet.onnx", folder_ / "lenet.onnx");
    for (int c = 0; c < 10; ++c)
      for (int i = 0; i < 4; ++i) {
        const auto rows =
            testing::pixels(36, 36, 3, [&](int y, int x, int) { return (x / 2 + i + y / 18) % 10 == c ? 250 : 5; });
        const bool jpeg = i % 2 == 0;
        write(std::string(i < 3 ? "train/" : "val/") + static_cast<char>('a' + c) + "/" + std::to_string(i) +
                  (jpeg ? ".jpg" : ".png"),
              jpeg ? testing::jpeg_of(36, 36, rows) : testing::png_of(36, 36, SPNG_COLOR_TYPE_TRUECOLOR, rows));
      }
  }
  void write(const std::string& name, const std::string& bytes) const {
    const fs::path path = folder_ / "pictures" / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

TEST_F(Pictures, TrainAndEvaluate) {
  const Outcome outcome = run("train lenet.onnx --data pictures --val-data pictures --epochs 1 --batch 8 -o t.onnx");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.text, AllOf(HasSubstr("data       30 rows, 10 for validation"), HasSubstr("--augment none")));
  const Outcome evaluated = run("evaluate t.onnx --data pictures/val --json");
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.text;
  EXPECT_EQ(nlohmann::json::parse(evaluated.output)["rows"], 10);
  // An input that is flat does not say how large pictures are.
  EXPECT_THAT(run("evaluate mlp.onnx --data pictures").text, HasSubstr("--image-size HEIGHT,WIDTH"));
  const Outcome flat =
      run("train mlp.onnx --data pictures --image-size 28 --augment none --steps 2 --precision fp32 -o f.onnx");
  EXPECT_EQ(flat.exit_code, 0) << flat.text;
  EXPECT_THAT(flat.text, Not(HasSubstr("--augment")));
  EXPECT_THAT(run("train mlp.onnx --data pictures --augment turn").text, HasSubstr("for --augment, got 'turn'"));
}

TEST_F(Pictures, AResumedRunEndsAsOneThatWasNotStopped) {
  const std::string train = "train lenet.onnx --data pictures --batch 7 --seed 3 --precision fp32 --threads 1 ";
  ASSERT_EQ(run(train + "--steps 9 -o whole.onnx").exit_code, 0);
  ASSERT_EQ(run(train + "--steps 4 --checkpoint c -o half.onnx").exit_code, 0);
  ASSERT_EQ(run(train + "--steps 9 --resume c -o resumed.onnx").exit_code, 0);
  EXPECT_TRUE(read("whole.onnx") == read("resumed.onnx"));
  EXPECT_THAT(run(train + "--steps 5 --resume c --augment flip --image-crop 1 -o flipped.onnx").text,
              AllOf(HasSubstr("resuming with --augment flip; the checkpoint was made with crop,flip"),
                    HasSubstr("resuming with --image-crop 1; the checkpoint was made with 0.875")));
  ASSERT_EQ(run(train + "--steps 9 --augment none -o plain.onnx").exit_code, 0);
  EXPECT_FALSE(read("whole.onnx") == read("plain.onnx"));
}

TEST_F(Pictures, ADamagedPictureIsNamed) {
  write("val/c/9.jpg", read("pictures/val/c/3.png").substr(0, 60));
  const Outcome outcome = run("evaluate lenet.onnx --data pictures");
  EXPECT_EQ(outcome.exit_code, 2) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("expected a readable image, got pictures/val/c/9.jpg: "));
}

}  // namespace
}  // namespace halfstep
