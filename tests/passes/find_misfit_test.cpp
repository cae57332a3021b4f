// Which values of a node a half type cannot hold, and why.
#include "passes/precision/find_misfit.h"

#include <gmock/gmock.h>

#include "tests/passes/precision_model.h"

namespace halfstep::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<float> kLarge{1, 1e6f}, kSmall{1e-9f, 2e-9f}, kFitting{1, 2};

struct Finder {
  MaskConstants masks;
  MisfitFinder finder;

  explicit Finder(const PrecisionModel& m, DType half = DType::f16)
      : masks(m.nodes, m.values, half), finder(m.nodes, m.values, masks, half) {}
};

MisfitFinder::Found found_in_last(const PrecisionModel& m, DType half = DType::f16) {
  return Finder(m, half).finder.find(m.nodes.back());
}

// The node is y = MatMul(a, b), with one of the three as told.
struct Case {
  const char* what;
  void (*change)(PrecisionModel& m, ValueId a, ValueId b, ValueId y);
  Misfit kind;
  const char* reason;
  bool is_small = false;
};

class MisfitOfProduct : public ::testing::TestWithParam<Case> {};

TEST_P(MisfitOfProduct, IsFound) {
  PrecisionModel m;
  const ValueId a = m.value(), b = m.value(), y = m.node("MatMul", {a, b});
  GetParam().change(m, a, b, y);
  const MisfitFinder::Found found = found_in_last(m);
  EXPECT_EQ(found.kind, GetParam().kind) << found.reason;
  EXPECT_THAT(found.reason, HasSubstr(GetParam().reason));
  EXPECT_EQ(found.is_small, GetParam().is_small);
}

INSTANTIATE_TEST_SUITE_P(
    Values, MisfitOfProduct,
    ::testing::Values(Case{"nothing_known", [](PrecisionModel&, auto, auto, auto) {}, Misfit::none, ""},
                      Case{"fits", [](PrecisionModel& m, auto a, auto, auto) { m.measure(a, kFitting); }, Misfit::none,
                           ""},
                      Case{"operand_too_large", [](PrecisionModel& m, auto a, auto, auto) { m.measure(a, kLarge); },
                           Misfit::measured, "operands reached 1e+06, beyond the 65504 of f16"},
                      Case{"result_too_large", [](PrecisionModel& m, auto, auto, auto y) { m.measure(y, kLarge); },
                           Misfit::measured, "results reached 1e+06"},
                      Case{"constant_too_large",
                           [](PrecisionModel& m, auto, auto b, auto) {
                             m.measure(b, kLarge);
                             m.at(b).kind = PrecisionValue::Kind::constant;
                           },
                           Misfit::constant, "its constants reach 1e+06"},
                      Case{"constant_too_small",
                           [](PrecisionModel& m, auto, auto b, auto) {
                             m.measure(b, kSmall);
                             m.at(b).kind = PrecisionValue::Kind::constant;
                           },
                           Misfit::constant, "its constants are too small: 2 of 2 elements below 6.1e-05", true},
                      Case{"operand_too_small", [](PrecisionModel& m, auto a, auto, auto) { m.measure(a, kSmall); },
                           Misfit::measured, "operands are too small", true},
                      Case{"large_counts_before_small",
                           [](PrecisionModel& m, auto a, auto b, auto) {
                             m.measure(a, kSmall);
                             m.measure(b, kLarge);
                           },
                           Misfit::measured, "operands reached"},
                      Case{"expected_too_large", [](PrecisionModel& m, auto a, auto, auto) { m.at(a).expected = 1e5; },
                           Misfit::expected, "operands of about 1e+05 are expected, too large for f16"},
                      Case{"expected_too_small", [](PrecisionModel& m, auto a, auto, auto) { m.at(a).expected = 1e-8; },
                           Misfit::expected, "too small for f16", true},
                      Case{"measured_counts_before_expected",
                           [](PrecisionModel& m, auto a, auto, auto) {
                             m.measure(a, kFitting);
                             m.at(a).expected = 1e5;
                           },
                           Misfit::none, ""},
                      Case{"stays_f32_anyway",
                           [](PrecisionModel& m, auto a, auto, auto) {
                             m.measure(a, kLarge);
                             m.nodes.back().input_roles[0] = Role::fixed;
                           },
                           Misfit::none, ""},
                      Case{"left_out", [](PrecisionModel& m, auto, auto, auto) { m.nodes.back().inputs[1] = kNoValue; },
                           Misfit::none, ""}),
    [](const auto& test) { return std::string(test.param.what); });

TEST(Misfit, IsOfTheTypeThatIsAsked) {
  PrecisionModel m;
  m.node("MatMul", {m.measured(kLarge), m.value()});
  EXPECT_EQ(found_in_last(m, DType::bf16).kind, Misfit::none);
}

TEST(Misfit, SmallPartsOfAKnownSumDoNotMatter) {
  for (const char* op : {"Add", "Sub", "Sum"}) {
    PrecisionModel m;
    const ValueId y = m.node(op, {m.measured(kSmall), m.measured(kFitting)});
    EXPECT_EQ(found_in_last(m).kind, Misfit::measured) << op << ", whose result may be as small";
    m.measure(y, kFitting);
    EXPECT_EQ(found_in_last(m).kind, Misfit::none) << op;
  }
  PrecisionModel m;
  m.measure(m.node("Mul", {m.measured(kSmall), m.measured(kFitting)}), kFitting);
  EXPECT_EQ(found_in_last(m).kind, Misfit::measured);
}

TEST(Misfit, ShiftAndMeanOfABatchNormalizationMayUnderflow) {
  for (int small = 0; small < 5; ++small) {
    PrecisionModel m;
    std::vector<ValueId> operands;
    for (int k = 0; k < 5; ++k) operands.push_back(m.constant(k == small ? kSmall : kFitting));
    m.node("BatchNormalization", operands);
    EXPECT_EQ(found_in_last(m).kind == Misfit::none, small == 2 || small == 3) << small;
  }
}

TEST(MovedConstants, AreKnownByTheirOrigin) {
  PrecisionModel m;
  const ValueId large = m.constant(kLarge), small = m.constant(kSmall), x = m.value();
  const ValueId turned = m.node("Transpose", {large}), twice = m.node("Reshape", {turned});
  const ValueId joined = m.node("Concat", {x, large}), mixed = m.node("Concat", {x, small});
  const ValueId computed = m.node("Relu", {large});
  m.node("MatMul", {twice, x});
  const Finder f(m);
  const auto origin = [&](ValueId v) { return f.finder.moved_from()[v]; };
  EXPECT_EQ(origin(turned), large);
  EXPECT_EQ(origin(twice), large);
  EXPECT_EQ(origin(joined), large) << "it overflows, whatever it is joined with";
  EXPECT_EQ(origin(mixed), kNoValue);
  EXPECT_EQ(origin(computed), kNoValue);
  EXPECT_THAT(f.finder.find(m.nodes.back()).reason, HasSubstr("its constants reach 1e+06"));
  EXPECT_EQ(f.finder.find_value(twice).reason, "elements reach 1e+06, beyond the 65504 of f16");
}

TEST(Misfit, OfAMaskIsNone) {
  PrecisionModel m;
  m.node("Softmax", {m.node("Where", {m.value(), m.value(), m.constant({-1e9f})})});
  for (const PrecisionNode& node : m.nodes) EXPECT_EQ(Finder(m).finder.find(node).kind, Misfit::none) << node.op;
}

}  // namespace
}  // namespace halfstep::testing
