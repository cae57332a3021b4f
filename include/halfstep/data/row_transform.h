// From rows as the data set holds them to rows as the model takes them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>

namespace HALFSTEP_API halfstep {

/// Where the channel axis of an image row goes.
enum class LayoutChange {
  automatic,     ///< moved when only that makes the shapes equal: [32, 32, 3] to [3, 32, 32]
  none,          ///< stays
  nhwc_to_nchw,  ///< from last to first
  nchw_to_nhwc,  ///< from first to last
};
std::string_view name_of(LayoutChange layout);
/// "auto", "keep", "nhwc-to-nchw", "nchw-to-nhwc"; throws Error(input) for anything else.
LayoutChange parse_layout(std::string_view name);

/// value → (value * scale - mean) / stddev, for float inputs.
struct InputOptions {
  std::optional<double> scale = {};            ///< unset: 1/255 for u8, else 1
  std::vector<double> mean = {}, stddev = {};  ///< empty (0 and 1), one for all, or one per channel
  LayoutChange layout = LayoutChange::automatic;
};

struct TargetOptions {
  std::optional<std::int64_t> classes = {};       ///< class indices must lie in [0, classes)
  bool probabilities = false;                     ///< values must lie in [0, 1]
  std::optional<std::int64_t> ignore_index = {};  ///< except this one
};

/// A conversion of rows, chosen once and applied to every batch.
struct RowTransform {
  RowType from, to;
  bool is_copy = false;  ///< nothing but a copy of the bytes
  /// Converts rows.size() rows of `in` to `out`. `rows` are their numbers in the data set, for errors.
  /// Throws Error when a value cannot be represented (or, for class indices, is out of range). Does not allocate.
  std::function<void(const void* in, std::span<const std::int64_t> rows, void* out)> apply;
};

/// Rows of `x` as a model's input takes them. Float rows are converted and scaled; integer rows must be exactly
/// representable. A row fits when the shapes are equal, differ in axes of extent 1 only, one of them is flat with as
/// many elements, or the channel axis moves. Extents of `wanted` that are Shape::kUnknown are taken from the data.
/// Throws Error naming both shapes when it does not fit.
RowTransform fit_input(const DataArray& x, const RowType& wanted, const InputOptions& options = {});

/// Rows of `y` as a loss takes them, never scaled:
/// - wanted integer: class indices, [], [L], …;
/// - wanted float of the data's shape: values (regression, or one-hot as the file has it);
/// - wanted float [..., C] of integer data [...]: one-hot rows are made.
/// Axes of extent 1 and unknown extents as in `fit_input`, which is the one to use for targets that are images.
RowTransform fit_target(const DataArray& y, const RowType& wanted, const TargetOptions& options = {});

/// Rows of weights, from 0 on, never scaled: one for each row, or one for each of its labels, whose shape in a row is
/// `labels`. Throws Error when they are neither; `apply` throws for one that is below 0.
RowTransform fit_weights(const DataArray& weights, const Shape& labels);

}  // namespace halfstep
