#include "executors/onednn/simd/strided_copy.h"

#include <algorithm>
#include <cstring>

#include "executors/onednn/simd/parallel.h"
#include "executors/onednn/simd/transpose.h"

namespace halfstep::simd {
namespace {

template <class T>
void copy_row(const char* from, std::int64_t from_step, char* to, std::int64_t to_step, std::int64_t n) {
  const T* source = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (std::int64_t i = 0; i < n; ++i) target[i * to_step] = source[i * from_step];
}

constexpr std::int64_t kTile = 32;

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
  find_tiles();
  for (std::size_t i = 0; i + 1 < rank_; ++i) rows_ *= axes_[i].extent;
}

void StridedCopy::find_tiles() {
  Axis *const begin = axes_.data(), *const end = begin + rank_;
  Axis* const source = std::find_if(begin, end, [](const Axis& axis) { return axis.from == 1; });
  Axis* const target = std::find_if(begin, end, [](const Axis& axis) { return axis.to == 1; });
  tiled_ = source != end && target != end && source != target && source->to > 0 && target->from > 0;
  if (!tiled_) return;
  const Axis columns = *source, rows = *target;
  for (Axis* axis : {std::max(source, target), std::min(source, target)}) std::rotate(axis, axis + 1, end);
  axes_[rank_ - 2] = columns;
  axes_[rank_ - 1] = rows;
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

StridedCopy::Place StridedCopy::place_of(std::int64_t index, std::size_t axes) const {
  Place place;
  for (std::size_t i = axes; i-- > 0;) {
    const std::int64_t along = index % axes_[i].extent;
    index /= axes_[i].extent;
    place.from += along * axes_[i].from;
    place.to += along * axes_[i].to;
  }
  return place;
}

void StridedCopy::copy_rows(const char* from, char* to) const {
  const auto size = static_cast<std::int64_t>(element_bytes_);
  // A share of work is a run of rows: about 8192 elements.
  const std::int64_t group = std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, axes_[rank_ - 1].extent));
  const std::int64_t bytes = 2 * rows_ * axes_[rank_ - 1].extent * size;
  parallel_for(blocks_of(rows_, group), bytes, [&](std::int64_t block) {
    const std::int64_t end = std::min(rows_, (block + 1) * group);
    for (std::int64_t r = block * group; r < end; ++r) {
      const Place place = place_of(r, rank_ - 1);
      row(from + place.from * size, to + place.to * size);
    }
  });
}

void StridedCopy::copy_tiles(const char* from, char* to) const {
  const auto size = static_cast<std::int64_t>(element_bytes_);
  const Axis &columns = axes_[rank_ - 2], &rows = axes_[rank_ - 1];
  const std::int64_t planes = rows_ / columns.extent, strips = blocks_of(columns.extent, kTile);
  // A share of work is a strip of columns of one plane.
  parallel_for(planes * strips, 2 * rows_ * rows.extent * size, [&](std::int64_t block) {
    const Place place = place_of(block / strips, rank_ - 2);
    const std::int64_t first = block % strips * kTile, width = std::min(kTile, columns.extent - first);
    const char* source = from + (place.from + first) * size;
    char* target = to + (place.to + first * columns.to) * size;
    for (std::int64_t i = 0; i < rows.extent; i += kTile) {
      transpose(element_bytes_, source + i * rows.from * size, rows.from, target + i * size, columns.to, width,
                std::min(kTile, rows.extent - i));
    }
  });
}

void StridedCopy::operator()(const void* from, void* to) const {
  if (rows_ == 0) return;
  const auto* source = static_cast<const char*>(from);
  tiled_ ? copy_tiles(source, static_cast<char*>(to)) : copy_rows(source, static_cast<char*>(to));
}

}  // namespace halfstep::simd
