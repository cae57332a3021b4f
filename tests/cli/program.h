// The program as a shell runs it, in a folder with a model and data.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "tests/paths.h"
#include <halfstep/formats/npy.h>
#include <halfstep/graph/tensor.h>

namespace halfstep {

struct Outcome {
  int exit_code = -1;
  std::string output;  ///< standard output
  std::string text;    ///< standard output, then standard error
};

/// Runs `halfstep ARGUMENTS` in the shell, in the folder `where`.
inline Outcome halfstep(const std::filesystem::path& where, const std::string& arguments,
                        const std::string& environment = "") {
  const std::string command = "cd '" + where.string() + "' && " + environment + " '" HALFSTEP_PROGRAM "' " + arguments +
                              " 2>standard_error </dev/null";
  Outcome outcome;
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return outcome;
  std::array<char, 4096> buffer;
  while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.output.append(buffer.data(), count);
  const int status = pclose(pipe);
  std::ifstream errors(where / "standard_error");
  outcome.text = outcome.output + std::string(std::istreambuf_iterator<char>(errors), {});
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

/// A folder with mlp.onnx (784 inputs, 10 classes) and 40 rows of data in x.npy and y.npy.
class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "halfstep_cli_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    std::filesystem::copy_file(test::source_dir() / "models" / "mnist_mlp.onnx", folder_ / "mlp.onnx");
    constexpr std::int64_t kRows = 40, kFeatures = 784, kClasses = 10;
    Tensor x(DType::f32, {kRows, kFeatures}), y(DType::i64, {kRows});
    for (std::int64_t row = 0; row < kRows; ++row) {
      const std::int64_t label = row % kClasses;
      y.data<std::int64_t>()[row] = label;
      for (std::int64_t i = 0; i < kFeatures; ++i)
        x.data<float>()[row * kFeatures + i] = i % kClasses == label ? 1.0f : 0.0f;
    }
    write_npy(folder_ / "x.npy", x);
    write_npy(folder_ / "y.npy", y);
    write_npy(folder_ / "short.npy", y.rows(0, kRows - 1).clone());
    std::ofstream(folder_ / "garbage.onnx") << "this is no model at all\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    return halfstep(folder_, arguments, environment);
  }
  /// The records of a log: of steps (which have "loss") and of epochs (which have "train").
  std::vector<nlohmann::json> read_log(const std::string& name, const std::string& member = "loss") const {
    std::vector<nlohmann::json> records;
    std::ifstream file(folder_ / name);
    for (std::string line; std::getline(file, line);)
      if (nlohmann::json record = nlohmann::json::parse(line); record.contains(member)) records.push_back(record);
    return records;
  }

  std::filesystem::path folder_;
};

}  // namespace halfstep
