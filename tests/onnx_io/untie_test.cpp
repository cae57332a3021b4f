// Separating what an exporter merged without names.
#include "onnx_io/untie.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/proto.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/save_lazy.h>

namespace halfstep {
namespace {

constexpr const char* kMerged =
    "<ir_version: 10, opset_import: [\"\": 20]> merged (float[N,2] x) => (float[N,2] y) "
    "<float[2] zeros = {0,0}> { a = Add(x, zeros) own = Identity(zeros) b = Add(a, own) y = Add(b, zeros) }";

TEST(Untie, GivesEachReaderAnInitializerAndLeavesIdentities) {
  const LoadedModel untied = untie(parse_model(kMerged), {"zeros"});
  const Graph& graph = untied.graph;
  const ValueId second = graph.find("zeros.2");
  ASSERT_NE(second, kNoValue);
  EXPECT_TRUE(graph[second].is_initializer);
  EXPECT_EQ(graph[graph.nodes[0].inputs[1]].name, "zeros");
  EXPECT_EQ(graph[graph.nodes[1].inputs[0]].name, "zeros");
  EXPECT_EQ(graph[graph.nodes[3].inputs[1]].name, "zeros.2");
}

TEST(Untie, IsKeptWhenParametersAreSaved) {
  const LoadedModel untied = untie(parse_model(kMerged), {"zeros"});
  const NamedTensors trained{{"zeros", Tensor::of<float>({1, 2})}, {"zeros.2", Tensor::of<float>({3, 4})}};
  const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*untied.source, trained));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("zeros")].constant), (std::vector<double>{1, 2}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("zeros.2")].constant), (std::vector<double>{3, 4}));
  // The parameter that the Identity names was not trained.
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("own")].constant), (std::vector<double>{0, 0}));
}

TEST(Untie, GivesEachReaderAConstantNode) {
  const LoadedModel untied = untie(parse_model("<ir_version: 10, opset_import: [\"\": 20]> merged (float[N,2] x) => "
                                               "(float[N,2] y) { zeros = Constant<value = float[2] {0,0}>() a = Add(x, "
                                               "zeros) y = Add(a, zeros) }"),
                                   {"zeros"});
  const NamedTensors trained{{"zeros", Tensor::of<float>({1, 2})}, {"zeros.2", Tensor::of<float>({3, 4})}};
  const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*untied.source, trained));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.nodes[0].inputs[1]].constant), (std::vector<double>{1, 2}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.nodes[1].inputs[1]].constant), (std::vector<double>{3, 4}));
}

constexpr std::int64_t kMany = 2048;  // elements of a tensor that is not kept in the message

Tensor all(float element) {
  Tensor tensor(DType::f32, Shape{kMany});
  std::ranges::fill(tensor.span<float>(), element);
  return tensor;
}

/// The model with all its initializers as large as `kMany` ones.
LoadedModel with_large_initializers(const char* text) {
  onnx::ModelProto model = test::parse_proto(text);
  for (onnx::TensorProto& tensor : *model.mutable_graph()->mutable_initializer()) {
    const std::string name = tensor.name();
    tensor = tensor_to_proto(all(1), name);
  }
  return load_model_from_bytes(model.SerializeAsString());
}

void expect_saved_apart(const LoadedModel& model, const std::string& first, const std::string& second) {
  ASSERT_NE(first, second);
  const NamedTensors trained{{first, all(2)}, {second, all(3)}};
  const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*model.source, trained));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find(first)].constant), std::vector<double>(kMany, 2));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find(second)].constant), std::vector<double>(kMany, 3));
}

TEST(Untie, LargeParametersAreSavedApart) {
  const LoadedModel untied =
      untie(with_large_initializers("<ir_version: 10, opset_import: [\"\": 20]> merged (float[N,2048] x) => "
                                    "(float[N,2048] y) <float[1] w = {0}> { a = Add(x, w) y = Mul(a, w) }"),
            {"w"});
  const ValueId second = untied.graph.find("w.2");
  ASSERT_NE(second, kNoValue);
  EXPECT_EQ(to_doubles(untied.graph[second].constant), std::vector<double>(kMany, 1));
  expect_saved_apart(untied, "w", "w.2");
}

TEST(Untie, ALargeFrozenParameterKeepsItsElements) {
  const LoadedModel untied =
      untie(with_large_initializers("<ir_version: 10, opset_import: [\"\": 20]> merged (float[N,2048] x) => "
                                    "(float[N,2048] y) <float[1] w = {0}> { a = Add(x, w) y = Mul(a, w) }"),
            {"w"});
  for (const auto& [name, frozen] : {std::pair("w", "w.2"), std::pair("w.2", "w")}) {
    const NamedTensors trained{{name, all(2)}};
    const auto source = without_values(*untied.source, LazyTensors::of(trained).types);
    const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*source, trained));
    EXPECT_EQ(to_doubles(saved.graph[saved.graph.find(name)].constant), std::vector<double>(kMany, 2));
    EXPECT_EQ(to_doubles(saved.graph[saved.graph.find(frozen)].constant), std::vector<double>(kMany, 1));
  }
}

TEST(Untie, LargeRunningStatisticsAreSavedApart) {
  const LoadedModel loaded = with_large_initializers(
      "<ir_version: 10, opset_import: [\"\": 20]> two (float[N,2048] x) => (float[N,2048] y) "
      "<float[1] s = {1}, float[1] m = {0}, float[1] v = {1}> "
      "{ a = BatchNormalization(x, s, s, m, v) y = BatchNormalization(a, s, s, m, v) }");
  const Graph& graph = loaded.graph;
  for (const std::size_t i : {3u, 4u})
    expect_saved_apart(loaded, graph[graph.nodes[0].inputs[i]].name, graph[graph.nodes[1].inputs[i]].name);
}

TEST(Untie, OfNothingChangesNothing) {
  const LoadedModel model = parse_model(kMerged);
  EXPECT_EQ(untie(model, {}).source, model.source);
}

// Whoever loads it: the second would otherwise be lost when the model is saved.
TEST(Untie, RunningStatisticsNeverBelongTogether) {
  const LoadedModel loaded = parse_model(
      "<ir_version: 10, opset_import: [\"\": 20]> two (float[N,2] x) => (float[N,2] y) "
      "<float[2] s = {1,2}, float[2] ones = {1,1}, float[2] zeros = {0,0}> "
      "{ a = BatchNormalization(x, s, zeros, zeros, ones) y = BatchNormalization(a, s, zeros, zeros, ones) }");
  const Graph& graph = loaded.graph;
  std::set<std::string> read;
  for (const Node& node : graph.nodes)
    for (const std::size_t i : {2u, 3u, 4u}) read.insert(graph[node.inputs[i]].name);
  EXPECT_EQ(read.size(), 6u);
  EXPECT_EQ(graph.nodes[0].inputs[1], graph.nodes[1].inputs[1]);
  const std::string& mean = graph[graph.nodes[1].inputs[3]].name;
  const LoadedModel saved =
      load_model_from_bytes(trained_model_bytes(*loaded.source, {{mean, Tensor::of<float>({5, 6})}}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.nodes[1].inputs[3]].constant), (std::vector<double>{5, 6}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.nodes[0].inputs[3]].constant), (std::vector<double>{0, 0}));
}

TEST(Untie, RunningStatisticsOfCallsOfAFunctionNeverBelongTogether) {
  const LoadedModel loaded = parse_model(R"(
      <ir_version: 10, opset_import: ["": 20, "f": 1]> two (float[N,2] x) => (float[N,2] y)
      <float[2] s = {1,2}, float[2] b = {0,1}, float[2] v = {1,1}, float[2] m = {0,0}>
      { a = f.norm(x, s, b, m, v) y = f.norm(a, s, b, m, v) }
      <domain: "f", opset_import: ["": 20]> norm (x, s, b, m, v) => (y) { y = BatchNormalization(x, s, b, m, v) })");
  const Graph& graph = loaded.graph;
  ASSERT_EQ(graph.nodes.size(), 2u);
  for (const std::size_t i : {3u, 4u}) EXPECT_NE(graph.nodes[0].inputs[i], graph.nodes[1].inputs[i]);
  const std::string& mean = graph[graph.nodes[1].inputs[3]].name;
  const LoadedModel saved =
      load_model_from_bytes(trained_model_bytes(*loaded.source, {{mean, Tensor::of<float>({5, 6})}}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.nodes[1].inputs[3]].constant), (std::vector<double>{5, 6}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.nodes[0].inputs[3]].constant), (std::vector<double>{0, 0}));
}

TEST(Untie, RefusesWhatIsNoInitializer) { EXPECT_THROW(untie(parse_model(kMerged), {"a"}), Error); }

TEST(SavedHalf, LeavesTheZerosBesideIt) {
  const LoadedModel model = parse_model(
      "<ir_version: 10, opset_import: [\"\": 20]> bias (float[2,4] x) => (float[2,4] y, float[2,4] z) "
      "<float[2,4] b = {1,2,0,0,3,4,0,0}, float[2,4] c = {1,2,0,0,3,4,0,5}> { y = Add(x, b) z = Add(x, c) }");
  const Tensor half = Tensor::of<float>({5, 6, 7, 8}, Shape{2, 2});
  const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*model.source, {{"b", half}}));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("b")].constant), (std::vector<double>{5, 6, 0, 0, 7, 8, 0, 0}));
  EXPECT_THROW(trained_model_bytes(*model.source, {{"c", half}}), Error);
}

TEST(SavedRow, FillsATensorThatWasExpandedOverTheBatch) {
  const LoadedModel model = parse_model(
      "<ir_version: 10, opset_import: [\"\": 20]> token (float[2,1,2] x) => (float[2,2,2] y) "
      "<float[2,1,2] t = {1,2,1,2}> { y = Concat<axis = 1>(t, x) }");
  const NamedTensors trained{{"t", Tensor::of<float>({5, 6}, Shape{1, 1, 2})}};
  const LoadedModel saved = load_model_from_bytes(trained_model_bytes(*model.source, trained));
  EXPECT_EQ(to_doubles(saved.graph[saved.graph.find("t")].constant), (std::vector<double>{5, 6, 5, 6}));
}

}  // namespace
}  // namespace halfstep
