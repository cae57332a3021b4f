// Operators of ai.halfstep against their function bodies in standard operators.
#include <algorithm>

#include <gtest/gtest.h>
#include <onnx/defs/schema.h>
#include <onnx/inliner/inliner.h>

#include "conformance/cases.h"
#include "onnx_io/convert.h"
#include "tests/ops/run_op.h"
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

std::vector<const OpDef*> operators_with_body() {
  register_schemas();
  std::vector<const OpDef*> result;
  for (const OpDef* op : op_table()) {
    if (op->domain != kOwnDomain) continue;
    const onnx::OpSchema* schema =
        onnx::OpSchemaRegistry::Schema(std::string(op->name), kOwnOpset, std::string(kOwnDomain));
    if (schema && (schema->HasFunction() || schema->HasContextDependentFunction())) result.push_back(op);
  }
  return result;
}

/// The graph with the operator replaced by its body; empty when this call of it cannot be expressed.
std::optional<Graph> expanded(const Graph& graph, const OpDef& op) {
  onnx::ModelProto model = to_proto(graph);
  // The inliner looks for the types of constants among the graph's values.
  for (const onnx::TensorProto& constant : model.graph().initializer()) {
    onnx::ValueInfoProto& info = *model.mutable_graph()->add_value_info();
    info.set_name(constant.name());
    onnx::TypeProto_Tensor& type = *info.mutable_type()->mutable_tensor_type();
    type.set_elem_type(constant.data_type());
    type.mutable_shape();
    for (const std::int64_t extent : constant.dims()) type.mutable_shape()->add_dim()->set_dim_value(extent);
  }
  onnx::inliner::InlineSelectedFunctions(
      model, *onnx::inliner::FunctionIdSet::Create({{std::string(op.domain), std::string(op.name)}}), nullptr);
  Graph result = from_proto(model);
  if (std::any_of(result.nodes.begin(), result.nodes.end(), [](const Node& n) { return n.domain == kOwnDomain; }))
    return {};
  infer_graph(result);
  return result;
}

/// The inliner cannot look up the type of an input that is left out.
bool leaves_out_an_input(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) {
    return std::find(n.inputs.begin(), n.inputs.end(), kNoValue) != n.inputs.end();
  });
}

class FunctionBody : public ::testing::TestWithParam<const OpDef*> {};

TEST_P(FunctionBody, ComputesTheSame) {
  const OpDef& op = *GetParam();
  std::size_t compared = 0;
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    SCOPED_TRACE(op.cases[i].text);
    std::optional<ConformanceCase> c = make_case(op, i, DType::f64);
    if (!c) c = make_case(op, i, DType::f32);
    ASSERT_TRUE(c);
    if (leaves_out_an_input(c->graph)) continue;
    const std::optional<Graph> body = expanded(c->graph, op);
    if (!body) continue;
    const std::vector<Tensor> want = run_graph(c->graph, c->inputs), got = run_graph(*body, c->inputs);
    for (std::size_t o = 0; o < want.size(); ++o) {
      ASSERT_EQ(got[o].dtype(), want[o].dtype());
      ASSERT_EQ(got[o].shape(), want[o].shape());
      const std::vector<double> x = to_doubles(got[o]), y = to_doubles(want[o]);
      for (std::size_t k = 0; k < y.size(); ++k)
        ASSERT_NEAR(x[k], y[k], 1e-5 * std::max(1.0, std::abs(y[k]))) << "output " << o << ", element " << k;
    }
    ++compared;
  }
  EXPECT_GT(compared, 0u);
}

INSTANTIATE_TEST_SUITE_P(OwnOperators, FunctionBody, ::testing::ValuesIn(operators_with_body()),
                         [](const auto& test) { return std::string(test.param->name); });

}  // namespace
}  // namespace halfstep
