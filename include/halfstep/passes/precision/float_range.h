// How large and how small the elements of a tensor are, and whether a half type can hold them.
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
  double min_non_zero = 0;     ///< smallest magnitude that is not zero; 0 when there is none
  double squares = 0;          ///< sum of the squares of finite elements
  double rounded_squares = 0;  ///< the same, of the elements as they are in the type `add` was told

  /// Elements added in parts of a multiple of `kBlock` give the same bits as if added at once.
  void add(const float* elements, std::size_t count, DType rounded_to = DType::f32);
  static constexpr std::size_t kBlock = std::size_t{1} << 14;  // stays in a cache
  void add(const FloatRange& other);

  std::uint64_t count() const;
  std::uint64_t finite() const { return count() - infinities - nans; }
  std::uint64_t non_zeros() const { return finite() - zeros; }
  /// Finite elements that are not zero and smaller than the smallest normal number of `half`.
  std::uint64_t below_normal(DType half) const;
  /// Those that become zero.
  std::uint64_t flushed(DType half) const;
  /// A finite element becomes infinite.
  bool overflows(DType half) const;
  /// L2 norm of what is lost below the smallest normal number, relative to that of all finite elements. Estimated from
  /// the counts: elements are taken as the middle of their interval.
  double underflow_error(DType half) const;
  /// What a constant loses below the smallest normal number is too much: that error, or most of its elements.
  bool underflows_as_constant(DType half) const;

 private:
  void add_block(const float* elements, std::size_t count, DType rounded_to);
  void add_smallest(double magnitude);
};

/// The range of an f32 tensor.
FloatRange range_of(const Tensor& tensor, DType rounded_to = DType::f32);

/// Largest finite number of f16 or bf16; smallest positive normal one.
double largest(DType half);
double smallest_normal(DType half);

/// The underflow error of normally distributed elements of this root mean square.
double expected_underflow_error(double root_mean_square, DType half);

/// An underflow error above this is one that rounding alone cannot cause (f16 rounds by 2^-11 at most).
inline constexpr double kMaxUnderflowError = 0x1p-10;

}  // namespace halfstep
