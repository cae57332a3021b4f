// The loops that convert rows from one element type to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <halfstep/data/row_transform.h>

namespace halfstep {

using RowNumbers = std::span<const std::int64_t>;
using ApplyRows = decltype(RowTransform::apply);

/// A row as `channels` planes of `extent` elements, with the strides in memory before and after the conversion.
struct RowGeometry {
  std::size_t channels = 1, extent = 1;
  std::size_t in_channel_step = 0, in_step = 1;
  std::size_t out_channel_step = 0, out_step = 1;

  std::size_t count() const { return channels * extent; }
};

/// value * multiplier + offset, with one pair for all or one per channel.
struct RowScale {
  std::vector<double> multiplier{1}, offset{0};

  bool is_identity() const { return channels() == 1 && multiplier[0] == 1 && offset[0] == 0; }
  std::size_t channels() const { return multiplier.size(); }
};

/// A conversion of rows independent of element types, so that only its loops are instantiated for each pair of
/// types.
struct RowConversion {
  std::string name;  // of the data
  RowType to;
  RowGeometry geometry = {};
  RowScale affine = {};
};
using ConvertRows = void (*)(const RowConversion&, const void* in, RowNumbers rows, void* out);

ApplyRows applying(ConvertRows convert, RowConversion conversion);

/// To floats scaled and of finite results; to integers and bools from exactly such values.
ConvertRows conversion_of(DType from, DType to);
/// From class indices to rows of floats, with the length of the last axis of `to`. Null for other types.
ConvertRows one_hot_conversion(DType from, DType to);

[[noreturn]] void throw_at_row(const std::string& name, std::int64_t row, const std::string& required,
                               const std::string& found);

}  // namespace halfstep
