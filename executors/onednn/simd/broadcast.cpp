#include "executors/onednn/simd/broadcast.h"

#include <cstddef>
#include <utility>

namespace halfstep::simd {

Broadcast::Broadcast(Extents result, std::initializer_list<Extents> operands)
    : operands_(static_cast<int>(operands.size())) {
  if (operands_ > kMaxOperands) {
    rank_ = -1;
    return;
  }
  // From the innermost axis outwards, into arrays in that order, turned round at the end.
  std::array<std::int64_t, kMaxOperands> stride;
  stride.fill(1);
  int rank = 0;
  for (std::size_t back = 1; back <= result.size(); ++back) {
    const std::int64_t extent = result[result.size() - back];
    std::array<std::int64_t, kMaxOperands> step{};
    std::size_t i = 0;
    for (const Extents& shape : operands) {
      const std::int64_t own = back <= shape.size() ? shape[shape.size() - back] : 1;
      step[i] = own == 1 ? 0 : stride[i];
      stride[i] *= own;
      ++i;
    }
    if (extent == 1) continue;
    bool merges = rank > 0;
    for (i = 0; merges && i < operands.size(); ++i) {
      const auto inner = static_cast<std::size_t>(rank - 1);
      merges = step[i] == steps_[i][inner] * extents_[inner];
    }
    if (merges) {
      extents_[rank - 1] *= extent;
      continue;
    }
    if (rank == kMaxRank) {
      rank_ = -1;
      return;
    }
    extents_[rank] = extent;
    for (i = 0; i < operands.size(); ++i) steps_[i][rank] = step[i];
    ++rank;
  }
  rank_ = rank;
  for (std::size_t low = 0, high = static_cast<std::size_t>(rank); low + 1 < high; ++low) {
    --high;
    std::swap(extents_[low], extents_[high]);
    for (auto& steps : steps_) std::swap(steps[low], steps[high]);
  }
  for (int axis = 0; axis + 1 < rank; ++axis) rows_ *= extents_[axis];
}

bool Broadcast::moves(int operand) const { return rank_ > 0 && steps_[operand][rank_ - 1] != 0; }

std::array<std::int64_t, Broadcast::kMaxOperands> Broadcast::row_offsets(std::int64_t row) const {
  std::array<std::int64_t, kMaxOperands> offsets{};
  for (int axis = rank_ - 2; axis >= 0; --axis) {
    const auto a = static_cast<std::size_t>(axis);
    const std::int64_t outer = axis > 0 ? row / extents_[a] : 0;
    const std::int64_t index = row - outer * extents_[a];
    for (std::size_t i = 0; i < kMaxOperands; ++i) offsets[i] += index * steps_[i][a];
    row = outer;
  }
  return offsets;
}

}  // namespace halfstep::simd
