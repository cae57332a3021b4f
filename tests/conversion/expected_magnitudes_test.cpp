// What is foreseen of a model's activations without running it.
#include <cmath>
#include <random>

#include <fmt/format.h>

#include "tests/conversion/conversion_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::HasSubstr;

onnx::TensorProto* add_weight(onnx::ModelProto& model, const std::string& name, const Shape& shape, float deviation,
                              std::mt19937& random) {
  Tensor tensor(DType::f32, shape);
  std::normal_distribution<float> draw(0, deviation);
  for (float& x : tensor.span<float>()) x = draw(random);
  auto* weight = model.mutable_graph()->add_initializer();
  *weight = tensor_to_proto(tensor);
  weight->set_name(name);
  return weight;
}

/// Layers of `Linear(64, 64)` with Relu, whose weights are `gain` times those that keep the mean square, and biases.
ModelFile deep_network(int layers, float gain, float bias) {
  std::mt19937 random(1);
  onnx::ModelProto model;
  model.set_ir_version(10);
  model.add_opset_import()->set_version(20);
  auto& graph = *model.mutable_graph();
  graph.set_name("deep");
  const auto add_value = [](onnx::ValueInfoProto* info, const std::string& name) {
    info->set_name(name);
    auto* type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    for (const int extent : {8, 64}) type->mutable_shape()->add_dim()->set_dim_value(extent);
  };
  add_value(graph.add_input(), "x");
  std::string last = "x";
  const auto add_node = [&](const std::string& op, const std::string& output, const std::vector<std::string>& inputs) {
    auto* node = graph.add_node();
    node->set_op_type(op);
    for (const std::string& input : inputs) node->add_input(input);
    node->add_output(output);
    last = output;
  };
  for (int i = 0; i < layers; ++i) {
    const std::string n = std::to_string(i);
    add_weight(model, "w" + n, Shape{64, 64}, gain * std::sqrt(2.0f / 64), random);
    add_weight(model, "b" + n, Shape{64}, bias, random);
    add_node("Gemm", "h" + n, {last, "w" + n, "b" + n});
    add_node("Relu", "a" + n, {last});
  }
  add_value(graph.add_output(), last);
  return ModelFile::from_bytes(model.SerializeAsString());
}

int half_products(const ConversionReport& report) {
  int count = 0;
  for (const NodeReport& node : report.nodes) count += node.op == "Gemm" && node.half;
  return count;
}

TEST(ExpectedMagnitudes, ActivationsThatWouldVanishStayInF32) {
  const ModelFile model = deep_network(16, 0.25f, 0);
  const Converted c = convert_model(model, kKeepIo);
  // A quarter in every layer: 4^-8 is just below 2^-15.8, where f16 loses more than its rounding.
  EXPECT_NEAR(half_products(c.report), 7, 1);
  EXPECT_TRUE(c.report.nodes.front().half);
  EXPECT_FALSE(c.report.nodes.back().half);
  EXPECT_THAT(c.report.nodes.back().reason, HasSubstr("too small for f16"));

  std::mt19937 random(2);
  std::normal_distribution<float> draw;
  Tensor x(DType::f32, Shape{8, 64});
  for (float& element : x.span<float>()) element = draw(random);
  const auto y = run_bytes(c.bytes, {{"x", x}})[0];
  const auto expected = run_bytes(
      convert(model, {.keep_io_types = true, .keep_f32 = parse_node_patterns("node:.*")}).bytes(), {{"x", x}})[0];
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(y[i] - expected[i]));
  }
  EXPECT_GT(largest, 0);
  EXPECT_LT(error, 0.01 * largest);
}

TEST(ExpectedMagnitudes, ActivationsThatWouldOverflowStayInF32) {
  const Converted c = convert_model(deep_network(8, 10, 0), kKeepIo);
  EXPECT_NEAR(half_products(c.report), 4, 1);
  EXPECT_THAT(c.report.nodes.back().reason, HasSubstr("too large for f16"));
}

TEST(ExpectedMagnitudes, WeightsThatKeepTheScaleAndBiasesAreNoReasonForF32) {
  EXPECT_EQ(half_products(convert_model(deep_network(40, 1, 0), kKeepIo).report), 40);
  EXPECT_EQ(half_products(convert_model(deep_network(40, 0.25f, 0.1f), kKeepIo).report), 40);
}

// Far from zero half of what goes into it is cut off: many of them neither grow nor shrink what is multiplied by the
// root of 2.
TEST(ExpectedMagnitudes, AHardSwishThatIsSpeltOutKeepsTheScale) {
  std::string nodes = "s = Mul(x, hundred)\n", last = "s";
  for (int i = 0; i < 40; ++i) {
    nodes += fmt::format(
        "a{0} = Add({1}, three) c{0} = Clip(a{0}, low, six) m{0} = Mul({1}, c{0}) d{0} = Div(m{0}, six) "
        "g{0} = Mul(d{0}, gain) h{0} = MatMul(g{0}, w)\n",
        i, last);
    last = fmt::format("h{}", i);
  }
  const Converted c = convert_text(
      "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,0, 0,1}, float three = {3}, "
      "float low = {0}, float six = {6}, float gain = {1.41421}, float hundred = {100}> { " +
          nodes + "y = Identity(" + last + ") }",
      kKeepIo);
  EXPECT_TRUE(std::all_of(c.report.nodes.begin(), c.report.nodes.end(),
                          [](const NodeReport& n) { return n.half || n.op == "Identity"; }));
}

TEST(ExpectedMagnitudes, Bf16HasTheRangeOfF32) {
  EXPECT_EQ(
      half_products(convert_model(deep_network(16, 0.25f, 0), {.half = DType::bf16, .keep_io_types = true}).report),
      16);
}

/// Two products with diagonal weights: `first`, and the power of two that makes what `first` is decide the second one.
Converted two_products(float first, float second) {
  const auto diagonal = [](float x) { return fmt::format("{{{:.9g},0, 0,{:.9g}}}", x, x); };
  return convert_text(fmt::format("(float[2,2] x) => (float[2,2] y) <float[2,2] a = {}, float[2,2] b = {}> {{\n"
                                  "  h = MatMul(x, a)\n"
                                  "  y = MatMul(h, b)\n"
                                  "}}",
                                  diagonal(first), diagonal(second)),
                      kKeepIo);
}

// `convert_model` converts the result again, in which the first weight is rounded: were the second product decided by
// what the first weight was before, it would now be found on the other side of the threshold.
TEST(ExpectedMagnitudes, RoundingWeightsChangesNoDecision) {
  for (const float second : {0x1p-8f, 0x1.2p-8f, 0x1.4p-8f, 0x1.6p-8f, 0x1.8p-8f, 0x1.ap-8f, 0x1.cp-8f, 0x1.ep-8f}) {
    const auto is_half = [&](float first) { return two_products(first, second).report.nodes.back().half; };
    float low = 0x1p-10f, high = 1;  // of the first weight: the second product is f32, half
    ASSERT_FALSE(is_half(low));
    ASSERT_TRUE(is_half(high));
    while (std::nextafter(low, high) < high) {
      const float middle = low + (high - low) / 2;
      (is_half(middle) ? high : low) = middle;
    }
    ASSERT_FALSE(HasFailure()) << "at weights of " << low << " and " << second;
  }
}

// Stored in f16 they are zeros.
TEST(ExpectedMagnitudes, WeightsForcedToHalfCountAsTheyAreStored) {
  const char* text = R"((float[2,2] x) => (float[2,2] y) <float[2,2] a = {1e-9,0, 0,1e-9}, float[2,2] b = {1,0, 0,1}> {
        [first] h = MatMul(x, a)
        [second] y = MatMul(h, b)
      })";
  EXPECT_FALSE(convert_text(text, kKeepIo).report.nodes.back().half);
  ConvertOptions forced = kKeepIo;
  forced.force_half = parse_node_patterns("node:first");
  EXPECT_TRUE(convert_text(text, forced).report.nodes.back().half);
}

TEST(ExpectedMagnitudes, MeasuredIsBetterThanExpected) {
  const ModelFile model = deep_network(16, 0.25f, 0);
  Tensor x(DType::f32, Shape{8, 64});
  for (float& element : x.span<float>()) element = 1e4f;
  ConvertOptions options = kKeepIo;
  options.measured = measure_ranges(model, {{"x", x}}, *make_reference_executor());
  EXPECT_GT(half_products(convert_model(model, options).report), 10);
}

struct OneNode {
  const char* what;
  const char* text;  ///< the node `y = …` reads `t`, which is expected to be 1e-6
  bool half;
};
void PrintTo(const OneNode& node, std::ostream* out) { *out << node.what; }
class ExpectedMagnitudesOf : public ::testing::TestWithParam<OneNode> {};

TEST_P(ExpectedMagnitudesOf, Operators) {
  const Converted c = convert_text(std::string(R"((float[1,4,8,8] x, float[4,4] m) => (float[N] out)
      <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float[4] one = {1,1,1,1}, float[4] none = {0,0,0,0},
       float small = {1e-3}, float low = {0}, float high = {6}, float two = {2}, float[1,4,1,1] bias = {1,-1,1,-1},
       int64[1] flat = {-1}> {
        s = Mul(x, small)
        t = Mul(s, small)
        )") + GetParam().text + R"(
        r = Reshape(y, flat)
        p = MatMul(r, r)
        out = Reshape(p, flat)
      })",
                                   kKeepIo);
  EXPECT_EQ(c.reported("Reshape")->half, GetParam().half);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, ExpectedMagnitudesOf,
    ::testing::Values(
        OneNode{"nothing", "y = Identity(t)", false}, OneNode{"relu", "y = Relu(t)", false},
        OneNode{"sigmoid", "y = Sigmoid(t)", true}, OneNode{"gelu", "y = Gelu(t)", false},
        OneNode{"clip", "y = Clip(t, low, high)", false}, OneNode{"pool", "y = GlobalAveragePool(t)", false},
        OneNode{"sum_with_larger", "y = Add(t, bias)", true},
        OneNode{"joined_with_larger", "y = Concat<axis=1>(t, x)", true},
        OneNode{"untrained_batch_normalization", "y = BatchNormalization(t, one, none, none, one)", false},
        OneNode{"trained_batch_normalization", "y = BatchNormalization(t, one, one, one, one)", true},
        OneNode{"instance_normalization", "y = InstanceNormalization<epsilon = 1e-12>(t, one, none)", true},
        OneNode{"unknown", "y = Sin(t)", true}),
    [](const auto& one) { return std::string(one.param.what); });

// The checker lets it pass unless it infers shapes.
TEST(ExpectedMagnitudes, APermutationOfAxesThatAreNotThereTellsNothing) {
  const Conversion c = convert(ModelFile::parse(header() + R"((float[2,2] x) => (float[2,2] y)
      <float[2,2] w = {1, 2, 3, 4}> {
        t = Transpose<perm = [0, 5]>(w)
        y = MatMul(x, t)
      })"),
                               {});
  EXPECT_TRUE(c.report().nodes.back().half);
}

TEST(ExpectedMagnitudes, RootsOfConstantsGoWithTheirNeighbours) {
  const char* text = R"((float[2,2] x) => (float[2,2] y) <float scale = {0.25}> {
        s = CastLike(scale, x)
        r = Sqrt(s)
        q = Mul(x, r)
        k = Mul(x, r)
        y = MatMul(q, k)
      })";
  EXPECT_TRUE(convert_text(text, kKeepIo).reported("Sqrt")->half);
  const char* variance = R"((float[2,2] x, float[2,2] v) => (float[2,2] y) {
        a = Abs(v)
        r = Sqrt(a)
        q = Mul(x, r)
        y = MatMul(q, q)
      })";
  EXPECT_FALSE(convert_text(variance, kKeepIo).reported("Sqrt")->half);
}

}  // namespace
}  // namespace halfstep
