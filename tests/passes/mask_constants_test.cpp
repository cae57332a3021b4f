// Constants that only mask or bound something: where they may be clamped, and to what.
#include "passes/precision/mask_constants.h"

#include <limits>

#include <gmock/gmock.h>

#include "tests/passes/precision_model.h"

namespace halfstep::testing {
namespace {

const std::vector<float> kMask{0, -1e9f};
constexpr double kLargest = 65504;

MaskConstants masks_of(const PrecisionModel& m) { return MaskConstants(m.nodes, m.values, DType::f16); }

/// The limit of `value` when every node is half.
double limit_of(const PrecisionModel& m, ValueId value) {
  return masks_of(m).limits(std::vector<bool>(m.nodes.size(), true))[value];
}

// What becomes of the constant `mask`, of values x and y of which nothing is known.
struct Case {
  const char* what;
  void (*build)(PrecisionModel& m, ValueId mask, ValueId x, ValueId y);
  double limit;             ///< 0: it is no mask
  bool stays_full = false;  ///< the nodes on its way
};

class MaskConstant : public ::testing::TestWithParam<Case> {};

TEST_P(MaskConstant, IsTold) {
  PrecisionModel m;
  const ValueId mask = m.constant(kMask), x = m.value(), y = m.value();
  GetParam().build(m, mask, x, y);
  const MaskConstants masks = masks_of(m);
  EXPECT_EQ(masks.is_mask(mask), GetParam().limit > 0);
  EXPECT_FALSE(masks.is_mask(x));
  EXPECT_DOUBLE_EQ(limit_of(m, mask), GetParam().limit);
  bool any_full = false;
  for (std::size_t n = 0; n < m.nodes.size(); ++n) any_full = any_full || masks.must_stay_full(n);
  EXPECT_EQ(any_full, GetParam().stays_full);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, MaskConstant,
    ::testing::Values(
        Case{"picked_by_softmax",
             [](PrecisionModel& m, auto mask, auto x, auto y) { m.node("Softmax", {m.node("Where", {x, y, mask})}); },
             kLargest / 2},
        Case{"moved_to_arg_max",
             [](PrecisionModel& m, auto mask, auto x, auto) {
               m.node("ArgMax", {m.node("Concat", {x, m.node("Transpose", {mask})})});
             },
             kLargest / 2},
        Case{"picked_by_pooling",
             [](PrecisionModel& m, auto mask, auto x, auto) { m.node("MaxPool", {m.node("Pad", {x, x, mask})}); },
             kLargest / 2},
        Case{"added_to_scores",
             [](PrecisionModel& m, auto mask, auto x, auto) { m.node("Softmax", {m.node("Add", {x, mask})}); },
             kLargest / 2, true},
        Case{"scaled_by_what_is_not_known",
             [](PrecisionModel& m, auto mask, auto x, auto) { m.node("Softmax", {m.node("Mul", {mask, x})}); },
             kLargest / 2, true},
        Case{"negated",
             [](PrecisionModel& m, auto mask, auto, auto) { m.node("Softmax", {m.node("Neg", {mask})}); }, kLargest / 2},
        Case{"divided_by_a_constant",
             [](PrecisionModel& m, auto mask, auto, auto) {
               m.node("Softmax", {m.node("Div", {mask, m.constant({8})})});
             },
             kLargest / 2},
        Case{"is_the_divisor",
             [](PrecisionModel& m, auto mask, auto x, auto) { m.node("Softmax", {m.node("Div", {x, mask})}); }, 0},
        Case{"added_twice",
             [](PrecisionModel& m, auto mask, auto x, auto) {
               m.node("Softmax", {m.node("Add", {m.node("Add", {x, mask}), mask})});
             },
             kLargest / 4, true},
        Case{"grown_by_a_constant",
             [](PrecisionModel& m, auto mask, auto, auto) {
               m.node("Softmax", {m.node("Mul", {mask, m.constant({4})})});
             },
             kLargest / 8},
        Case{"mask_of_attention",
             [](PrecisionModel& m, auto mask, auto x, auto y) { m.node("Attention", {x, y, y, mask}); }, kLargest / 2,
             true},
        Case{"keys_of_attention",
             [](PrecisionModel& m, auto mask, auto x, auto y) { m.node("Attention", {x, mask, y}); }, 0},
        Case{"bound_of_clip",
             [](PrecisionModel& m, auto mask, auto x, auto) { m.node("Clip", {x, mask}); }, kLargest},
        Case{"clipped", [](PrecisionModel& m, auto mask, auto, auto) { m.node("Clip", {mask}); }, 0},
        Case{"bound_of_max", [](PrecisionModel& m, auto mask, auto x, auto) { m.node("Max", {x, mask}); }, kLargest},
        Case{"bound_and_mask",
             [](PrecisionModel& m, auto mask, auto x, auto y) {
               m.node("Max", {x, mask});
               m.node("Softmax", {m.node("Where", {x, y, mask})});
             },
             kLargest / 2},
        Case{"read_by_a_product",
             [](PrecisionModel& m, auto mask, auto x, auto y) {
               const ValueId scores = m.node("Where", {x, y, mask});
               m.node("Softmax", {scores});
               m.node("MatMul", {scores, y});
             },
             0},
        Case{"leaves_the_model",
             [](PrecisionModel& m, auto mask, auto x, auto y) { m.output(m.node("Where", {x, y, mask})); }, 0},
        Case{"read_by_nobody", [](PrecisionModel&, auto, auto, auto) {}, 0}),
    [](const auto& test) { return std::string(test.param.what); });

TEST(MaskConstants, AreNoInfinities) {
  PrecisionModel m;
  const ValueId mask = m.constant({0, -std::numeric_limits<float>::infinity()});
  m.node("Softmax", {m.node("Add", {m.value(), mask})});
  EXPECT_FALSE(masks_of(m).is_mask(mask));
  EXPECT_EQ(limit_of(m, mask), 0);
}

TEST(MaskConstants, FitIntoBf16) {
  PrecisionModel m;
  const ValueId mask = m.constant(kMask);
  m.node("Softmax", {m.node("Add", {m.value(), mask})});
  EXPECT_FALSE(MaskConstants(m.nodes, m.values, DType::bf16).is_mask(mask));
}

TEST(MaskConstants, StayAsTheyAreForNodesInF32) {
  PrecisionModel m;
  const ValueId mask = m.constant(kMask);
  m.node("Softmax", {m.node("Add", {m.value(), mask})});
  EXPECT_EQ(masks_of(m).limits({false, false})[mask], 0);
  EXPECT_EQ(masks_of(m).limits({true, false})[mask], kLargest / 2);
}

TEST(MaskConstants, AreClampedForF32NodesThatLeadToHalfAlone) {
  PrecisionModel m;
  const ValueId bound = m.constant({1e6f}), mask = m.constant(kMask), x = m.value();
  m.node("Clip", {x, bound});
  m.node("Clip", {x, bound});
  m.node("MaxPool", {m.node("Where", {x, x, mask})});
  MaskConstants masks = masks_of(m);
  const std::vector<bool> half{true, false, false, true};
  EXPECT_FALSE(masks.find_shared(half));
  EXPECT_EQ(masks.limits(half)[bound], kLargest);
  EXPECT_FALSE(masks.clamped_in_f32(half)[bound]);
  EXPECT_EQ(masks.limits(half)[mask], kLargest / 2);
  EXPECT_TRUE(masks.clamped_in_f32(half)[mask]);
}

// A value that masks in f32, read by a half node and by one in f32.
TEST(MaskConstants, StayInF32WhereOthersReadThemThere) {
  PrecisionModel m;
  const ValueId mask = m.constant(kMask), x = m.value();
  const ValueId masked = m.node("Where", {x, x, mask});
  m.node("MaxPool", {masked});
  m.node("ReduceMin", {masked});
  MaskConstants masks = masks_of(m);
  EXPECT_FALSE(masks.find_shared({true, true, false})) << "its elements are half already";
  EXPECT_FALSE(masks.find_shared({false, false, false}));
  EXPECT_TRUE(masks.find_shared({false, true, false}));
  for (std::size_t n = 0; n < 3; ++n) EXPECT_TRUE(masks.is_shared(n));
  EXPECT_FALSE(masks.find_shared({false, true, false})) << "the same again";
}

TEST(MaskConstants, StayInF32WhereOneIsReadForBothEnds) {
  PrecisionModel m;
  const ValueId mask = m.constant(kMask), x = m.value();
  m.node("MaxPool", {m.node("Where", {x, x, mask})});
  m.node("ReduceMin", {m.node("Where", {x, x, mask})});
  const PrecisionChoice choice = choose_precision(m.nodes, m.values, DType::f16);
  EXPECT_EQ(choice.limits[mask], 0);
  MaskConstants masks = masks_of(m);
  EXPECT_TRUE(masks.find_shared({false, true, false, false}));
  EXPECT_FALSE(masks.find_shared({true, true, false, false})) << "the copy in half is clamped alone";
}

TEST(MaskConstants, MayBeAddedInHalfWhereThatIsAskedFor) {
  PrecisionModel m;
  const ValueId mask = m.constant(kMask);
  m.node("Softmax", {m.node("Add", {m.value(), mask})});
  m.nodes[0].forced = true;
  EXPECT_TRUE(masks_of(m).is_mask(mask));
  EXPECT_FALSE(masks_of(m).must_stay_full(0));
  EXPECT_FALSE(masks_of(m).must_stay_full(1));
}

TEST(MaskConstants, ConstantsOfForcedNodesSaturate) {
  PrecisionModel m;
  const ValueId large = m.constant(kMask), fitting = m.constant({1});
  m.node("MatMul", {large, fitting});
  MaskConstants masks = masks_of(m);
  for (const ValueId value : {large, fitting, kNoValue}) masks.saturate(value);
  EXPECT_EQ(masks.limits({true})[large], kLargest);
  EXPECT_EQ(masks.limits({true})[fitting], 0);
}

}  // namespace
}  // namespace halfstep::testing
