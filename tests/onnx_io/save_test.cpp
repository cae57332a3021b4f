#include <algorithm>

#include <google/protobuf/util/message_differencer.h>
#include <onnx/checker.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx_io/convert.h"
#include "onnx_io/detached.h"
#include "onnx_io/opset.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/save.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using google::protobuf::util::MessageDifferencer;
using test::error_of;
using test::kZoo;
using test::parse_proto;
using testing::HasSubstr;

// Every float initializer and every Identity over one, with its elements times two plus one.
NamedTensors changed_parameters(const LoadedModel& loaded) {
  NamedTensors parameters;
  auto change = [](const Tensor& tensor) {
    Tensor copy = tensor.clone();
    for (float& x : copy.span<float>()) x = 2 * x + 1;
    return copy;
  };
  for (const Value& value : loaded.graph.values)
    if (value.is_initializer && value.dtype == DType::f32) parameters[value.name] = change(value.constant);
  for (const Node& node : loaded.graph.nodes)
    if (node.is("Identity") && loaded.graph[node.inputs[0]].is_initializer)
      parameters[loaded.graph[node.outputs[0]].name] = change(loaded.graph[node.inputs[0]].constant);
  return parameters;
}

class SaveZoo : public testing::TestWithParam<std::string> {};

TEST_P(SaveZoo, ChangesNothingButTheParameters) {
  const fs::path path = kZoo / GetParam() / "model.onnx";
  const LoadedModel loaded = load_model(path);
  const NamedTensors parameters = changed_parameters(loaded);
  ASSERT_GE(parameters.size(), 4u);
  std::vector<std::string> names;
  for (const auto& [name, _] : parameters) names.push_back(name);
  check_can_save(*loaded.source, names);

  const test::TempFolder folder;
  save_trained(*loaded.source, parameters, folder / "trained.onnx", {.form = OutputForm::training});
  const LoadedModel again = load_model(folder / "trained.onnx");
  for (const auto& [name, tensor] : parameters) {
    const ValueId id = again.graph.find(name);
    ASSERT_NE(id, kNoValue) << name;
    EXPECT_TRUE(again.graph[id].is_initializer) << name;
    EXPECT_TRUE(identical(again.graph[id].constant, tensor)) << name;
  }
  // With what may differ taken away, the two messages are the same.
  onnx::ModelProto before = test::read_proto(path), after = test::read_proto(folder / "trained.onnx");
  for (onnx::ModelProto* model : {&before, &after}) {
    model->mutable_graph()->clear_initializer();
    auto& nodes = *model->mutable_graph()->mutable_node();
    for (int i = nodes.size() - 1; i >= 0; --i)
      if (nodes.Get(i).op_type() == "Identity" && parameters.contains(nodes.Get(i).output(0)))
        nodes.DeleteSubrange(i, 1);
  }
  EXPECT_TRUE(MessageDifferencer::Equals(before, after));
}

TEST_P(SaveZoo, InferenceFormHasNoTrainingNodes) {
  const LoadedModel loaded = load_model(kZoo / GetParam() / "model.onnx");
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(trained_model_bytes(*loaded.source, {})));
  EXPECT_NO_THROW(onnx::checker::check_model(model, /*full_check=*/true));
  for (const auto& node : model.graph().node()) {
    if (node.op_type() == "BatchNormalization") {
      EXPECT_EQ(node.output_size(), 1);
    }
    if (node.op_type() == "Dropout") {
      EXPECT_LT(node.input_size(), 3);
    }
    for (const auto& attribute : node.attribute()) {
      EXPECT_FALSE(attribute.name() == "training_mode" && attribute.i() != 0);
    }
  }
  EXPECT_EQ(error_of([&] { load_model_from_bytes(model.SerializeAsString()); }), "");
}

INSTANTIATE_TEST_SUITE_P(, SaveZoo, testing::ValuesIn(test::kZooCases), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// Loads from the text form, saves, and reads the message back.
onnx::ModelProto saved(const onnx::ModelProto& model, const NamedTensors& parameters,
                       OutputForm form = OutputForm::inference) {
  const LoadedModel loaded = load_model_from_bytes(model.SerializeAsString());
  onnx::ModelProto result;
  EXPECT_TRUE(result.ParseFromString(trained_model_bytes(*loaded.source, parameters, form)));
  EXPECT_NO_THROW(onnx::checker::check_model(result));
  return result;
}

const std::string kHeader = "<ir_version: 8, opset_import: [\"\": 17]> ";

TEST(SaveTrained, KeepsWhatIsNotAParameter) {
  onnx::ModelProto model =
      parse_proto(kHeader + "m (float[N,2] x) => (float[N,2] y) <float[2] w = {1.0, 2.0}> { [n] y = Mul(x, w) }");
  model.set_producer_name("someone");
  model.set_producer_version("1.2");
  model.set_doc_string("a model");
  model.set_model_version(7);
  auto* entry = model.add_metadata_props();
  entry->set_key("k");
  entry->set_value("v");
  model.mutable_graph()->mutable_node(0)->set_doc_string("a node");
  model.mutable_graph()->mutable_initializer(0)->set_doc_string("a weight");
  onnx::ModelProto after = saved(model, {{"w", Tensor::of<float>({5, 6})}});
  EXPECT_EQ(to_doubles(from_proto(after)[from_proto(after).find("w")].constant), (std::vector<double>{5, 6}));
  EXPECT_EQ(after.graph().initializer(0).doc_string(), "a weight");
  model.mutable_graph()->clear_initializer();
  after.mutable_graph()->clear_initializer();
  EXPECT_TRUE(MessageDifferencer::Equals(model, after));
}

TEST(SaveTrained, WritesEachParameterInTheSourcesType) {
  const onnx::ModelProto model = parse_proto(
      kHeader +
      "m (float16[2] x) => (float16[2] y, double[2] z) <float16[2] h = {15360, 16384}, double[2] d = {1.0, 2.0}> "
      "{ y = Mul(x, h) z = Neg(d) }");
  const Graph graph =
      from_proto(saved(model, {{"h", Tensor::of<float>({0.5f, -3})}, {"d", Tensor::of<float>({0.25f, 8})}}));
  const Tensor &h = graph[graph.find("h")].constant, &d = graph[graph.find("d")].constant;
  EXPECT_EQ(h.dtype(), DType::f16);
  EXPECT_EQ(to_doubles(h), (std::vector<double>{0.5, -3}));
  EXPECT_EQ(d.dtype(), DType::f64);
  EXPECT_EQ(to_doubles(d), (std::vector<double>{0.25, 8}));
}

TEST(SaveTrained, PatchesConstantNodes) {
  const onnx::ModelProto model =
      parse_proto(kHeader + "m (float[2] x) => (float[2] y) { w = Constant<value_floats=[1.0, 2.0]>() y = Mul(x, w) }");
  const onnx::ModelProto after = saved(model, {{"w", Tensor::of<float>({5, 6})}});
  ASSERT_EQ(after.graph().node_size(), 2);
  const Graph graph = from_proto(after);
  EXPECT_EQ(to_doubles(graph[graph.find("w")].constant), (std::vector<double>{5, 6}));
}

TEST(SaveTrained, SeparatesMergedParameters) {
  const onnx::ModelProto model = parse_proto(kHeader + R"(m (float[2] x) => (float[2] y) <float[2] a = {1.0, 1.0}>
      { b = Identity(a) c = Identity(b) d = Identity(a) h = Mul(x, a) i = Mul(h, b) j = Mul(i, c) y = Mul(j, d) })");
  // d is frozen: it keeps the value it had although a, with which it was merged, moves on.
  const onnx::ModelProto after = saved(
      model, {{"a", Tensor::of<float>({2, 2})}, {"b", Tensor::of<float>({3, 3})}, {"c", Tensor::of<float>({4, 4})}});
  const Graph graph = from_proto(after);
  EXPECT_EQ(graph.nodes.size(), 4u);
  std::map<std::string, double> first;
  for (const Value& value : graph.values)
    if (value.is_constant()) first[value.name] = to_doubles(value.constant)[0];
  EXPECT_EQ(first, (std::map<std::string, double>{{"a", 2}, {"b", 3}, {"c", 4}, {"d", 1}}));
}

TEST(SaveTrained, RemovesTheSharedInitializerNobodyReadsAnyMore) {
  const onnx::ModelProto model = parse_proto(kHeader + R"(m (float[2] x) => (float[2] y) <float[2] shared = {1.0, 1.0}>
      { a = Identity(shared) b = Identity(shared) h = Mul(x, a) y = Mul(h, b) })");
  const onnx::ModelProto after = saved(model, {{"a", Tensor::of<float>({2, 2})}, {"b", Tensor::of<float>({3, 3})}});
  std::vector<std::string> names;
  for (const auto& tensor : after.graph().initializer()) names.push_back(tensor.name());
  EXPECT_THAT(names, testing::UnorderedElementsAre("a", "b"));
}

TEST(SaveTrained, GivesOldModelsTheirInitializersAsInputs) {
  onnx::ModelProto model = parse_proto(
      "<ir_version: 3, opset_import: [\"\": 9]> m (float[2] x, float[2] a) => (float[2] y) { b = Identity(a) h = "
      "Mul(x, a) y = Mul(h, b) }");
  onnx::TensorProto& a = *model.mutable_graph()->add_initializer();
  a.set_name("a");
  a.set_data_type(onnx::TensorProto::FLOAT);
  a.add_dims(2);
  a.add_float_data(1);
  a.add_float_data(1);
  const onnx::ModelProto after = saved(model, {{"a", Tensor::of<float>({2, 2})}, {"b", Tensor::of<float>({3, 3})}});
  EXPECT_EQ(after.graph().input_size(), 3);
}

TEST(SaveTrained, InferenceFormUsesRunningStatistics) {
  const onnx::ModelProto model = parse_proto(kHeader + R"(
      m (float[N,2] x) => (float[N,2] y, float[2] mean) <float[2] s = {1.0,1.0}, float[2] b = {0.0,0.0}, float[2] m = {3.0,4.0},
        float[2] v = {1.0,1.0}, float r = {0.5}> {
      t = Constant<value = bool {1}>()
      h, mean, var = BatchNormalization<training_mode=1, momentum=0.75>(x, s, b, m, v)
      d, mask = Dropout(h, r, t)
      unused = Relu(var)
      y = Relu(d) })");
  const onnx::ModelProto after = saved(model, {});
  std::vector<std::string> ops;
  for (const auto& node : after.graph().node()) ops.push_back(node.op_type());
  EXPECT_THAT(ops, testing::ElementsAre("BatchNormalization", "Dropout", "Relu", "Relu", "Identity"));
  EXPECT_EQ(after.graph().node(0).output_size(), 1);
  EXPECT_EQ(after.graph().node(1).input_size(), 2);
  EXPECT_EQ(after.graph().node(2).input(0), "v");
  EXPECT_EQ(after.graph().node(4).input(0), "m");
  EXPECT_EQ(after.graph().node(4).output(0), "mean");

  const onnx::ModelProto training = saved(model, {}, OutputForm::training);
  EXPECT_TRUE(MessageDifferencer::Equals(training, model));
}

TEST(SaveTrained, InferenceFormOfOldBatchNormalization) {
  const onnx::ModelProto model = parse_proto(R"(<ir_version: 4, opset_import: ["": 9]>
      m (float[N,2] x, float[2] s) => (float[N,2] y) { y, a, b, c, d = BatchNormalization(x, s, s, s, s) })");
  EXPECT_EQ(saved(model, {}).graph().node(0).output_size(), 1);
}

// A layer that is applied twice reads what its first use leaves.
TEST(SaveTrained, InferenceFormFollowsRunningStatisticsFromLayerToLayer) {
  const onnx::ModelProto model = parse_proto(kHeader + R"(
      m (float[N,2] x) => (float[N,2] y, float[2] m3) <float[2] s = {1.0,1.0}, float[2] m = {3.0,4.0}, float[2] v = {1.0,1.0}> {
      h, m1, v1 = BatchNormalization<training_mode=1>(x, s, s, m, v)
      g, m2, v2 = BatchNormalization<training_mode=1>(h, s, s, m1, v1)
      y, m3, v3 = BatchNormalization<training_mode=1>(g, s, s, m2, v2) })");
  const LoadedModel loaded = load_model_from_bytes(model.SerializeAsString());
  EXPECT_EQ(error_of([&] { check_can_save(*loaded.source, {"s"}); }), "");
  const onnx::ModelProto after = saved(model, {});
  ASSERT_EQ(after.graph().node_size(), 4);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(after.graph().node(i).input(3), "m") << i;
    EXPECT_EQ(after.graph().node(i).input(4), "v") << i;
  }
  EXPECT_EQ(after.graph().node(3).op_type(), "Identity");
  EXPECT_EQ(after.graph().node(3).input(0), "m");
  EXPECT_EQ(after.graph().node(3).output(0), "m3");
}

TEST(SaveTrained, InferenceFormOfBranchesThatUseTheSameNames) {
  const onnx::ModelProto model = parse_proto(kHeader + R"(
      m (bool c, float[2,2] x) => (float[2] o) <float[2] s = {1.0,1.0}, float[2] a = {1.0,2.0}, float[2] b = {3.0,4.0}> {
      o = If(c) <then_branch = t () => (float[2] p) { y, r, v = BatchNormalization<training_mode=1>(x, s, s, a, s)
                                                      p = Identity(r) },
                 else_branch = e () => (float[2] q) { y, r, v = BatchNormalization<training_mode=1>(x, s, s, b, s)
                                                      q = Identity(r) }> })");
  const onnx::ModelProto after = saved(model, {});
  std::vector<std::string> read;
  for (const auto& attribute : after.graph().node(0).attribute()) read.push_back(attribute.g().node(1).input(0));
  EXPECT_THAT(read, testing::ElementsAre("a", "b"));
}

TEST(SaveTrained, InlinesFunctionsOnlyWhereAParameterIsInThem) {
  const onnx::ModelProto model = parse_proto(R"(<ir_version: 8, opset_import: ["": 17, "l": 1]>
      m (float[2] x) => (float[2] y) <float[2] outer = {1.0, 1.0}> { h = Mul(x, outer) y = l.Scale(h) }
      <domain: "l", opset_import: ["": 17]> Scale (a) => (b) { inner = Constant<value_floats=[1.0, 2.0]>() b = Mul(a, inner) })");
  EXPECT_EQ(saved(model, {{"outer", Tensor::of<float>({5, 6})}}).functions_size(), 1);
  const LoadedModel loaded = load_model_from_bytes(model.SerializeAsString());
  std::string inner;
  for (const Value& value : loaded.graph.values)
    if (value.is_constant() && !value.is_initializer) inner = value.name;
  ASSERT_NE(inner, "");
  check_can_save(*loaded.source, {inner, "outer"});
  const onnx::ModelProto after = saved(model, {{inner, Tensor::of<float>({7, 8})}});
  EXPECT_EQ(after.functions_size(), 0);
  const Graph graph = from_proto(after);
  EXPECT_EQ(to_doubles(graph[graph.find(inner)].constant), (std::vector<double>{7, 8}));
}

TEST(SaveTrained, RefusesWhatDoesNotFit) {
  const LoadedModel loaded =
      parse_model(kHeader + "m (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Mul(x, w) }");
  const test::TempFolder folder;
  test::write_bytes(folder / "out.onnx", "old");
  EXPECT_THAT(error_of([&] {
                save_trained(*loaded.source, {{"nobody", Tensor::of<float>({1, 2})}}, folder / "out.onnx");
              }),
              HasSubstr("'nobody'"));
  EXPECT_THAT(error_of([&] {
                save_trained(*loaded.source, {{"w", Tensor::of<float>({1, 2, 3})}}, folder / "out.onnx");
              }),
              HasSubstr("[3]"));
  EXPECT_EQ(test::read_bytes(folder / "out.onnx"), "old");
  EXPECT_THAT(error_of([&] { check_can_save(*loaded.source, {"w", "y", "nobody"}); }), HasSubstr("'y', 'nobody'"));
}

TEST(SaveTrained, WritesExternalDataOnRequest) {
  const LoadedModel loaded = load_model(kZoo / "mlp-torchscript" / "model.onnx");
  const NamedTensors parameters = changed_parameters(loaded);
  const test::TempFolder folder;
  const SaveOptions options{.form = OutputForm::inference, .external_data = ExternalData::always};
  // Twice to the same place: the second must not disturb the first before it is whole itself.
  for (int round = 0; round < 2; ++round) {
    save_trained(*loaded.source, parameters, folder / "out.onnx", options);
    EXPECT_LT(fs::file_size(folder / "out.onnx"), 8192u);
    const LoadedModel again = load_model(folder / "out.onnx");
    for (const auto& [name, tensor] : parameters)
      EXPECT_TRUE(identical(again.graph[again.graph.find(name)].constant, tensor)) << name;
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& file : fs::directory_iterator(folder.path())) ++files;
    EXPECT_EQ(files, 2u);
  }
}

// A link that the user names is followed; one in the place of a data file is nobody's choice.
TEST(SaveTrained, WritesTheModelThroughALinkAndItsDataThroughNone) {
  const LoadedModel loaded = load_model(kZoo / "mlp-torchscript" / "model.onnx");
  const test::TempFolder folder;
  test::write_bytes(folder / "precious", "precious");
  fs::create_symlink("model.onnx", folder / "out.onnx");
  fs::create_symlink("precious", folder / "model.onnx.data");
  save_trained(*loaded.source, {}, folder / "out.onnx", {.external_data = ExternalData::always});
  EXPECT_EQ(test::read_bytes(folder / "precious"), "precious");
  EXPECT_TRUE(fs::is_symlink(folder / "out.onnx"));
  EXPECT_FALSE(fs::is_symlink(folder / "model.onnx"));
  EXPECT_EQ(error_of([&] { load_model(folder / "out.onnx"); }), "");
}

// As latest.onnx -> runs/3/model.onnx: the data lies beside the model, and is found through the link.
TEST(SaveTrained, WhatIsWrittenThroughALinkIsReadThroughIt) {
  const LoadedModel loaded = load_model(kZoo / "mlp-torchscript" / "model.onnx");
  const test::TempFolder folder;
  fs::create_directory(folder / "run");
  fs::create_symlink("run/model.onnx", folder / "latest.onnx");
  save_trained(*loaded.source, {}, folder / "latest.onnx", {.external_data = ExternalData::always});
  EXPECT_TRUE(fs::exists(folder / "run" / "model.onnx.data"));
  EXPECT_EQ(error_of([&] { load_model(folder / "latest.onnx"); }), "");
  EXPECT_EQ(error_of([&] { read_detached(folder / "latest.onnx"); }), "");
}

TEST(CheckOutputPath, FindsTroubleBeforeWorkStarts) {
  const test::TempFolder folder;
  test::write_bytes(folder / "there.onnx", "there");
  check_output_path(folder / "new.onnx");
  check_output_path(folder / "there.onnx");
  EXPECT_EQ(test::read_bytes(folder / "there.onnx"), "there");
  EXPECT_FALSE(fs::exists(folder / "new.onnx"));
  EXPECT_NE(error_of([&] { check_output_path(folder / "missing" / "out.onnx"); }), "");
  EXPECT_NE(error_of([&] { check_output_path(folder.path()); }), "");
  EXPECT_NE(error_of([&] { check_output_path(folder.path().string() + "/"); }), "");
  EXPECT_NE(error_of([&] { check_output_path(""); }), "");
}

TEST(SaveModel, WritesTheOldestOperatorSetThatHasEverything) {
  struct {
    const char* body;
    std::int64_t opset, ir;
  } const cases[] = {
      {"(float[2] x) => (float[2] y) { y = Relu(x) }", 13, 7},
      {"(bfloat16[2,2] x) => (bfloat16[2,2] y) { y = MatMul(x, x) }", 13, 7},
      {"(bfloat16[2] x) => (bfloat16[2] y) { y = Relu(x) }", 13, 7},
      {"(float[2,3] x) => (float[2,3] y) { y = LayerNormalization(x, s) s = Constant<value_floats=[1.0,1.0,1.0]>() }",
       17, 8},
      {"(float[2,3] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceMean(x, a) }", 18, 8},
      {"(bfloat16[2,1,4,4] x) => (bfloat16[2,1,2,2] y) { y = AveragePool<kernel_shape=[3,3]>(x) }", 22, 10},
  };
  const test::TempFolder folder;
  for (const auto& c : cases) {
    onnx::ModelProto model = parse_proto(std::string("<ir_version: 14, opset_import: [\"\": 28]> m ") + c.body);
    if (model.graph().node_size() == 2) model.mutable_graph()->mutable_node()->SwapElements(0, 1);
    const LoadedModel loaded = load_model_from_bytes(model.SerializeAsString());
    save_model(loaded.graph, folder / "m.onnx");
    const onnx::ModelProto written = test::read_proto(folder / "m.onnx");
    EXPECT_EQ(written.opset_import(0).version(), c.opset) << c.body;
    EXPECT_EQ(written.ir_version(), c.ir) << c.body;
    EXPECT_NO_THROW(onnx::checker::check_model(written, true));
    EXPECT_EQ(to_text(load_model(folder / "m.onnx").graph), to_text(loaded.graph)) << c.body;
  }
}

TEST(SaveModel, KeepsWhatLiftingMade) {
  // Everything the models of the zoo contain reads back as the same graph from the older operator set.
  const test::TempFolder folder;
  for (const std::string& name : test::kZooCases) {
    const LoadedModel loaded = load_model(kZoo / name / "model.onnx");
    save_model(loaded.graph, folder / "m.onnx");
    EXPECT_EQ(to_text(load_model(folder / "m.onnx").graph), to_text(loaded.graph)) << name;
    EXPECT_LE(test::read_proto(folder / "m.onnx").opset_import(0).version(), 20) << name;
  }
}

}  // namespace
}  // namespace halfstep
