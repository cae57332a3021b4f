#include "onnx_io/lift.h"

#include <algorithm>
#include <map>
#include <set>

#include <onnx/checker.h>
#include <onnx/defs/schema.h>

#include "onnx_io/convert.h"
#include "tests/onnx_io/node_lines.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

using test::error_of;
using test::nodes_of;
using test::parse_proto;

std::string lifted(std::int64_t opset, const std::string& body) {
  const std::string text = "<ir_version: 4, opset_import: [\"\": " + std::to_string(opset) + "]> m " + body;
  Graph graph = from_proto(parse_proto(text));
  std::set<std::string> names;
  for (const Value& value : graph.values) names.insert(value.name);
  lift_operators(graph);
  EXPECT_EQ(graph.opsets.at(""), kOnnxOpset);
  verify(graph);
  onnx::ModelProto model = to_proto(graph);
  EXPECT_NO_THROW(onnx::checker::check_model(model, /*full_check=*/true)) << to_text(graph);
  return nodes_of(graph, std::move(names));
}

struct LiftCase {
  const char* name;
  std::int64_t opset;
  const char* before;
  const char* after;
};

class Lift : public testing::TestWithParam<LiftCase> {};

TEST_P(Lift, GivesTheNewestForm) { EXPECT_EQ(lifted(GetParam().opset, GetParam().before), GetParam().after); }

const LiftCase kCases[] = {
    {"ClipBothBounds", 10, "(float[2] x) => (float[2] y) { y = Clip<min=-1.0, max=6.0>(x) }",
     "y = Clip(x, f32[]{-1}, f32[]{6})\n"},
    {"ClipOnlyMax", 7, "(float[2] x) => (float[2] y) { y = Clip<max=6.0>(x) }", "y = Clip(x, _, f32[]{6})\n"},
    {"ClipUnbounded", 7, "(float[2] x) => (float[2] y) { y = Clip(x) }", "y = Clip(x)\n"},
    {"ClipInHalf", 7, "(float16[2] x) => (float16[2] y) { y = Clip<min=0.5>(x) }", "y = Clip(x, f16[]{0.5})\n"},
    {"ClipAlreadyNew", 11, "(float[2] x, float a) => (float[2] y) { y = Clip(x, a) }", "y = Clip(x, a)\n"},
    {"SoftmaxLastAxis", 9, "(float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", "y = Softmax<axis=1>(x)\n"},
    {"SoftmaxFlattens", 11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }",
     "%1 = Shape(x)\n%2 = Flatten<axis=1>(x)\n%3 = Softmax<axis=-1>(%2)\ny = Reshape<allowzero=1>(%3, %1)\n"},
    {"LogSoftmaxFlattens", 11, "(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax<axis=0>(x) }",
     "%1 = Shape(x)\n%2 = Flatten<axis=0>(x)\n%3 = LogSoftmax<axis=-1>(%2)\ny = Reshape<allowzero=1>(%3, %1)\n"},
    {"HardmaxLastAxis", 11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax<axis=-1>(x) }",
     "y = Hardmax<axis=-1>(x)\n"},
    {"SoftmaxOf13", 13, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }", "y = Softmax<axis=1>(x)\n"},
    {"BatchNormalizationSpatial", 8,
     "(float[2,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3] y) "
     "{ y = BatchNormalization<spatial=1, epsilon=0.5>(x, s, b, m, v) }",
     "y = BatchNormalization<epsilon=0.5>(x, s, b, m, v)\n"},
    {"BatchNormalizationTraining", 9,
     "(float[2,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3] y, float[3] m1) "
     "{ y, m1, v1, sm, sv = BatchNormalization(x, s, b, m, v) }",
     "y, m1, v1 = BatchNormalization<training_mode=1>(x, s, b, m, v)\n"},
    {"DropoutWithMask", 7, "(float[2] x) => (float[2] y, float[2] k) { y, k = Dropout<ratio=0.25>(x) }",
     "y, %1 = Dropout(x, f32[]{0.25})\nk = Cast<to=1>(%1)\n"},
    {"DropoutMaskOf10", 10, "(float[2] x) => (float[2] y, bool[2] k) { y, k = Dropout(x) }",
     "y, k = Dropout(x, f32[]{0.5})\n"},
    {"ReduceMeanAxes", 13, "(float[2,3] x) => (float[2,1] y) { y = ReduceMean<axes=[1]>(x) }",
     "y = ReduceMean(x, i64[1]{1})\n"},
    {"ReduceMeanAll", 13, "(float[2,3] x) => (float y) { y = ReduceMean<keepdims=0>(x) }",
     "y = ReduceMean<keepdims=0>(x)\n"},
    {"ReduceSumAxes", 11, "(float[2,3] x) => (float[2] y) { y = ReduceSum<axes=[-1], keepdims=0>(x) }",
     "y = ReduceSum<keepdims=0>(x, i64[1]{-1})\n"},
    {"ReduceLogSumExpAxes", 17, "(float[2,3] x) => (float[1,3] y) { y = ReduceLogSumExp<axes=[0]>(x) }",
     "y = ReduceLogSumExp(x, i64[1]{0})\n"},
    {"Squeeze", 11, "(float[2,1] x) => (float[2] y) { y = Squeeze<axes=[1]>(x) }", "y = Squeeze(x, i64[1]{1})\n"},
    {"SqueezeAll", 7, "(float[2,1] x) => (float[2] y) { y = Squeeze(x) }", "y = Squeeze(x)\n"},
    {"Unsqueeze", 8, "(float[2] x) => (float[1,2] y) { y = Unsqueeze<axes=[0]>(x) }", "y = Unsqueeze(x, i64[1]{0})\n"},
    {"Slice", 9, "(float[4,5] x) => (float[2,5] y) { y = Slice<axes=[0], starts=[1], ends=[3]>(x) }",
     "y = Slice(x, i64[1]{1}, i64[1]{3}, i64[1]{0})\n"},
    {"SliceWithoutAxes", 9, "(float[4,5] x) => (float[2,5] y) { y = Slice<starts=[1,0], ends=[3,9]>(x) }",
     "y = Slice(x, i64[2]{1 0}, i64[2]{3 9})\n"},
    {"Pad", 10, "(float[2] x) => (float[5] y) { y = Pad<pads=[1,2], value=1.5>(x) }",
     "y = Pad(x, i64[2]{1 2}, f32[]{1.5})\n"},
    {"PadReflect", 7, "(float[4] x) => (float[5] y) { y = Pad<mode=\"reflect\", pads=[1,0]>(x) }",
     "y = Pad<mode=reflect>(x, i64[2]{1 0})\n"},
    {"SplitSizes", 11, "(float[5] x) => (float[2] y, float[3] z) { y, z = Split<split=[2,3]>(x) }",
     "y, z = Split(x, i64[2]{2 3})\n"},
    {"SplitEqual", 13, "(float[4] x) => (float[2] y, float[2] z) { y, z = Split(x) }",
     "y, z = Split<num_outputs=2>(x)\n"},
    {"TopK", 9, "(float[5] x) => (float[2] y, int64[2] i) { y, i = TopK<k=2>(x) }", "y, i = TopK(x, i64[1]{2})\n"},
    {"UpsampleAttribute", 7, "(float[1,1,2,2] x) => (float[1,1,4,4] y) { y = Upsample<scales=[1.0,1.0,2.0,2.0]>(x) }",
     "y = Resize<coordinate_transformation_mode=asymmetric, nearest_mode=floor>(x, _, f32[4]{1 1 2 2})\n"},
    {"UpsampleInput", 9,
     "(float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1.0,1.0,2.0,2.0}> { y = Upsample<mode=\"linear\">(x, s) "
     "}",
     "y = Resize<coordinate_transformation_mode=asymmetric, mode=linear, nearest_mode=floor>(x, _, f32[4]{1 1 2 2})\n"},
    {"ResizeOf10", 10, "(float[2] x) => (float[4] y) <float[1] s = {2.0}> { y = Resize(x, s) }",
     "y = Resize<coordinate_transformation_mode=asymmetric, nearest_mode=floor>(x, _, f32[1]{2})\n"},
    {"ResizeOf10ThatShrinks", 10, "(float[4] x) => (float[2] y) <float[1] s = {0.6}> { y = Resize(x, s) }",
     "y = Resize<coordinate_transformation_mode=asymmetric, nearest_mode=ceil>(x, _, f32[1]{0.6})\n"},
    {"ResizeOf10BothWays", 10, "(float[4,2] x) => (float[2,4] y) <float[2] s = {0.5, 2.0}> { y = Resize(x, s) }",
     "%1 = Resize<coordinate_transformation_mode=asymmetric, nearest_mode=floor>(x, _, f32[2]{1 2})\n"
     "y = Resize<coordinate_transformation_mode=asymmetric, nearest_mode=ceil>(%1, _, f32[2]{0.5 1})\n"},
    {"SimplifiedLayerNormalization", 13,
     "(float[2,3] x) => (float[2,3] y) <float[3] s = {1.0,2.0,3.0}> "
     "{ y = SimplifiedLayerNormalization<epsilon=0.5>(x, s) }",
     "y = RMSNormalization<epsilon=0.5>(x, f32[3]{1 2 3})\n"},
    {"ResizeOf11EmptyOperands", 11,
     "(float[2] x) => (float[4] y) <float[0] e = {}, int64[1] n = {4}> { y = Resize(x, e, e, n) }",
     "y = Resize(x, _, _, i64[1]{4})\n"},
    {"ResizeTensorflowHalfPixel", 11,
     "(float[2] x) => (float[4] y) <float[0] e = {}, float[1] s = {2.0}> "
     "{ y = Resize<coordinate_transformation_mode=\"tf_half_pixel_for_nn\", nearest_mode=\"floor\">(x, e, s) }",
     "y = Resize<coordinate_transformation_mode=half_pixel, nearest_mode=round_prefer_ceil>(x, _, f32[1]{2})\n"},
    {"Scatter", 10, "(float[3] x, int64[1] i, float[1] u) => (float[3] y) { y = Scatter<axis=0>(x, i, u) }",
     "y = ScatterElements<axis=0>(x, i, u)\n"},
    {"GroupNormalization", 18,
     "(float[2,4,3] x, float[2] s, float[2] b) => (float[2,4,3] y) { y = GroupNormalization<num_groups=2>(x, s, b) }",
     "%1 = Shape<end=2, start=1>(x)\n%2 = Div(%1, i64[1]{2})\n%3 = Concat<axis=0>(i64[1]{2}, %2)\n"
     "%4 = Reshape(s, i64[2]{2 1})\n%5 = Expand(%4, %3)\n%6 = Reshape(%5, i64[1]{-1})\n"
     "%7 = Reshape(b, i64[2]{2 1})\n%8 = Expand(%7, %3)\n%9 = Reshape(%8, i64[1]{-1})\n"
     "y = GroupNormalization<num_groups=2>(x, %6, %9)\n"},
    {"GridSample", 16, "(float[1,1,2,2] x, float[1,2,2,2] g) => (float[1,1,2,2] y) { y = GridSample(x, g) }",
     "y = GridSample<mode=linear>(x, g)\n"},
    {"DFT", 17, "(float[1,4,1] x) => (float[1,4,2] y) { y = DFT(x) }", "y = DFT(x, _, i64[]{1})\n"},
    {"RoiAlign", 10, "(float[1,1,4,4] x, float[1,4] r, int64[1] b) => (float[1,1,1,1] y) { y = RoiAlign(x, r, b) }",
     "y = RoiAlign<coordinate_transformation_mode=output_half_pixel>(x, r, b)\n"},

    {"InPlaceHint", 1, "(float[2] x) => (float[2] y) { y = Relu<consumed_inputs=[0]>(x) }", "y = Relu(x)\n"},
    {"BroadcastByAxis", 6,
     "(float[2,3,4,5] x, float[3] s) => (float[2,3,4,5] y) { y = Add<broadcast=1, axis=1>(x, s) }",
     "%1 = Unsqueeze(s, i64[2]{1 2})\ny = Add(x, %1)\n"},
    {"BroadcastOfTheLastAxes", 6, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = Mul<broadcast=1, axis=1>(x, s) }",
     "y = Mul(x, s)\n"},
    {"SlopesOfChannels", 6, "(float[2,3,4] x, float[3] s) => (float[2,3,4] y) { y = PRelu(x, s) }",
     "%1 = Unsqueeze(s, i64[1]{1})\ny = PRelu(x, %1)\n"},
    {"TestModeNormalization", 6,
     "(float[2,3] x, float[3] s) => (float[2,3] y) { y, m, v = BatchNormalization<is_test=1>(x, s, s, s, s) }",
     "y = BatchNormalization(x, s, s, s, s)\n"},
    {"CastByName", 5, "(float[2] x) => (int64[2] y) { y = Cast<to=\"INT64\">(x) }", "y = Cast<to=7>(x)\n"},
    {"ConcatWithoutAxis", 3, "(float[2,1] x) => (float[2,2] y) { y = Concat(x, x) }", "y = Concat<axis=1>(x, x)\n"},
    {"PadPaddings", 1, "(float[2] x) => (float[4] y) { y = Pad<paddings=[1, 1]>(x) }", "y = Pad(x, i64[2]{1 1})\n"},
    {"ReshapeAttribute", 4, "(float[2,3] x) => (float[6] y) { y = Reshape<shape=[6]>(x) }",
     "y = Reshape(x, i64[1]{6})\n"},
    {"TileOfOneAxis", 5, "(float[2,3] x) => (float[2,6] y) <float n = {2.0}, float a = {1.0}> { y = Tile(x, n, a) }",
     "y = Tile(x, i64[2]{1 2})\n"},
    {"UpsampleOfPlanes", 6,
     "(float[1,1,2,2] x) => (float[1,1,4,6] y) "
     "{ y = Upsample<height_scale=2.0, width_scale=3.0, mode=\"bilinear\">(x) }",
     "y = Resize<coordinate_transformation_mode=asymmetric, mode=linear, nearest_mode=floor>(x, _, f32[4]{1 1 2 3})\n"},
};

INSTANTIATE_TEST_SUITE_P(, Lift, testing::ValuesIn(kCases), [](const auto& test) { return test.param.name; });

TEST(LiftRefusal, SaysWhatHasNoEquivalent) {
  struct {
    std::int64_t opset;
    const char* body;
    const char* text;
  } const cases[] = {
      {7, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = BatchNormalization<spatial=0>(x, s, s, s, s) }",
       "spatial = 0"},
      {9,
       "(float[2,3] x, float[3] s) => (float[2,3] y, float[3] k) { y, a, b, k, d = BatchNormalization(x, s, s, s, s) }",
       "'k' is read"},
      {11,
       "(float[2] x, float[0] e, float[1] s) => (float[4] y) "
       "{ y = Resize<mode=\"linear\", coordinate_transformation_mode=\"tf_half_pixel_for_nn\">(x, e, s) }",
       "tf_half_pixel_for_nn"},
      {8,
       "(float[1,2] s, float[1,3,2] x) => (float[1,2] t, float[1,3,2] y) { t, w, y = Scan <num_scan_inputs = 1, body = "
       "b "
       "(float[2] p, float[2] r, float[2] q) => (float[2] u, float[2] v, float[2] z) "
       "{ u = Add(p, q) v = Identity(r) z = Identity(u) }>(, s, , x) }",
       "left out"},
      {8,
       "(float[1,2] s, float[1,3,2] x) => (float[1,2] t, float[1,3,2] y) { t, y = Scan <num_scan_inputs = 250000000, "
       "body = b (float[2] p, float[2] q) => (float[2] u, float[2] z) { u = Add(p, q) z = Identity(u) }>(, s, x) }",
       "got 250000000"},
      {6, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = Add<broadcast = 1, axis = -1099511627776>(x, s) }",
       "axis -1099511627776"},
      {6, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = Mul<broadcast = 1, axis = -3>(x, s) }", "axis -3"},
      {6, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = Sub<broadcast = 1, axis = 2>(x, s) }", "axis 2"},
      {1, "(float[1,1,4] x) => (float[1,1,1] y) { y = GlobalLpPool<p = 1.5>(x) }", "p = 1.5"},
      {1, "(float[1,1,4] x) => (float[1,1,1] y) { y = GlobalLpPool<p = 1e30>(x) }", "an integer p"},
  };
  for (const auto& c : cases) EXPECT_THAT(error_of([&] { lifted(c.opset, c.body); }), testing::HasSubstr(c.text));
}

TEST(LiftSubgraph, IsLiftedWithTheTypesItCaptures) {
  Graph graph =
      from_proto(parse_proto(R"(<ir_version: 4, opset_import: ["": 11]> m (bool c, float[2,1] x) => (float[2] y) {
      y = If (c) <then_branch = t () => (float[2] a) { a = Squeeze<axes=[1]>(x) },
                  else_branch = e () => (float[2] b) { b = Squeeze<axes=[1]>(x) }> })"));
  lift_operators(graph);
  ASSERT_EQ(graph.nodes.size(), 1u);
  const auto& branch = *std::get<std::shared_ptr<const Graph>>(*graph.nodes[0].attributes.find("then_branch"));
  ASSERT_EQ(branch.nodes.size(), 1u);
  EXPECT_EQ(branch.nodes[0].inputs.size(), 2u);
  EXPECT_EQ(branch[branch.nodes[0].outputs[0]].shape, Shape({2}));
}

// The registry of ONNX knows every version of every operator: whatever became invalid, or changed a default, needs a
// rule.
TEST(LiftRules, CoverEveryOperatorWhoseFormChanged) {
  std::map<std::string, std::map<int, onnx::OpSchema>> versions;
  for (const onnx::OpSchema& schema : onnx::OpSchemaRegistry::get_all_schemas_with_history())
    if (schema.domain().empty()) versions[schema.Name()].emplace(schema.since_version(), schema);
  const std::set<std::string> handled_on_reading = {"Constant"};
  std::size_t changes = 0;
  for (const auto& [op, by_version] : versions) {
    for (auto next = std::next(by_version.begin()); next != by_version.end(); ++next) {
      const onnx::OpSchema &before = std::prev(next)->second, &after = next->second;
      if (next->first <= kOldestOnnxOpset || handled_on_reading.contains(op)) continue;
      std::string change = after.deprecated() ? "deprecated " : "";
      for (const auto& [name, attribute] : before.attributes()) {
        auto now = after.attributes().find(name);
        if (now == after.attributes().end())
          change += "-" + name + " ";
        else if (now->second.default_value.SerializeAsString() != attribute.default_value.SerializeAsString())
          change += "~" + name + " ";
      }
      for (const auto& [name, attribute] : after.attributes())
        if (attribute.required && !before.attributes().contains(name)) change += "+" + name + " ";
      if (after.min_input() > before.min_input()) change += "inputs ";
      if (after.max_output() < before.max_output()) change += "outputs ";
      if (change.empty()) continue;
      ++changes;
      const auto rules = lift_rules();
      EXPECT_TRUE(std::any_of(rules.begin(), rules.end(),
                              [&](const LiftRule& rule) { return rule.op == op && rule.below == next->first; }))
          << op << " changed at " << next->first << ": " << change;
    }
  }
  EXPECT_GT(changes, 20u);
}

TEST(LiftRules, StandInOrderAndNameRealVersions) {
  std::map<std::string, std::int64_t> last;
  for (const LiftRule& rule : lift_rules()) {
    const std::string op(rule.op);
    EXPECT_GE(rule.below, last[op]) << op;
    last[op] = rule.below;
    if (op == "SimplifiedLayerNormalization") continue;  // of ONNX Runtime: ONNX has it under another name
    // A schema begins at that version, or (Scatter, Upsample) the operator ends there.
    const auto* schema = onnx::OpSchemaRegistry::Schema(op, static_cast<int>(rule.below), "");
    ASSERT_NE(schema, nullptr) << op;
    EXPECT_EQ(schema->since_version(), rule.below) << op;
  }
}

}  // namespace
}  // namespace halfstep
