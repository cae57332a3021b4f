// Trained parameters go back into Constant nodes, whatever form those have.
#include <fstream>

#include "onnx_io/convert.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/save.h>

namespace halfstep {
namespace {

using test::parse_proto;

constexpr const char* kHead = "<ir_version: 10, opset_import: [\"\": 20]> constants (float[N,2] x) => (float[N,2] y) ";

struct Form {
  const char* body;  // reads the parameter "p", of two elements or a scalar
  std::vector<float> trained;
};

class ConstantNodes : public testing::TestWithParam<Form> {};

TEST_P(ConstantNodes, HoldTheTrainedParameter) {
  const LoadedModel model = parse_model(std::string(kHead) + GetParam().body);
  check_can_save(*model.source, {"p"});
  const bool is_scalar = GetParam().trained.size() == 1;
  const NamedTensors trained{{"p", Tensor::of<float>(GetParam().trained, is_scalar ? Shape{} : Shape{2})}};
  const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*model.source, trained));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("p")].constant),
            std::vector<double>(GetParam().trained.begin(), GetParam().trained.end()));
}

INSTANTIATE_TEST_SUITE_P(
    Forms, ConstantNodes,
    testing::Values(Form{"{ p = Constant<value = float[2] {1,2}>() y = Mul(x, p) }", {3, 4}},
                    Form{"{ p = Constant<value_floats = [1.0, 2.0]>() y = Mul(x, p) }", {3, 4}},
                    Form{"{ p = Constant<value_float = 1.0>() y = Mul(x, p) }", {3}},
                    Form{"{ c = Constant<value = float[2] {1,2}>() p = Identity(c) y = Mul(x, p) }", {3, 4}}));

TEST(ConstantNode, OfAParameterNotTrainedDoesNotFollowTheOneItWasMergedWith) {
  const LoadedModel model = parse_model(
      std::string(kHead) + "{ c = Constant<value = float[2] {1,2}>() p = Identity(c) a = Mul(x, p) y = Mul(a, c) }");
  const LoadedModel saved =
      load_model_from_bytes(trained_model_bytes(*model.source, {{"c", Tensor::of<float>({3, 4})}}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("c")].constant), (std::vector<double>{3, 4}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("p")].constant), (std::vector<double>{1, 2}));
}

TEST(ConstantNode, WithExternalDataIsSaved) {
  const test::TempFolder folder;
  onnx::ModelProto proto = parse_proto(std::string(kHead) + "{ p = Constant<value = float[2] {1,2}>() y = Mul(x, p) }");
  onnx::TensorProto& tensor = *proto.mutable_graph()->mutable_node(0)->mutable_attribute(0)->mutable_t();
  tensor.clear_float_data();
  tensor.clear_raw_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  auto& location = *tensor.add_external_data();
  location.set_key("location");
  location.set_value("weights.bin");
  const float elements[2] = {1, 2};
  std::ofstream(folder / "weights.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(elements), sizeof elements);
  std::ofstream(folder / "model.onnx", std::ios::binary) << proto.SerializeAsString();

  const LoadedModel model = load_model(folder / "model.onnx");
  save_trained(*model.source, {{"p", Tensor::of<float>({3, 4})}}, folder / "trained.onnx");
  const LoadedModel saved = load_model(folder / "trained.onnx");
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("p")].constant), (std::vector<double>{3, 4}));
}

}  // namespace
}  // namespace halfstep
