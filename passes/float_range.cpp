#include "passes/float_range.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

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

// Of the finite elements.
double sum_of_squares(const float* elements, std::size_t n) {
  std::array<double, 8> sums{};
  std::size_t i = 0;
  for (; i + sums.size() <= n; i += sums.size())
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += static_cast<double>(elements[i + k]) * elements[i + k];
  for (; i < n; ++i) sums[0] += static_cast<double>(elements[i]) * elements[i];
  const double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
  if (std::isfinite(sum)) return sum;
  return std::accumulate(elements, elements + n, 0.0, [](double total, float x) {
    return std::isfinite(x) ? total + static_cast<double>(x) * x : total;
  });
}

std::uint64_t count_below(const FloatRange& range, int exponent) {
  const int end = std::clamp(exponent + kBias, 0, 255);
  const auto first = range.exponents.begin();
  return std::accumulate(first, first + end, std::uint64_t{0}) - (end > 0 ? range.zeros : 0);
}

}  // namespace

void FloatRange::add(const float* elements, std::size_t n) {
  // Several tables, so that runs of equal exponents do not wait for one counter.
  std::array<std::array<std::uint32_t, 256>, 4> counts;
  std::uint32_t most = 0, least = kMagnitude;
  constexpr std::size_t kBlock = std::size_t{1} << 14;  // stays in a cache
  for (std::size_t start = 0; start < n; start += kBlock) {
    for (auto& table : counts) table.fill(0);
    const std::size_t end = std::min(n, start + kBlock);
    squares += sum_of_squares(elements + start, end - start);
    for (std::size_t i = start; i < end; ++i) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(elements[i]) & kMagnitude;
      ++counts[i & 3][bits >> 23];
      most = std::max(most, bits < kInfinity ? bits : 0);
      least = std::min(least, bits - 1);  // zero wraps around to the largest
    }
    for (const auto& table : counts)
      for (std::size_t e = 0; e < table.size(); ++e) exponents[e] += table[e];
  }
  const std::uint64_t special = exponents[255], small = exponents[0];
  exponents[255] = 0;
  if (special > 0)
    for (std::size_t i = 0; i < n; ++i) (std::isnan(elements[i]) ? nans : infinities) += !std::isfinite(elements[i]);
  if (small > 0) zeros += static_cast<std::uint64_t>(std::count(elements, elements + n, 0.0f));
  max = std::max(max, static_cast<double>(std::bit_cast<float>(most)));
  if (least + 1 < kInfinity && least != kMagnitude) {
    const double low = std::bit_cast<float>(least + 1);
    min_non_zero = min_non_zero == 0 ? low : std::min(min_non_zero, low);
  }
}

void FloatRange::add(const FloatRange& other) {
  for (std::size_t e = 0; e < exponents.size(); ++e) exponents[e] += other.exponents[e];
  zeros += other.zeros;
  infinities += other.infinities;
  nans += other.nans;
  max = std::max(max, other.max);
  squares += other.squares;
  if (min_non_zero == 0 || (other.min_non_zero != 0 && other.min_non_zero < min_non_zero))
    min_non_zero = other.min_non_zero;
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
    const auto n = static_cast<double>(exponents[static_cast<std::size_t>(e)] - (e == 0 ? zeros : 0));
    const double energy = n * std::pow(1.5 * std::exp2(e - kBias), 2);
    total += energy;
    if (e - kBias < subnormal - 1)
      lost += energy;
    else if (e - kBias < normal)
      lost += std::min(energy, n * grid_error(subnormal));
  }
  return total > 0 ? std::sqrt(lost / total) : 0;
}

FloatRange range_of(const Tensor& tensor) {
  FloatRange range;
  range.add(tensor.data<float>(), static_cast<std::size_t>(tensor.count()));
  return range;
}

double expected_underflow_error(double root_mean_square, DType half) {
  return std::min(1.0, std::sqrt(grid_error(exponents_of(half).subnormal)) / root_mean_square);
}

double largest(DType half) { return half == DType::f16 ? 65504.0 : 0x1.fep127; }
double smallest_normal(DType half) { return half == DType::f16 ? 0x1p-14 : 0x1p-126; }

}  // namespace halfstep
