#include "executors/cudnn/indexing.h"

#include <algorithm>

namespace halfstep::cudnn {

std::vector<std::int64_t> broadcast_steps(const Shape& operand, const Shape& result) {
  std::vector<std::int64_t> steps(result.rank(), 0);
  const std::vector<std::int64_t> own = operand.strides();
  const std::size_t missing = result.rank() - operand.rank();
  for (std::size_t axis = 0; axis < operand.rank(); ++axis)
    if (operand[axis] != 1) steps[axis + missing] = own[axis];
  return steps;
}

std::vector<Index> collapse(std::span<const std::int64_t> extents, std::span<const std::vector<std::int64_t>> steps) {
  std::vector<std::int64_t> kept;  // extents of the merged axes
  std::vector<std::vector<std::int64_t>> kept_steps(steps.size());
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    if (extents[axis] == 1) continue;
    bool merges = !kept.empty();
    for (std::size_t k = 0; merges && k < steps.size(); ++k)
      merges = kept_steps[k].back() == steps[k][axis] * extents[axis];
    if (merges) {
      kept.back() *= extents[axis];
      for (std::size_t k = 0; k < steps.size(); ++k) kept_steps[k].back() = steps[k][axis];
    } else {
      kept.push_back(extents[axis]);
      for (std::size_t k = 0; k < steps.size(); ++k) kept_steps[k].push_back(steps[k][axis]);
    }
  }
  if (kept.size() > Index::kMaxRank) return {};
  std::vector<Index> maps(steps.size());
  for (std::size_t k = 0; k < steps.size(); ++k) {
    maps[k].rank = static_cast<int>(kept.size());
    std::ranges::copy(kept, maps[k].extents);
    std::ranges::copy(kept_steps[k], maps[k].steps);
  }
  return maps;
}

bool is_contiguous(const Index& index) { return index.rank == 0 || (index.rank == 1 && index.steps[0] == 1); }

}  // namespace halfstep::cudnn
