#include "executors/onednn/simd/strided_copy.h"

#include <algorithm>
#include <cstring>

#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {
namespace {

template <class T>
void copy_row(const char* from, std::int64_t from_step, char* to, std::int64_t to_step, std::int64_t n) {
  const T* source = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (std::int64_t i = 0; i < n; ++i) target[i * to_step] = source[i * from_step];
}

}  // namespace

StridedCopy::StridedCopy(Steps extents, Steps from, Steps to, std::size_t element_bytes)
    : element_bytes_(element_bytes) {
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const Axis axis{extents[i], from[i], to[i]};
    if (axis.extent == 0) rows_ = 0;
    if (axis.extent == 1) continue;
    Axis* outer = rank_ > 0 ? &axes_[rank_ - 1] : nullptr;
    if (outer && outer->from == axis.from * axis.extent && outer->to == axis.to * axis.extent)
      *outer = {outer->extent * axis.extent, axis.from, axis.to};
    else
      axes_[rank_++] = axis;
  }
  if (rank_ == 0) axes_[rank_++] = {1, 1, 1};
  for (std::size_t i = 0; i + 1 < rank_; ++i) rows_ *= axes_[i].extent;
}

void StridedCopy::row(const char* from, char* to) const {
  const Axis& axis = axes_[rank_ - 1];
  if (axis.from == 1 && axis.to == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(axis.extent) * element_bytes_);
    return;
  }
  switch (element_bytes_) {
    case 1:
      return copy_row<std::uint8_t>(from, axis.from, to, axis.to, axis.extent);
    case 2:
      return copy_row<std::uint16_t>(from, axis.from, to, axis.to, axis.extent);
    case 4:
      return copy_row<std::uint32_t>(from, axis.from, to, axis.to, axis.extent);
    default:
      return copy_row<std::uint64_t>(from, axis.from, to, axis.to, axis.extent);
  }
}

void StridedCopy::operator()(const void* from, void* to) const {
  const auto size = static_cast<std::int64_t>(element_bytes_);
  // A share of work is a run of rows: about 8192 elements.
  const std::int64_t group = std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, axes_[rank_ - 1].extent));
  const std::int64_t bytes = 2 * rows_ * axes_[rank_ - 1].extent * size;
  parallel_for(blocks_of(rows_, group), bytes, [&](std::int64_t block) {
    const std::int64_t end = std::min(rows_, (block + 1) * group);
    for (std::int64_t r = block * group; r < end; ++r) {
      std::int64_t source = 0, target = 0, rest = r;
      for (std::size_t i = rank_ - 1; i-- > 0;) {
        const std::int64_t index = rest % axes_[i].extent;
        rest /= axes_[i].extent;
        source += index * axes_[i].from;
        target += index * axes_[i].to;
      }
      row(static_cast<const char*>(from) + source * size, static_cast<char*>(to) + target * size);
    }
  });
}

}  // namespace halfstep::simd
