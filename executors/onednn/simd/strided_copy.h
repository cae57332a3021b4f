// Copying elements of any type from one order in memory to another.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace halfstep::simd {

/// Prepared once for given extents and steps (in elements, one an axis). Axes of extent 1 are left out, neighbours that
/// both sides walk alike are merged. Where the source lies together along one axis and the target along another one,
/// the two are copied in tiles. Otherwise the last axis is the one to walk fastest.
class StridedCopy {
 public:
  static constexpr std::size_t kMaxRank = 12;
  using Steps = std::span<const std::int64_t>;

  /// `element_bytes`: 1, 2, 4 or 8. At most kMaxRank axes.
  StridedCopy(Steps extents, Steps from, Steps to, std::size_t element_bytes);

  void operator()(const void* from, void* to) const;

 private:
  struct Axis {
    std::int64_t extent, from, to;
  };
  struct Place {
    std::int64_t from = 0, to = 0;
  };
  void find_tiles();
  /// Where the elements begin that `index` counts along the first so many axes.
  Place place_of(std::int64_t index, std::size_t axes) const;
  void row(const char* from, char* to) const;
  void copy_rows(const char* from, char* to) const;
  void copy_tiles(const char* from, char* to) const;

  std::array<Axis, kMaxRank> axes_{};  // the last one innermost
  std::size_t rank_ = 0, element_bytes_ = 0;
  std::int64_t rows_ = 1;  // of the innermost axis; 0 when there is nothing to copy
  bool tiled_ = false;  // the last two axes: along the first one the source lies together, along the second the target
};

}  // namespace halfstep::simd
