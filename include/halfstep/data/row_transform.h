// Conversion of the rows of a data set to the types and shapes of the model.
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

/// Changes of the position of the channel axis in an image row.
enum class LayoutChange {
  automatic,     ///< moved if only that makes the shapes equal: [32, 32, 3] to [3, 32, 32]
  none,          ///< not moved
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
  std::optional<std::int64_t> ignore_index = {};  ///< this class index is allowed, too
};

/// A conversion of rows, determined once and applied to every batch.
struct RowTransform {
  RowType from, to;
  bool is_copy = false;  ///< only a copy of the bytes
  /// Converts rows.size() rows from `in` to `out`. `rows` are their numbers in the data set, for errors.
  /// Throws Error if a value cannot be represented (or, for class indices, is out of range). Does not allocate.
  std::function<void(const void* in, std::span<const std::int64_t> rows, void* out)> apply;
};

/// Converts rows of `x` for an input of a model. Float rows are converted and scaled; integer rows must be exactly
/// representable. A row fits if the shapes are equal, differ only in axes of extent 1, one of them is flat with the
/// same number of elements, or the channel axis moves. Extents of `wanted` that are Shape::kUnknown are taken from the
/// data. Throws Error naming both shapes if it does not fit.
RowTransform fit_input(const DataArray& x, const RowType& wanted, const InputOptions& options = {});

/// Converts rows of `y` for a loss, without scaling:
/// - wanted integer: class indices, [], [L], …;
/// - wanted float of the data's shape: values (regression, or one-hot labels of the file);
/// - wanted float [..., C] of integer data [...]: converted to one-hot rows.
/// Axes of extent 1 and unknown extents are handled as in `fit_input`. For targets that are images use `fit_input`.
RowTransform fit_target(const DataArray& y, const RowType& wanted, const TargetOptions& options = {});

/// Converts non-negative weights, without scaling: one per row, or one per label, whose shape in a row is `labels`.
/// Throws Error for other shapes; `apply` throws for a negative weight.
RowTransform fit_weights(const DataArray& weights, const Shape& labels);

}  // namespace halfstep
