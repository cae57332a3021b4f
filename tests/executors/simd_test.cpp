// Elementwise SIMD kernels against the same functions in double.
#include <array>
#include <bit>
#include <cstdint>
#include <numbers>

#include "executors/onednn/simd/elementwise.h"
#include "ops/elementwise/formula.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

using ops::Formula;

constexpr float kAlpha = 0.25F, kBeta = 0.75F;
constexpr float kClipLow = -0.5F, kClipHigh = 1.25F;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double clamp01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

struct UnaryCase {
  const char* name;
  Formula op;
  double (*f)(double);
  double ulps;
  ElementwiseParams params = {kAlpha, kBeta};
  /// Results far smaller than the argument carry the argument's rounding error.
  bool relative_to_argument = false;
};

const UnaryCase kUnary[] = {
    {"relu", Formula::Relu, [](double x) { return x < 0 ? 0 : x; }, 0},
    {"leaky_relu", Formula::LeakyRelu, [](double x) { return x < 0 ? kAlpha * x : x; }, 0.5},
    {"elu", Formula::Elu, [](double x) { return x < 0 ? kAlpha * std::expm1(x) : x; }, 2},
    {"clip",
     Formula::Clip,
     [](double x) { return x < kClipLow    ? kClipLow
                           : x > kClipHigh ? kClipHigh
                                           : x; },
     0,
     {kClipLow, kClipHigh}},
    {"neg", Formula::Neg, [](double x) { return -x; }, 0},
    {"abs", Formula::Abs, [](double x) { return std::abs(x); }, 0},
    {"sign", Formula::Sign, [](double x) { return x > 0   ? 1
                                                  : x < 0 ? -1
                                                          : x; }, 0},
    {"reciprocal", Formula::Reciprocal, [](double x) { return 1 / x; }, 0.5},
    {"sqrt", Formula::Sqrt, [](double x) { return std::sqrt(x); }, 0.5},
    {"exp", Formula::Exp, [](double x) { return std::exp(x); }, 1.5},
    {"log", Formula::Log, [](double x) { return std::log(x); }, 1.5},
    {"erf", Formula::Erf, [](double x) { return std::erf(x); }, 2},
    {"sigmoid", Formula::Sigmoid, sigmoid, 2.5},
    {"hard_sigmoid", Formula::HardSigmoid, [](double x) { return clamp01(kAlpha * x + kBeta); }, 1},
    {"tanh", Formula::Tanh, [](double x) { return std::tanh(x); }, 2.5},
    {"softplus", Formula::Softplus, [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); },
     2.5},
    {"silu", Formula::Swish, [](double x) { return x * sigmoid(x); }, 3, {1}},
    {"hard_swish", Formula::HardSwish, [](double x) { return x * clamp01(x / 6 + 0.5); }, 2, {}, true},
    {"gelu",
     Formula::Gelu,
     [](double x) { return 0.5 * x * (1 + std::erf(x * std::numbers::sqrt2 / 2)); },
     2,
     {},
     true},
    {"gelu_tanh",
     Formula::GeluTanh,
     [](double x) { return x * sigmoid(2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)); },
     4,
     {},
     true},
};

void expect_unary(const UnaryCase& c, const Array& x) {
  const DType dtype = x.dtype();
  const UnaryKernel kernel = find_unary(c.op, dtype, c.params);
  ASSERT_TRUE(kernel);
  const auto n = static_cast<std::int64_t>(x.size());
  const Array y = with_any_threads([&] {
    Array out(dtype, n);
    kernel(x.data(), out.data(), n);
    return out;
  });
  EXPECT_TRUE(y.guard_intact());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double magnitude = c.relative_to_argument ? x[i] : 0;
    ASSERT_TRUE(close(dtype, y[i], c.f(x[i]), c.ulps, magnitude)) << c.name << "(" << x[i] << ") of " << n;
  }
}

TEST(SimdUnary, MatchesDouble) {
  for (const UnaryCase& c : kUnary) {
    for (const DType dtype : kFloats) {
      for (const std::int64_t n : kSizes) {
        Array x = random_array(dtype, n, -4, 4);
        sprinkle_specials(x);
        expect_unary(c, x);
      }
    }
  }
}

TEST(SimdUnary, HoldsItsAccuracyOverAllFloats) {
  std::vector<double> values;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 19997)
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  for (double x = -110; x < 110; x += 0.00137) values.push_back(static_cast<float>(x));
  const Array x(DType::f32, values);
  for (const UnaryCase& c : kUnary) expect_unary(c, x);
}

// Every formula in f32 against itself in double, special numbers and those around the bounds of ranges included.
TEST(SimdFormula, GivesWhatItGivesInDouble) {
  for (const DType dtype : kFloats) {
    for (const ops::FormulaDef& def : ops::all_formulas()) {
      if (def.row.on_truth) continue;
      const std::int64_t n = 1003;
      Array a = random_array(dtype, n, -4, 4, 1), b = random_array(dtype, n, -3, 3, 2);
      sprinkle_specials(a);
      for (std::size_t i = 3; i < b.size(); i += 11) b.set(i, std::array{NAN, INFINITY, 0.0F, -0.0F, 2.0F}[i % 5]);
      const ElementwiseParams params =
          def.parameters == 0 ? ElementwiseParams() : ElementwiseParams{0.75F, def.row.parameters[1].fallback};
      Array y(dtype, n);
      std::vector<std::uint8_t> truth(static_cast<std::size_t>(n) + 1, 7);
      void* to = def.gives_truth ? static_cast<void*>(truth.data()) : y.data();
      if (def.operands == 1) {
        const UnaryKernel kernel = find_unary(def.formula, dtype, params);
        ASSERT_TRUE(kernel) << def.row.op;
        EXPECT_FALSE(find_binary(def.formula, dtype, params)) << def.row.op;
        kernel(a.data(), to, n);
      } else {
        const BinaryKernel kernel = find_binary(def.formula, dtype, params);
        ASSERT_TRUE(kernel) << def.row.op;
        kernel(a.data(), b.data(), to, n);
      }
      EXPECT_EQ(truth.back(), 7);
      EXPECT_TRUE(y.guard_intact());
      for (std::size_t i = 0; i < a.size(); ++i) {
        double arguments[4] = {a[i], b[i]};
        arguments[def.operands] = params.alpha;
        arguments[def.operands + 1] = params.beta;
        const double want = def.on_floats(arguments), got = def.gives_truth ? truth[i] : y[i];
        const double magnitude = def.operands == 1 ? a[i] : std::max(std::abs(a[i]), std::abs(b[i]));
        ASSERT_TRUE(close(def.gives_truth ? DType::f32 : dtype, got, want, 4, magnitude))
            << def.row.op << "(" << a[i] << ", " << b[i] << ")";
      }
    }
  }
}

TEST(SimdUnary, WorksInPlaceAndRefusesOtherTypes) {
  Array x = random_array(DType::f16, 1000), y(DType::f16, 1000);
  const UnaryKernel kernel = find_unary(Formula::Tanh, DType::f16);
  kernel(x.data(), y.data(), 1000);
  kernel(x.data(), x.data(), 1000);
  EXPECT_TRUE(x == y);
  EXPECT_FALSE(find_unary(Formula::Tanh, DType::f64));
  EXPECT_FALSE(find_binary(Formula::Add, DType::i32));
  EXPECT_FALSE(find_cast(DType::f32, DType::f64));
}

struct BinaryCase {
  const char* name;
  Formula op;
  double (*f)(double, double);
  double ulps;
  /// Units are those of the first operand, which is multiplied by a difference.
  bool relative_to_first = false;
};

double gelu_slope(double x) {
  if (std::isinf(x)) return x > 0 ? 1 : 0;
  return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
}
double tanh_gelu_slope(double x) {
  if (std::isinf(x)) return x > 0 ? 1 : 0;
  const double scale = 2 * std::sqrt(2 / std::numbers::pi), s = sigmoid(scale * (x + 0.044715 * x * x * x));
  return s + x * s * (1 - s) * scale * (1 + 3 * 0.044715 * x * x);
}

const BinaryCase kBinary[] = {
    {"add", Formula::Add, [](double a, double b) { return a + b; }, 0.5},
    {"sub", Formula::Sub, [](double a, double b) { return a - b; }, 0.5},
    {"mul", Formula::Mul, [](double a, double b) { return a * b; }, 0.5},
    {"div", Formula::Div, [](double a, double b) { return a / b; }, 0.51},
    {"min", Formula::Min, [](double a, double b) { return std::isnan(a) || a < b ? a : b; }, 0},
    {"max", Formula::Max, [](double a, double b) { return std::isnan(a) || a > b ? a : b; }, 0},
    {"pow", Formula::Pow, [](double a, double b) { return std::pow(a, b); }, 1},
    {"relu_grad", Formula::ReluGrad, [](double a, double b) { return b <= 0 ? 0 : a; }, 0},
    {"clip_grad", Formula::ClipGrad, [](double a, double b) { return b < kClipLow || b > kClipHigh ? 0 : a; }, 0},
    {"gelu_grad", Formula::GeluGrad, [](double a, double b) { return a * gelu_slope(b); }, 3, true},
    {"gelu_tanh_grad", Formula::GeluTanhGrad, [](double a, double b) { return a * tanh_gelu_slope(b); }, 4, true},
};

using Shape = std::vector<std::int64_t>;

std::int64_t count(const Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

/// The operand's offset for the result's element with this row-major index.
std::size_t offset_of(std::int64_t index, const Shape& result, const Shape& operand) {
  std::int64_t offset = 0, stride = 1;
  for (std::size_t back = 1; back <= result.size(); ++back) {
    const std::int64_t extent = result[result.size() - back];
    if (back <= operand.size() && operand[operand.size() - back] > 1) offset += index % extent * stride;
    if (back <= operand.size()) stride *= operand[operand.size() - back];
    index /= extent;
  }
  return static_cast<std::size_t>(offset);
}

void expect_binary(const BinaryCase& c, const Array& a, const Shape& shape_a, const Array& b, const Shape& shape_b,
                   const Shape& result) {
  const DType dtype = a.dtype();
  const BinaryKernel kernel = find_binary(c.op, dtype, {kClipLow, kClipHigh});
  ASSERT_TRUE(kernel);
  const Broadcast broadcast(result, {shape_a, shape_b});
  ASSERT_TRUE(broadcast.valid());
  ASSERT_EQ(broadcast.size(), count(result));
  const Array y = with_any_threads([&] {
    Array out(dtype, count(result));
    kernel(broadcast, a.data(), b.data(), out.data());
    return out;
  });
  EXPECT_TRUE(y.guard_intact());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double left = a[offset_of(static_cast<std::int64_t>(i), result, shape_a)];
    const double right = b[offset_of(static_cast<std::int64_t>(i), result, shape_b)];
    ASSERT_TRUE(close(dtype, y[i], c.f(left, right), c.ulps, c.relative_to_first ? left : 0))
        << c.name << "(" << left << ", " << right << ")";
  }
}

TEST(SimdBinary, MatchesDouble) {
  for (const BinaryCase& c : kBinary) {
    for (const DType dtype : kFloats) {
      for (const std::int64_t n : kSizes) {
        Array a = random_array(dtype, n, -3, 3, 1), b = random_array(dtype, n, -3, 3, 2);
        sprinkle_specials(a);
        expect_binary(c, a, {n}, b, {n}, {n});
        expect_binary(c, b, {n}, a, {n}, {n});
        expect_binary(c, a, {n}, Array(dtype, std::vector{0.5}), {}, {n});
        expect_binary(c, Array(dtype, std::vector{2.0}), {1}, b, {n}, {n});

        Array flat(dtype, n), same(dtype, n);
        const BinaryKernel kernel = find_binary(c.op, dtype, {kClipLow, kClipHigh});
        kernel(a.data(), b.data(), flat.data(), n);
        kernel(Broadcast(Shape{n}, {Shape{n}, Shape{n}}), a.data(), b.data(), same.data());
        EXPECT_TRUE(flat == same) << c.name;
      }
    }
  }
}

TEST(SimdBinary, GeluSlopesHoldTheirAccuracyOverAllFloats) {
  std::vector<double> values;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 19997)
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  for (double x = -30; x < 30; x += 0.00137) values.push_back(static_cast<float>(x));
  const Array x(DType::f32, values), one(DType::f32, std::vector{1.0});
  const auto n = static_cast<std::int64_t>(x.size());
  for (const BinaryCase& c : kBinary)
    if (c.relative_to_first) expect_binary(c, one, {}, x, {n}, {n});
}

TEST(SimdBinary, Broadcasts) {
  struct Case {
    Shape a, b, result;
  };
  const Case cases[] = {
      {{5, 17}, {17}, {5, 17}},                                      // row
      {{5, 17}, {5, 1}, {5, 17}},                                    // column
      {{300, 1000}, {1000}, {300, 1000}},                            // in parallel
      {{2, 3, 70, 70}, {3, 1, 1}, {2, 3, 70, 70}},                   // channel
      {{2, 40000}, {2, 1}, {2, 40000}},                              // several pieces a row
      {{4, 1, 3}, {1, 5, 3}, {4, 5, 3}},                             // outer product of the leading axes
      {{2, 1, 3, 1, 2, 1}, {1, 3, 1, 2, 1, 5}, {2, 3, 3, 2, 2, 5}},  // nothing merges
      {{1}, {1, 1}, {1, 1}},
      {{3, 1}, {3, 1}, {3, 4}},  // both are broadcast along the last axis
      {{0, 3}, {3}, {0, 3}},
  };
  for (const Case& c : cases) {
    for (const DType dtype : kFloats) {
      const Array a = random_array(dtype, count(c.a), -2, 2, 3), b = random_array(dtype, count(c.b), -2, 2, 4);
      expect_binary(kBinary[1], a, c.a, b, c.b, c.result);
      expect_binary(kBinary[1], b, c.b, a, c.a, c.result);
    }
  }
}

TEST(SimdBinary, SaysWhenABroadcastHasTooManyAxes) {
  const Shape odd = {2, 1, 2, 1, 2, 1, 2}, even = {1, 2, 1, 2, 1, 2, 1}, result = {2, 2, 2, 2, 2, 2, 2};
  EXPECT_FALSE(Broadcast(result, {odd, even}).valid());
  EXPECT_TRUE(Broadcast(result, {result, result}).valid());
}

TEST(SimdWhere, SelectsBits) {
  const Shape result = {50, 3, 701}, shapes[] = {{50, 3, 701}, {3, 1}, {701}, {}, {50, 1, 1}};
  std::vector<unsigned char> cond(static_cast<std::size_t>(count(result)));
  for (std::size_t i = 0; i < cond.size(); ++i) cond[i] = i % 3 == 0 || i % 7 == 2;
  for (const Shape& shape_c : shapes) {
    for (const Shape& shape_a : shapes) {
      const Shape& shape_b = shapes[2];
      const Broadcast broadcast(result, {shape_c, shape_a, shape_b});
      for (const DType dtype : kFloats) {
        Array a = random_array(dtype, count(shape_a), -2, 2, 5), b = random_array(dtype, count(shape_b), -2, 2, 6);
        sprinkle_specials(b);
        Array y(dtype, count(result));
        where(broadcast, bytes_of(dtype, 1), cond.data(), a.data(), b.data(), y.data());
        for (std::size_t i = 0; i < y.size(); ++i) {
          const auto index = static_cast<std::int64_t>(i);
          const double want = cond[offset_of(index, result, shape_c)] ? a[offset_of(index, result, shape_a)]
                                                                      : b[offset_of(index, result, shape_b)];
          ASSERT_TRUE(close(dtype, y[i], want, 0));
        }
      }
    }
  }
}

TEST(SimdCast, HasTheBitsOfHalfH) {
  std::vector<float> values;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4099)
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  for (std::uint32_t half = 0; half < 65536; ++half) {  // halves, and the halfway points between them
    const auto value = static_cast<float>(f16::from_bits(static_cast<std::uint16_t>(half)));
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (const std::uint32_t offset : {0u, 0xfffu, 0x1000u, 0x1001u})
      values.push_back(std::bit_cast<float>(bits + offset));
    for (const std::uint32_t offset : {0x7fffu, 0x8000u, 0x8001u})
      values.push_back(std::bit_cast<float>((half << 16) + offset));
  }
  const auto n = static_cast<std::int64_t>(values.size());
  std::vector<f16> halves(values.size());
  std::vector<bf16> brains(values.size());
  find_cast(DType::f32, DType::f16)(values.data(), halves.data(), n);
  find_cast(DType::f32, DType::bf16)(values.data(), brains.data(), n);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(halves[i].bits, f16(values[i]).bits) << values[i];
    ASSERT_EQ(brains[i].bits, bf16(values[i]).bits) << values[i];
  }
}

TEST(SimdCast, WidensEveryHalf) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  std::vector<float> from_f16(bits.size()), from_bf16(bits.size());
  find_cast(DType::f16, DType::f32)(bits.data(), from_f16.data(), 65536);
  find_cast(DType::bf16, DType::f32)(bits.data(), from_bf16.data(), 65536);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    ASSERT_TRUE(close(DType::f32, from_f16[i], static_cast<float>(f16::from_bits(bits[i])), 0));
    ASSERT_TRUE(close(DType::f32, from_bf16[i], static_cast<float>(bf16::from_bits(bits[i])), 0));
  }
}

TEST(SimdCast, TakesIntegers) {
  const std::vector<std::int64_t> longs = {0, 1, -1, 65504, 65520, -70000, 16777217, std::int64_t{1} << 40};
  const std::vector<std::int32_t> ints = {0, 1, -1, 65504, 65520, -70000, 16777217, 1 << 30};
  const std::vector<std::uint8_t> bytes = {0, 1, 2, 255};
  for (const DType to : kFloats) {
    Array y(to, 8);
    find_cast(DType::i64, to)(longs.data(), y.data(), 8);
    for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(y[i], rounded(to, static_cast<double>(longs[i])));
    find_cast(DType::i32, to)(ints.data(), y.data(), 8);
    for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(y[i], rounded(to, ints[i]));
    find_cast(DType::u8, to)(bytes.data(), y.data(), 4);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(y[i], rounded(to, bytes[i]));
  }
}

}  // namespace
}  // namespace halfstep::simd
