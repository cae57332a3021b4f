// Arrays of any float type and their comparison with results computed in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <omp.h>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

inline constexpr DType kFloats[] = {DType::f32, DType::f16, DType::bf16};
/// Around the widths of vectors and above the thresholds of parallel work.
inline constexpr std::int64_t kSizes[] = {0, 1, 3, 15, 16, 17, 63, 64, 65, 1000, 100003};

/// value rounded to the type, as a float.
inline float rounded(DType dtype, double value) {
  const auto single = static_cast<float>(value);
  if (dtype == DType::f16) return static_cast<float>(f16(single));
  if (dtype == DType::bf16) return static_cast<float>(bf16(single));
  return single;
}

/// The distance between neighbouring numbers of the type around value.
inline double spacing(DType dtype, double value) {
  const int digits = dtype == DType::f16 ? 11 : dtype == DType::bf16 ? 8 : 24;
  const int smallest = dtype == DType::f16 ? -24 : dtype == DType::bf16 ? -133 : -149;
  if (value == 0 || !std::isfinite(value)) return std::ldexp(1.0, smallest);
  return std::ldexp(1.0, std::max(std::ilogb(value) + 1 - digits, smallest));
}

/// An array of a float type with guard bytes behind it.
class Array {
 public:
  Array(DType dtype, std::int64_t n) : dtype_(dtype), n_(n), bytes_(bytes_of(dtype, size()) + kGuard, 0x5a) {}
  Array(DType dtype, const std::vector<double>& values) : Array(dtype, static_cast<std::int64_t>(values.size())) {
    for (std::size_t i = 0; i < values.size(); ++i) set(i, static_cast<float>(values[i]));
  }

  std::size_t size() const { return static_cast<std::size_t>(n_); }
  DType dtype() const { return dtype_; }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  float* floats() { return reinterpret_cast<float*>(bytes_.data()); }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }
  bool guard_intact() const {
    return std::all_of(bytes_.end() - kGuard, bytes_.end(), [](unsigned char byte) { return byte == 0x5a; });
  }

  void set(std::size_t i, float value) {
    if (dtype_ == DType::f16)
      put(i, f16(value));
    else if (dtype_ == DType::bf16)
      put(i, bf16(value));
    else
      put(i, value);
  }
  double operator[](std::size_t i) const {
    if (dtype_ == DType::f16) return static_cast<float>(get<f16>(i));
    if (dtype_ == DType::bf16) return static_cast<float>(get<bf16>(i));
    return get<float>(i);
  }

 private:
  static constexpr std::ptrdiff_t kGuard = 64;
  template <class T>
  void put(std::size_t i, T value) {
    std::memcpy(bytes_.data() + i * sizeof(T), &value, sizeof(T));
  }
  template <class T>
  T get(std::size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + i * sizeof(T), sizeof(T));
    return value;
  }

  DType dtype_;
  std::int64_t n_;
  std::vector<unsigned char> bytes_;
};

/// Uniform in [low, high], rounded to the type.
inline Array random_array(DType dtype, std::int64_t n, double low = -3, double high = 3, unsigned seed = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  Array array(dtype, n);
  for (std::size_t i = 0; i < array.size(); ++i) array.set(i, static_cast<float>(uniform(generator)));
  return array;
}

/// Some infinities, NaN, zeros, subnormal and huge numbers in place of other elements.
inline void sprinkle_specials(Array& array) {
  const float specials[] = {INFINITY, -INFINITY, NAN, 0.0F, -0.0F, 1e-40F, -6e-8F, 60000.0F, -3e38F};
  for (std::size_t i = 2, k = 0; i < array.size(); i += 7, ++k) array.set(i, specials[k % std::size(specials)]);
}

/// Whether got is within `ulps` units in the last place of f32 of want, plus the rounding to the type of `dtype`; units
/// are those around `magnitude` where that is larger (results of cancellation). Infinities and NaN must agree.
inline testing::AssertionResult close(DType dtype, double got, double want, double ulps, double magnitude = 0) {
  const double nearest = rounded(dtype, want);
  if (std::isnan(nearest) || std::isinf(nearest)) {
    if (std::isnan(nearest) ? std::isnan(got) : got == nearest) return testing::AssertionSuccess();
  } else {
    const double around = std::max(std::abs(want), std::isfinite(magnitude) ? std::abs(magnitude) : 0.0);
    const double rounding = dtype == DType::f32 ? 0 : 0.5 * spacing(dtype, want);
    if (std::abs(got - want) <= ulps * spacing(DType::f32, around) + rounding) return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << name_of(dtype) << ": got " << got << ", want " << want;
}

/// The result of body() is the same bytes with 1, 2 and 5 threads.
template <class Body>
auto with_any_threads(const Body& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto alone = body();
  for (const int threads : {2, 5}) {
    omp_set_num_threads(threads);
    EXPECT_TRUE(body() == alone) << "with " << threads << " threads";
  }
  omp_set_num_threads(before);
  return alone;
}

}  // namespace halfstep::simd
