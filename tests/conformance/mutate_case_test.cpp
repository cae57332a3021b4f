// ONNX test cases with something changed: refused or right.
#include "conformance/mutate_case.h"

#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include "onnx_io/convert.h"
#include "ops/proto.h"
#include "tests/temporary_directory.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A case with attributes, integer operands and two float inputs.
constexpr const char* kText = R"(<ir_version: 10, opset_import: ["": 20]>
  g (float[2,6] x, float[3,4] w, int64[2] shape) => (float[2,4] y, float[a,b] z) {
    r = Reshape(x, shape)
    s = Softmax<axis = 1>(r)
    y = Gemm<alpha = 2.0, transB = 0>(s, w)
    z = Transpose<perm = [1, 0]>(w)
  })";

class MutateCase : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path data = folder_.path() / "test_data_set_0";
    fs::create_directories(data);
    write(folder_.path() / "model.onnx", to_proto(parse_model(kText).graph));
    const Tensor inputs[] = {Tensor(DType::f32, {4, 3}).reshaped({2, 6}), Tensor(DType::f32, {3, 4}),
                             Tensor::of<std::int64_t>({4, 3})};
    for (int i = 0; i < 3; ++i) write(data / ("input_" + std::to_string(i) + ".pb"), tensor_to_proto(inputs[i]));
  }
  static void write(const fs::path& path, const google::protobuf::MessageLite& message) {
    std::ofstream(path, std::ios::binary) << message.SerializeAsString();
  }
  OnnxCase onnx_case() const { return OnnxCase(folder_.path(), "case"); }

  TemporaryDirectory folder_;
};

TEST_F(MutateCase, IsAFunctionOfSeedAndNumber) {
  const OnnxCase original = onnx_case();
  std::set<std::string> changes;
  for (std::size_t i = 0; i < 50; ++i) {
    const MutatedCase first = mutate_case(original, 1, i), second = mutate_case(original, 1, i);
    EXPECT_EQ(first.changes, second.changes);
    EXPECT_EQ(first.inputs.size(), second.inputs.size());
    changes.insert(first.changes);
  }
  EXPECT_GT(changes.size(), 30u);
}

TEST_F(MutateCase, IsRefusedOrRight) {
  const OnnxCase original = onnx_case();
  const std::unique_ptr<Executor> onednn = make_onednn_executor();
  for (std::size_t i = 0; i < 300; ++i) {
    const CheckReport report = check_mutant(original, mutate_case(original, 2, i), i, *onednn);
    EXPECT_TRUE(report.ok()) << report.case_name << ": " << report.message;
  }
}

TEST_F(MutateCase, ChangesBodiesToo) {
  write(folder_.path() / "model.onnx", to_proto(parse_model(R"(<ir_version: 10, opset_import: ["": 20]>
    g (bool condition, float[2] x) => (float[a] y) {
      y = If (condition) <then_branch = t () => (float[a] p) { p = Concat<axis = 0>(x, x) },
                          else_branch = e () => (float[b] q) { q = LeakyRelu<alpha = 0.5>(x) }>
    })")
                                                    .graph));
  std::set<std::string> changes;
  for (std::size_t i = 0; i < 200; ++i) changes.insert(mutate_case(onnx_case(), 4, i).changes);
  for (const char* change : {"attribute alpha = -1\n", "attribute axis removed\n", "'p' no longer", "'q' no longer"})
    EXPECT_THAT(changes, ::testing::Contains(HasSubstr(change)));
}

TEST_F(MutateCase, ShapesThatTheOperatorTakesLoad) {
  constexpr const char* kRelu = R"(<ir_version: 10, opset_import: ["": 20]> g (float[2,6] x) => (float[2,6] y) {
    y = Relu(x)
  })";
  write(folder_.path() / "model.onnx", to_proto(parse_model(kRelu).graph));
  for (const char* other : {"input_1.pb", "input_2.pb"}) fs::remove(folder_.path() / "test_data_set_0" / other);
  std::size_t reshaped = 0;
  for (std::size_t i = 0; i < 200; ++i) {
    const MutatedCase mutant = mutate_case(onnx_case(), 5, i);
    if (!mutant.changes.starts_with("input 0 of shape") || mutant.changes.find('\n') + 1 != mutant.changes.size())
      continue;
    ++reshaped;
    EXPECT_NO_THROW(load_model_from_bytes(mutant.model)) << mutant.changes;
  }
  EXPECT_GT(reshaped, 0u);
}

TEST_F(MutateCase, LeavesTheOriginalAlone) {
  const OnnxCase original = onnx_case();
  const std::string before = original.model_bytes();
  for (std::size_t i = 0; i < 20; ++i) mutate_case(original, 3, i);
  EXPECT_EQ(original.model_bytes(), before);
}

}  // namespace
}  // namespace halfstep
