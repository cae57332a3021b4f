// A model that is larger than a protobuf message may be.
#include <fstream>

#include <onnx/defs/parser.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "onnx_io/replaced_data.h"
#include "tests/conversion/conversion_testing.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/base/half.h>

namespace halfstep {
namespace {

using testing::TemporaryFolder;

// Three gigabytes in tensors of half a gigabyte. The weights are holes of a sparse file but for a few.
TEST(LargeModel, ThreeGigabytesPassThroughLittleMemory) {
  constexpr std::int64_t kTensors = 6, kRows = 1 << 17, kColumns = 1024;
  constexpr std::uint64_t kTensorBytes = static_cast<std::uint64_t>(kRows) * kColumns * sizeof(float);
  const TemporaryFolder folder;
  const auto path = folder.path() / "large.onnx", out = folder.path() / "half.onnx";
  std::string text = "<ir_version: 10, opset_import: [\"\": 20]> large (float[1," + std::to_string(kRows) +
                     "] x) => (float[1," + std::to_string(kColumns) + "] y) { s0 = MatMul(x, w0) ";
  for (std::int64_t i = 1; i < kTensors; ++i) {
    const std::string n = std::to_string(i);
    text += "p" + n + " = MatMul(x, w" + n + ") s" + n + " = Add(s" + std::to_string(i - 1) + ", p" + n + ") ";
  }
  text += "y = Identity(s" + std::to_string(kTensors - 1) + ") }";
  onnx::ModelProto model;
  {
    onnx::OnnxParser parser(text.c_str());
    ASSERT_TRUE(parser.Parse(model).IsOK());
  }
  {
    std::ofstream data(folder.path() / "weights.bin", std::ios::binary);
    for (std::int64_t i = 0; i < kTensors; ++i) {
      auto* tensor = model.mutable_graph()->add_initializer();
      tensor->set_name("w" + std::to_string(i));
      tensor->set_data_type(onnx::TensorProto::FLOAT);
      tensor->add_dims(kRows);
      tensor->add_dims(kColumns);
      tensor->set_data_location(onnx::TensorProto::EXTERNAL);
      const auto add = [&](const char* key, const std::string& value) {
        auto* entry = tensor->add_external_data();
        entry->set_key(key);
        entry->set_value(value);
      };
      add("location", "weights.bin");
      add("offset", std::to_string(static_cast<std::uint64_t>(i) * kTensorBytes));
      add("length", std::to_string(kTensorBytes));
      const float marker = static_cast<float>(i) + 0.5f;
      data.seekp(static_cast<std::streamoff>(static_cast<std::uint64_t>(i + 1) * kTensorBytes - sizeof marker));
      data.write(reinterpret_cast<const char*>(&marker), sizeof marker);
    }
  }
  std::ofstream(path, std::ios::binary) << model.SerializeAsString();
  const pid_t child = ::fork();
  if (child == 0) {
    convert(ModelFile::open(path), {}).save(out);
    ::_exit(0);
  }
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  ASSERT_EQ(status, 0);
  EXPECT_LT(static_cast<std::uint64_t>(usage.ru_maxrss) * 1024, kTensorBytes * 13 / 10 + 500'000'000);
  ASSERT_EQ(std::filesystem::file_size(out.string() + ".data"), kTensors * kTensorBytes / 2 + kDataMark.size());
  const ModelFile converted = ModelFile::open(out);
  std::ifstream data(out.string() + ".data", std::ios::binary);
  for (std::int64_t i = 0; i < kTensors; ++i) {
    f16 marker;
    data.seekg(static_cast<std::streamoff>(static_cast<std::uint64_t>(i + 1) * kTensorBytes / 2 - sizeof marker));
    data.read(reinterpret_cast<char*>(&marker), sizeof marker);
    EXPECT_EQ(static_cast<float>(marker), static_cast<float>(i) + 0.5f);
  }
}

}  // namespace
}  // namespace halfstep
