// ONNX multidirectional broadcasting of contiguous operands, prepared once for given shapes.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace halfstep::simd {

/// The result's extents and, for every operand, its step along each of them (0 where it is broadcast). Axes of extent 1
/// are left out and neighbours that every operand walks alike are merged, so that the usual cases (same shape, scalar,
/// row, column, channel) come down to one to three axes. The innermost step of an operand is 0 or 1.
class Broadcast {
 public:
  static constexpr int kMaxRank = 6;
  static constexpr int kMaxOperands = 3;
  using Extents = std::span<const std::int64_t>;

  /// Shapes of up to kMaxOperands operands, each broadcastable to `result`. A Broadcast that needs more than kMaxRank
  /// axes after merging is not `valid`.
  Broadcast(Extents result, std::initializer_list<Extents> operands);

  bool valid() const { return rank_ >= 0; }
  int operands() const { return operands_; }
  /// Elements of the result.
  std::int64_t size() const { return rows_ * inner(); }

  /// The innermost axis.
  std::int64_t inner() const { return rank_ > 0 ? extents_[rank_ - 1] : 1; }
  /// Whether operand i moves along the innermost axis (an operand that does not is a scalar there).
  bool moves(int operand) const;
  /// How many innermost rows there are, and where row r of each operand starts, in elements.
  std::int64_t rows() const { return rows_; }
  std::array<std::int64_t, kMaxOperands> row_offsets(std::int64_t row) const;

 private:
  int rank_ = 0;
  int operands_ = 0;
  std::int64_t rows_ = 1;
  std::array<std::int64_t, kMaxRank> extents_{};
  std::array<std::array<std::int64_t, kMaxRank>, kMaxOperands> steps_{};
};

}  // namespace halfstep::simd
