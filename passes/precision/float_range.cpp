#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include <halfstep/passes/precision/float_range.h>

namespace halfstep {
namespace {

constexpr std::uint32_t kMagnitude = 0x7fffffffu, kInfinity = 0x7f800000u;
constexpr int kBias = 127;

// Exponents of a half type: of the smallest normal and of the smallest subnormal number.
struct Exponents {
  int normal, subnormal;
};
Exponents exponents_of(DType half) { return half == DType::f16 ? Exponents{-14, -24} : Exponents{-126, -133}; }

// The largest magnitude, as bits of f32, that still rounds to a finite number of the half type.
std::uint32_t last_finite(DType half) { return half == DType::f16 ? 0x477fefffu : 0x7f7f7fffu; }

// Mean square of what rounding to a grid of the smallest subnormal number loses.
double grid_error(int subnormal) { return std::exp2(2 * subnormal) / 12; }

// As static_cast<float>(f16(|x|)) of what f16 can hold, without a branch: adding 2^13 times x's binade lets float
// addition round where f16 ends.
constexpr auto kInF16 = [](float x) {
  constexpr float kSmallestNormal = 0x1p-14f;
  const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x) & kMagnitude;
  const std::uint32_t binade = std::max(magnitude & kInfinity, std::bit_cast<std::uint32_t>(kSmallestNormal));
  const float shift = 0x1p13f * std::bit_cast<float>(binade);
  return (std::bit_cast<float>(magnitude) + shift) - shift;
};

// As static_cast<float>(bf16(|x|)).
constexpr auto kInBf16 = [](float x) {
  const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x) & kMagnitude;
  return std::bit_cast<float>((magnitude + 0x7fffu + ((magnitude >> 16) & 1u)) & 0xffff0000u);
};

constexpr auto kInF32 = [](float x) { return x; };

// Sums of the squares and extremes of finite elements, in lanes computed side by side.
class Moments {
 public:
  template <class Rounding>
  void add(const float* elements, std::size_t n, Rounding rounded) {
    Moments m = *this;  // which the compiler keeps in registers
    std::size_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane) m.add_one(lane, elements[i + lane], rounded);
    for (; i < n; ++i) m.add_one(0, elements[i], rounded);
    *this = m;
  }

  double squares() const { return std::accumulate(squares_.begin(), squares_.end(), 0.0); }
  double rounded_squares() const { return std::accumulate(rounded_squares_.begin(), rounded_squares_.end(), 0.0); }
  double largest() const { return float_of(*std::max_element(largest_.begin(), largest_.end())); }
  double smallest_non_zero() const { return float_of(*std::min_element(smallest_.begin(), smallest_.end())); }

 private:
  static constexpr std::size_t kLanes = 8;

  static double float_of(std::int32_t bits) { return std::bit_cast<float>(bits); }
  static double square(float x) { return static_cast<double>(x) * x; }

  template <class Rounding>
  void add_one(std::size_t lane, float x, Rounding rounded) {
    const auto magnitude = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x) & kMagnitude);
    squares_[lane] += square(x);
    rounded_squares_[lane] += square(rounded(x));
    largest_[lane] = std::max(largest_[lane], magnitude);
    smallest_[lane] = std::min(smallest_[lane], magnitude == 0 ? kNone : magnitude);
  }

  static constexpr std::int32_t kNone = kInfinity;
  // Magnitudes are compared as bits: f32's subnormals may count as zero in floating-point arithmetic.
  std::array<std::int32_t, kLanes> largest_{}, smallest_ = filled(kNone);
  std::array<double, kLanes> squares_{}, rounded_squares_{};

  static constexpr std::array<std::int32_t, kLanes> filled(std::int32_t x) {
    std::array<std::int32_t, kLanes> lanes{};
    lanes.fill(x);
    return lanes;
  }
};

std::uint64_t count_below(const FloatRange& range, int exponent) {
  const int end = std::clamp(exponent + kBias, 0, 255);
  const auto first = range.exponents.begin();
  return std::accumulate(first, first + end, std::uint64_t{0}) - (end > 0 ? range.zeros : 0);
}

}  // namespace

void FloatRange::add(const float* elements, std::size_t n, DType rounded_to) {
  for (std::size_t start = 0; start < n; start += kBlock)
    add_block(elements + start, std::min(n - start, kBlock), rounded_to);
}

void FloatRange::add_block(const float* elements, std::size_t n, DType rounded_to) {
  // Several tables, so that runs of equal exponents do not wait for one counter.
  std::array<std::array<std::uint32_t, 256>, 4> counts{};
  for (std::size_t i = 0; i < n; ++i) ++counts[i & 3][(std::bit_cast<std::uint32_t>(elements[i]) & kMagnitude) >> 23];
  for (const auto& table : counts)
    for (std::size_t e = 0; e < table.size(); ++e) exponents[e] += table[e];
  const std::uint64_t special = std::exchange(exponents[255], 0);
  std::vector<float> finite;
  if (special > 0) {
    std::copy_if(elements, elements + n, std::back_inserter(finite), [](float x) { return std::isfinite(x); });
    const auto unknown = std::count_if(elements, elements + n, [](float x) { return std::isnan(x); });
    nans += static_cast<std::uint64_t>(unknown);
    infinities += special - static_cast<std::uint64_t>(unknown);
    elements = finite.data();
    n = finite.size();
  }
  if (counts[0][0] + counts[1][0] + counts[2][0] + counts[3][0] > 0)
    zeros += static_cast<std::uint64_t>(std::count(elements, elements + n, 0.0f));

  Moments moments;
  if (rounded_to == DType::f16)
    moments.add(elements, n, kInF16);
  else if (rounded_to == DType::bf16)
    moments.add(elements, n, kInBf16);
  else
    moments.add(elements, n, kInF32);
  squares += moments.squares();
  rounded_squares += moments.rounded_squares();
  max = std::max(max, moments.largest());
  add_smallest(moments.smallest_non_zero());
}

void FloatRange::add(const FloatRange& other) {
  for (std::size_t e = 0; e < exponents.size(); ++e) exponents[e] += other.exponents[e];
  zeros += other.zeros;
  infinities += other.infinities;
  nans += other.nans;
  max = std::max(max, other.max);
  squares += other.squares;
  rounded_squares += other.rounded_squares;
  if (other.min_non_zero > 0) add_smallest(other.min_non_zero);
}

void FloatRange::add_smallest(double magnitude) {
  if (std::isfinite(magnitude)) min_non_zero = min_non_zero == 0 ? magnitude : std::min(min_non_zero, magnitude);
}

std::uint64_t FloatRange::count() const {
  return std::accumulate(exponents.begin(), exponents.end(), std::uint64_t{0}) + infinities + nans;
}

std::uint64_t FloatRange::below_normal(DType half) const { return count_below(*this, exponents_of(half).normal); }

// Below half of the smallest subnormal number.
std::uint64_t FloatRange::flushed(DType half) const { return count_below(*this, exponents_of(half).subnormal - 1); }

bool FloatRange::overflows(DType half) const {
  return std::bit_cast<std::uint32_t>(static_cast<float>(max)) > last_finite(half);
}

double FloatRange::underflow_error(DType half) const {
  const auto [normal, subnormal] = exponents_of(half);
  double total = 0, lost = 0;
  for (int e = 0; e < 255; ++e) {
    const auto n = static_cast<double>(exponents[e] - (e == 0 ? zeros : 0));
    const double energy = n * std::pow(1.5 * std::exp2(e - kBias), 2);
    total += energy;
    if (e - kBias < subnormal - 1)
      lost += energy;
    else if (e - kBias < normal)
      lost += std::min(energy, n * grid_error(subnormal));
  }
  return total > 0 ? std::sqrt(lost / total) : 0;
}

bool FloatRange::underflows_as_constant(DType half) const {
  return underflow_error(half) > kMaxUnderflowError || 2 * flushed(half) > non_zeros();
}

FloatRange range_of(const Tensor& tensor, DType rounded_to) {
  FloatRange range;
  range.add(tensor.data<float>(), static_cast<std::size_t>(tensor.count()), rounded_to);
  return range;
}

double expected_underflow_error(double root_mean_square, DType half) {
  return std::min(1.0, std::sqrt(grid_error(exponents_of(half).subnormal)) / root_mean_square);
}

double largest(DType half) { return half == DType::f16 ? 65504.0 : 0x1.fep127; }
double smallest_normal(DType half) { return half == DType::f16 ? 0x1p-14 : 0x1p-126; }

}  // namespace halfstep
