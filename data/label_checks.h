// What labels and sample weights of rows have to be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "data/row_conversion.h"

namespace halfstep {

// Each is `convert`, followed by a check of what it gives, whose errors tell the row of `name`. `count` is of the
// elements of a row.

/// Integers of the type `to` are class indices.
ApplyRows with_range_check(ApplyRows convert, const std::string& name, const RowType& to, const TargetOptions& options);
/// Floats are probabilities, or `ignored`.
ApplyRows with_probability_check(ApplyRows convert, const std::string& name, std::size_t count,
                                 std::optional<std::int64_t> ignored);
/// Floats are sample weights.
ApplyRows with_weight_check(ApplyRows convert, const std::string& name, std::size_t count);

}  // namespace halfstep
