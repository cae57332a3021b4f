// Magnitude statistics of tensor elements, and whether a half type can represent them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <halfstep/base/api.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

/// Counts of f32 elements by magnitude, merged over any number of tensors.
struct FloatRange {
  /// `exponents[e]`: finite elements of magnitude [2^(e-127), 2^(e-126)); `exponents[0]`: zeros and f32's subnormals.
  std::array<std::uint64_t, 256> exponents{};
  std::uint64_t zeros = 0, infinities = 0, nans = 0;
  double max = 0;              ///< largest finite magnitude
  double min_non_zero = 0;     ///< smallest non-zero magnitude; 0 if there is none
  double squares = 0;          ///< sum of the squares of finite elements
  double rounded_squares = 0;  ///< the same for the elements rounded to the type given to `add`

  /// Adding elements in parts of a multiple of `kBlock` gives the same bits as adding them at once.
  void add(const float* elements, std::size_t count, DType rounded_to = DType::f32);
  static constexpr std::size_t kBlock = std::size_t{1} << 14;  // stays in a cache
  void add(const FloatRange& other);

  std::uint64_t count() const;
  std::uint64_t finite() const { return count() - infinities - nans; }
  std::uint64_t non_zeros() const { return finite() - zeros; }
  /// Number of finite non-zero elements below the smallest normal number of `half`.
  std::uint64_t below_normal(DType half) const;
  /// Number of elements that become zero.
  std::uint64_t flushed(DType half) const;
  /// Whether a finite element becomes infinite.
  bool overflows(DType half) const;
  /// L2 norm of the loss below the smallest normal number, relative to that of all finite elements. Estimated from the
  /// counts, with each element at the middle of its interval.
  double underflow_error(DType half) const;
  /// Whether a constant loses too much below the smallest normal number: by that error, or most of its elements.
  bool underflows_as_constant(DType half) const;

 private:
  void add_block(const float* elements, std::size_t count, DType rounded_to);
  void add_smallest(double magnitude);
};

/// The range of an f32 tensor.
FloatRange range_of(const Tensor& tensor, DType rounded_to = DType::f32);

/// Largest finite number and smallest positive normal number of f16 or bf16.
double largest(DType half);
double smallest_normal(DType half);

/// The underflow error of normally distributed elements with this root mean square.
double expected_underflow_error(double root_mean_square, DType half);

/// Limit of the underflow error. Rounding alone cannot exceed it (f16 rounds by at most 2^-11).
inline constexpr double kMaxUnderflowError = 0x1p-10;

}  // namespace halfstep
