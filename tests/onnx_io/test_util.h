// What the tests of this folder share.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <onnx/defs/parser.h>
#include <onnx/onnx_pb.h>
#include <unistd.h>

#include "tests/paths.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep::test {

inline const std::filesystem::path kZoo = source_dir() / "models" / "zoo";

inline const std::vector<std::string> kZooCases = {"mlp-torchscript",
                                                   "mlp-dynamo",
                                                   "mlp-keras",
                                                   "lenet-torchscript",
                                                   "lenet-dynamo",
                                                   "lenet-keras",
                                                   "resnet-torchscript",
                                                   "resnet-dynamo",
                                                   "mobilenetv2-torchscript",
                                                   "mobilenetv2-dynamo",
                                                   "squeezenet-torchscript",
                                                   "squeezenet-dynamo"};

/// A folder of its own for one test, removed with it.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "halfstep-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline onnx::ModelProto parse_proto(const std::string& text) {
  onnx::ModelProto model;
  onnx::OnnxParser parser(text.c_str());
  const auto status = parser.Parse(model);
  if (!status.IsOK()) throw std::runtime_error(status.ErrorMessage());
  return model;
}

inline onnx::ModelProto read_proto(const std::filesystem::path& path) {
  onnx::ModelProto model;
  if (!model.ParseFromString(read_bytes(path))) throw std::runtime_error("no model: " + path.string());
  return model;
}

/// The text of the Error that `work` throws, or "" when it throws none.
template <class F>
std::string error_of(const F& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace halfstep::test
