// What deployed runtimes run though the ONNX checker refuses it, or ONNX says it in another way.
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/machine_memory.h"
#include "conformance/run_graph.h"
#include "onnx_io/detached.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

using test::error_of;
using testing::HasSubstr;

using Change = std::function<void(onnx::ModelProto&)>;

struct Case {
  const char* name;
  const char* text;
  Change change;
  std::vector<double> expected;  ///< of the input 1, -2, 3, -4, shaped as the model wants it
};

onnx::TensorProto list(const std::string& name, const std::vector<float>& values) {
  onnx::TensorProto tensor;
  tensor.set_name(name);
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(static_cast<std::int64_t>(values.size()));
  for (const float value : values) tensor.add_float_data(value);
  return tensor;
}

onnx::TensorProto indices(const std::vector<std::int64_t>& dims, const std::vector<std::int64_t>& values) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::INT64);
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  for (const std::int64_t value : values) tensor.add_int64_data(value);
  return tensor;
}

onnx::SparseTensorProto sparse(const std::vector<std::int64_t>& dims, const onnx::TensorProto& values,
                               const onnx::TensorProto& at) {
  onnx::SparseTensorProto tensor;
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  *tensor.mutable_values() = values;
  *tensor.mutable_indices() = at;
  return tensor;
}

onnx::OperatorSetIdProto& add_import(onnx::ModelProto& model, const std::string& domain, std::int64_t version) {
  onnx::OperatorSetIdProto& import = *model.add_opset_import();
  import.set_domain(domain);
  import.set_version(version);
  return import;
}

constexpr const char* kRelu = R"(<ir_version: 8, opset_import: ["": 17]> m (float[4] x) => (float[4] y) {
    t = Neg(x) y = Relu(t) })";
constexpr const char* kAdd = R"(<ir_version: 8, opset_import: ["": 17]> m (float[2,2] x) => (float[2,2] y) {
    y = Add(x, w) })";
// Rows 1 -2 and 3 -4 have means -1/2 and standard deviations 3/2 and 7/2.
constexpr const char* kNormalized[] = {
    R"(<ir_version: 8, opset_import: ["": 13]> m (float[2,2] x) => (float[2,2] y) <float[2] s = {1.0, 2.0}>
       { y = LayerNormalization<epsilon = 0.0>(x, s) })",
    R"(<ir_version: 8, opset_import: ["": 13]> m (float[2,2] x) => (float[2,2] y) <float[2] s = {2.0, 4.0}>
       { y = SimplifiedLayerNormalization<epsilon = 2.5>(x, s) })",
    R"(<ir_version: 8, opset_import: ["": 18]> m (float[1,2,2] x) => (float[1,2,2] y)
       <float[2] s = {1.0, 2.0}, float[2] b = {0.0, 1.0}> { y = GroupNormalization<num_groups = 2, epsilon = 0.0>(x, s, b) })"};

const std::vector<double> kNegativePart = {0, 2, 0, 4};

std::vector<Case> cases() {
  const double rms[] = {std::sqrt(5.0), std::sqrt(15.0)};  // of 1 -2 and 3 -4, with 2.5 added to the mean square
  return {
      {"OutputWithoutShape", kRelu,
       [](auto& m) { m.mutable_graph()->mutable_output(0)->mutable_type()->mutable_tensor_type()->clear_shape(); },
       kNegativePart},
      {"OutputWithoutType", kRelu, [](auto& m) { m.mutable_graph()->mutable_output(0)->clear_type(); }, kNegativePart},
      {"InputWithoutShape", kRelu,
       [](auto& m) { m.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape(); },
       kNegativePart},
      {"NodesSpelledOut", kRelu,
       [](auto& m) {
         for (auto& node : *m.mutable_graph()->mutable_node()) node.set_domain("ai.onnx");
       },
       kNegativePart},
      {"ImportSpelledOut", kRelu, [](auto& m) { m.mutable_opset_import(0)->set_domain("ai.onnx"); }, kNegativePart},
      {"BothSpellings", kRelu,
       [](auto& m) {
         add_import(m, "ai.onnx", 17);
         m.mutable_graph()->mutable_node(0)->set_domain("ai.onnx");
       },
       kNegativePart},
      {"ImportTwice", kRelu, [](auto& m) { add_import(m, "", 17); }, kNegativePart},
      {"OutOfOrder", kRelu, [](auto& m) { m.mutable_graph()->mutable_node()->SwapElements(0, 1); }, kNegativePart},
      {"WithoutAName", kRelu, [](auto& m) { m.mutable_graph()->clear_name(); }, kNegativePart},
      {"InitializerThatIsNoInput",
       R"(<ir_version: 3, opset_import: ["": 8]> m (float[4] x) => (float[4] y) <float[4] w = {-1.0, 0.0, -3.0, 8.0}>
          { y = Sum(x, w) })",
       [](auto&) {},
       {0, -2, 0, 4}},
      {"SparseByPosition",
       kAdd,
       [](auto& m) {
         *m.mutable_graph()->add_sparse_initializer() = sparse({2, 2}, list("w", {5, 7}), indices({2}, {1, 2}));
       },
       {1, 3, 10, -4}},
      {"SparseByAxes",
       kAdd,
       [](auto& m) {
         *m.mutable_graph()->add_sparse_initializer() =
             sparse({2, 2}, list("w", {5, 7}), indices({2, 2}, {0, 1, 1, 0}));
       },
       {1, 3, 10, -4}},
      {"SparseWithoutElements",
       kAdd,
       [](auto& m) {
         onnx::SparseTensorProto none = sparse({2, 2}, list("w", {}), {});
         none.clear_indices();
         *m.mutable_graph()->add_sparse_initializer() = none;
       },
       {1, -2, 3, -4}},
      {"SparseConstant",
       kAdd,
       [](auto& m) {
         auto& nodes = *m.mutable_graph()->mutable_node();
         onnx::NodeProto& constant = *nodes.Add();
         constant.set_op_type("Constant");
         constant.add_output("w");
         onnx::AttributeProto& value = *constant.add_attribute();
         value.set_name("sparse_value");
         value.set_type(onnx::AttributeProto::SPARSE_TENSOR);
         *value.mutable_sparse_tensor() = sparse({2}, list("", {5}), indices({1}, {1}));
         nodes.SwapElements(0, 1);
       },
       {1, 3, 3, 1}},
      {"LayerNormalizationOf13", kNormalized[0], [](auto&) {}, {1, -2, 1, -2}},
      {"SimplifiedLayerNormalization",
       kNormalized[1],
       [](auto&) {},
       {2 / rms[0], -8 / rms[0], 6 / rms[1], -16 / rms[1]}},
      {"GroupNormalizationOf18", kNormalized[2], [](auto&) {}, {1, -1, 3, -1}},
  };
}

class Accepted : public testing::TestWithParam<Case> {
 protected:
  std::string bytes() const {
    onnx::ModelProto model = test::parse_proto(GetParam().text);
    GetParam().change(model);
    return model.SerializeAsString();
  }
};

void expect_outputs(const LoadedModel& model, const std::vector<double>& expected) {
  for (const auto& executor : {make_reference_executor(), make_onednn_executor()}) {
    const Value& input = model.graph[model.graph.inputs.at(0)];
    const Tensor x = Tensor::of<float>({1, -2, 3, -4});
    const Tensor shaped = input.shape.is_static() ? x.reshaped(input.shape) : x;
    InputShapes shapes;
    shapes.by_name[input.name] = shaped.shape();
    const Graph graph =
        run_pipeline(model.graph, whole_pipeline(Purpose::inference, {.shapes = shapes}, executor->capabilities()));
    const std::vector<double> y = to_doubles(run_graph(*executor, graph, {shaped}).at(0));
    ASSERT_EQ(y.size(), expected.size());
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-5) << i << " on " << executor->name();
  }
}

TEST_P(Accepted, Runs) { expect_outputs(load_model_from_bytes(bytes()), GetParam().expected); }

TEST_P(Accepted, IsWrittenAndReadAgain) {
  const LoadedModel model = load_model_from_bytes(bytes());
  const test::TempFolder folder;
  save_trained(*model.source, {}, folder / "trained.onnx");
  save_model(model.graph, folder / "graph.onnx");
  expect_outputs(load_model(folder / "trained.onnx"), GetParam().expected);
  expect_outputs(load_model(folder / "graph.onnx"), GetParam().expected);
}

// What `convert` reads and checks.
TEST_P(Accepted, IsDetached) {
  onnx::ModelProto model = test::parse_proto(GetParam().text);
  GetParam().change(model);
  const DetachedModel detached = detach(model);
  EXPECT_EQ(detached.model.graph().sparse_initializer_size(), 0);
}

INSTANTIATE_TEST_SUITE_P(, Accepted, testing::ValuesIn(cases()), [](const auto& test) { return test.param.name; });

TEST(AcceptedOrders, ReachIntoBodies) {
  const LoadedModel model = parse_model(R"(<ir_version: 8, opset_import: ["": 17]> m (float[4] x) => (float[4] y) {
      y = If (c) <then_branch = t () => (float[4] a) { a = Relu(b) b = Neg(late) },
                  else_branch = e () => (float[4] d) { d = Neg(x) }>
      late = Identity(x) c = Constant<value = bool {1}>() })");
  expect_outputs(model, kNegativePart);
}

std::string refusal(const char* text, const Change& change) {
  onnx::ModelProto model = test::parse_proto(text);
  change(model);
  return error_of([&] { load_model_from_bytes(model.SerializeAsString()); });
}

TEST(Refused, AreSparseTensorsThatDoNotFit) {
  struct Bad {
    onnx::SparseTensorProto tensor;
    const char* says;
  };
  const Bad cases[] = {{sparse({2, 2}, list("w", {5}), indices({1}, {4})), "indices inside of [2, 2]"},
                       {sparse({2, 2}, list("w", {5}), indices({1}, {-1})), "indices inside of [2, 2]"},
                       {sparse({2, 2}, list("w", {5}), indices({1, 2}, {0, 2})), "indices inside of [2, 2]"},
                       {sparse({2, 2}, list("w", {5, 6}), indices({2}, {2, 1})), "ascending order"},
                       {sparse({2, 2}, list("w", {5, 6}), indices({2}, {1, 1})), "ascending order"},
                       {sparse({2, 2}, list("w", {5, 6}), indices({1}, {1})), "i64 indices of shape [2] or [2, 2]"},
                       {sparse({-2, 2}, list("w", {5}), indices({1}, {1})), "extents of at least 0"},
                       {sparse({1LL << 40, 1LL << 40}, list("w", {5}), indices({1}, {1})), "quarter of this machine"}};
  for (const auto& [tensor, says] : cases)
    EXPECT_THAT(refusal(kAdd, [&, t = tensor](auto& m) { *m.mutable_graph()->add_sparse_initializer() = t; }),
                HasSubstr(says));
}

// Each fits; all together, in a graph and its body, do not.
TEST(Refused, AreSparseTensorsThatTakeTooMuchMemoryTogether) {
  const auto sixth = static_cast<std::int64_t>(machine_memory() / 4 / 6 / sizeof(float));
  const auto add = [&](onnx::GraphProto& graph, const std::string& name, int count) {
    for (int i = 0; i < count; ++i)
      *graph.add_sparse_initializer() =
          sparse({sixth}, list((name + std::to_string(i)).c_str(), {5}), indices({1}, {1}));
  };
  constexpr const char* kBranches = R"(<ir_version: 8, opset_import: ["": 17]> m (float[4] x, bool c) => (float[4] y) {
      y = If (c) <then_branch = t () => (float[4] a) { a = Relu(x) }, else_branch = e () => (float[4] d) { d = Neg(x) }>
    })";
  EXPECT_THAT(refusal(kAdd, [&](auto& m) { add(*m.mutable_graph(), "w", 7); }),
              HasSubstr("beside those of the others"));
  EXPECT_THAT(refusal(kBranches,
                      [&](auto& m) {
                        add(*m.mutable_graph(), "w", 4);
                        add(*m.mutable_graph()->mutable_node(0)->mutable_attribute(0)->mutable_g(), "v", 3);
                      }),
              HasSubstr("beside those of the others"));
}

TEST(Refused, AreTwoVersionsAndCycles) {
  EXPECT_THAT(refusal(kRelu, [](auto& m) { add_import(m, "ai.onnx", 13); }), HasSubstr("17 and 13 of 'ai.onnx'"));
  EXPECT_THAT(refusal(kRelu, [](auto& m) { m.mutable_graph()->mutable_node(0)->set_input(0, "y"); }),
              HasSubstr("a cycle"));
}

}  // namespace
}  // namespace halfstep
