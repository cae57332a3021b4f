// ONNX test cases in folders: read, run, compared, and the reasons for which they do not apply.
#include "conformance/onnx_case.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/defs/parser.h>
#include <onnx/onnx-data.pb.h>
#include <onnx/onnx_pb.h>

#include "onnx_io/convert.h"
#include "ops/proto.h"
#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kRelu =
    R"(<ir_version: 10, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Relu(x) })";

void write_message(const fs::path& path, const google::protobuf::MessageLite& message) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << message.SerializeAsString();
}

onnx::ModelProto model_of(const std::string& text) { return to_proto(parse_model(text).graph); }

class OnnxCaseTest : public ::testing::Test {
 protected:
  OnnxCase write(const onnx::ModelProto& model, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                 const std::string& name = "test_case") const {
    write_message(root() / name / "model.onnx", model);
    const fs::path data = root() / name / "test_data_set_0";
    fs::create_directories(data);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      write_message(data / ("input_" + std::to_string(i) + ".pb"), tensor_to_proto(inputs[i]));
    for (std::size_t i = 0; i < outputs.size(); ++i)
      write_message(data / ("output_" + std::to_string(i) + ".pb"), tensor_to_proto(outputs[i]));
    return OnnxCase(root() / name, name);
  }
  CheckReport check(const OnnxCase& onnx_case) const { return check_onnx_case(onnx_case, *executor_); }
  const fs::path& root() const { return folder_.path(); }

  TemporaryDirectory folder_;
  std::unique_ptr<Executor> executor_ = make_reference_executor();
};

TEST_F(OnnxCaseTest, PassesWithTheRightOutputs) {
  const CheckReport report = check(write(model_of(kRelu), {Tensor::of<float>({-1, 2})}, {Tensor::of<float>({0, 2})}));
  EXPECT_EQ(report.result, CheckResult::passed) << report.message;
  EXPECT_EQ(report.op, "Relu");
  EXPECT_EQ(report.case_name, "test_case");
}

TEST_F(OnnxCaseTest, SaysWhichElementDiffers) {
  const CheckReport report = check(write(model_of(kRelu), {Tensor::of<float>({-1, 2})}, {Tensor::of<float>({0, 3})}));
  EXPECT_EQ(report.result, CheckResult::failed);
  EXPECT_THAT(report.message, HasSubstr("output 'y', element 1: 2, and 3 in the case"));
}

TEST_F(OnnxCaseTest, RefusesAnotherShapeOrType) {
  const Tensor x = Tensor::of<float>({1, 2});
  EXPECT_THAT(check(write(model_of(kRelu), {x}, {x.reshaped({1, 2})}, "shape")).message,
              HasSubstr("[1, 2] in the case"));
  EXPECT_THAT(check(write(model_of(kRelu), {x}, {convert(x, DType::f64)}, "type")).message, HasSubstr("f64"));
  EXPECT_THAT(check(write(model_of(kRelu), {x}, {x, x}, "count")).message, HasSubstr("2 in the case"));
}

TEST_F(OnnxCaseTest, TakesTheCasesOwnTolerance) {
  const OnnxCase onnx_case = write(model_of(kRelu), {Tensor::of<float>({100})}, {Tensor::of<float>({101})});
  EXPECT_EQ(check(onnx_case).result, CheckResult::failed);
  std::ofstream(onnx_case.folder() / "data.json") << R"({"rtol": 0.02})";
  EXPECT_EQ(check(onnx_case).result, CheckResult::passed);
  EXPECT_EQ(tolerance_of(onnx_case).absolute, 1e-7);
  std::ofstream(onnx_case.folder() / "data.json") << "[";
  EXPECT_THAT(check(onnx_case).message, HasSubstr("data.json"));
}

TEST_F(OnnxCaseTest, ComparesRoughExpectationsToUnitsOfTheirType) {
  const onnx::ModelProto model = model_of(R"(<ir_version: 10, opset_import: ["": 20]>
      g (float16[N] x) => (float16[N] y) { y = Relu(x) })");
  auto check_against = [&](double expected, const std::string& name) {
    return check(write(model, {convert(Tensor::of<float>({1}), DType::f16)},
                       {convert(Tensor::of(std::vector<double>{expected}), DType::f16)}, name));
  };
  const double two_units = 1 + 0x1p-9, three_units = 1 + 3 * 0x1p-10;
  EXPECT_EQ(check_against(two_units, "node/test_relu_fp16").result, CheckResult::failed);
  const CheckReport rough = check_against(two_units, "node/test_attention_4d_causal_fp16_expanded");
  EXPECT_EQ(rough.result, CheckResult::passed);
  EXPECT_THAT(rough.message, HasSubstr("two units of f16"));
  EXPECT_EQ(check_against(three_units, "light/test_attention_4d_causal_fp16_expanded").result, CheckResult::failed);
}

TEST_F(OnnxCaseTest, NamesOperatorsOutsideTheTable) {
  onnx::ModelProto model = model_of(kRelu);
  model.mutable_graph()->mutable_node(0)->set_op_type("QLinearAdd");
  const CheckReport report = check(write(model, {}, {}));
  EXPECT_EQ(report.result, CheckResult::not_applicable);
  EXPECT_EQ(report.message, "not in the operator table: QLinearAdd");
}

TEST_F(OnnxCaseTest, DoesNotApplyToMaps) {
  onnx::ModelProto model = model_of(kRelu);
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_map_type();
  EXPECT_EQ(not_applicable(write(model, {}, {})), "'x' is a map");
  model.mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_sequence_type()
      ->mutable_elem_type()
      ->mutable_map_type();
  EXPECT_EQ(not_applicable(write(model, {}, {}, "sequence")), "'x' is a sequence of elements that are not tensors");
}

// A sequence, an optional value that is absent, and a position: three kinds of files.
TEST_F(OnnxCaseTest, TakesSequencesAndOptionalValuesApart) {
  onnx::ModelProto model;
  onnx::OnnxParser parser(R"(<ir_version: 10, opset_import: ["": 20]>
      g (seq(float[N]) s, optional(float[2]) o, int64 i) => (seq(float[N]) t, bool h)
      { t = SequenceErase(s, i) h = OptionalHasElement(o) })");
  ASSERT_TRUE(parser.Parse(model).IsOK());
  auto sequence_of = [](const std::vector<Tensor>& elements) {
    onnx::SequenceProto sequence;
    sequence.set_elem_type(onnx::SequenceProto::TENSOR);
    for (const Tensor& element : elements) *sequence.add_tensor_values() = tensor_to_proto(element);
    return sequence;
  };
  const Tensor a = Tensor::of<float>({1, 2}), b = Tensor::of<float>({3}), c = Tensor::of<float>({4, 5, 6});
  write_message(root() / "test_case" / "model.onnx", model);
  const fs::path data = root() / "test_case" / "test_data_set_0";
  write_message(data / "input_0.pb", sequence_of({a, b, c}));
  onnx::OptionalProto absent;
  absent.set_elem_type(onnx::OptionalProto::UNDEFINED);
  write_message(data / "input_1.pb", absent);
  write_message(data / "input_2.pb", tensor_to_proto(Tensor::scalar(std::int64_t{-2})));
  write_message(data / "output_0.pb", sequence_of({a, c}));
  write_message(data / "output_1.pb", tensor_to_proto(Tensor::scalar(false)));
  const OnnxCase onnx_case(root() / "test_case", "test_case");
  EXPECT_EQ(onnx_case.data_sets().at(0).inputs.size(), 3u);
  const CheckReport right = check(onnx_case);
  EXPECT_EQ(right.result, CheckResult::passed) << right.message;
  write_message(data / "output_0.pb", sequence_of({a, b}));
  EXPECT_THAT(check(onnx_case).message, HasSubstr("output 't.1'"));
  write_message(data / "output_0.pb", sequence_of({a}));
  EXPECT_THAT(check(onnx_case).message, HasSubstr("3 outputs, and 2 in the case"));
}

TEST_F(OnnxCaseTest, FailsWithoutData) {
  const OnnxCase onnx_case = write(model_of(kRelu), {}, {});
  fs::remove_all(onnx_case.folder() / "test_data_set_0");
  EXPECT_THAT(check(onnx_case).message, HasSubstr("no test_data_set_0"));
}

TEST_F(OnnxCaseTest, FindsCasesInFoldersOfFolders) {
  write(model_of(kRelu), {}, {}, "b/test_1");
  write(model_of(kRelu), {}, {}, "a/test_2");
  std::vector<std::string> names;
  for (const OnnxCase& found : find_onnx_cases(root())) names.push_back(found.name());
  EXPECT_THAT(names, ElementsAre("a/test_2", "b/test_1"));
  EXPECT_THROW(find_onnx_cases(root() / "nothing"), Error);
  EXPECT_THROW(find_onnx_cases(root() / "b/test_1/model.onnx"), Error);
}

TEST_F(OnnxCaseTest, RefusesAFolderThatIsNone) {
  const OnnxCase onnx_case = write(model_of(kRelu), {}, {});
  fs::remove_all(onnx_case.folder());
  std::ofstream(onnx_case.folder()) << "a file";
  EXPECT_THROW(onnx_case.data_sets(), Error);
  fs::remove(onnx_case.folder());
}

}  // namespace
}  // namespace halfstep
