// What the values of labels are like: for choosing a loss where nobody has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <halfstep/formats/data_array.h>

namespace halfstep {

struct LabelSummary {
  bool zero_or_one = true;          ///< no other value occurs
  bool zero_one_or_ignored = true;  ///< the same, but for the ignored label
  bool any_zero = false, any_one = false;
  bool from_zero_to_one = true;           ///< no value outside of [0, 1] was met
  std::int64_t ignored = 0, others = 0;   ///< how many are the ignored label, and are not
  bool complete = true;                   ///< all labels were looked at
  std::vector<std::size_t> one_hot_axes;  ///< those along which exactly one element is 1 and the others are 0
};

/// Of labels whose rows are read as `row` (of as many elements), for some of its axes. Looks at no more than 2^26
/// elements, and where there are axes to look along stops at the first value that is neither 0, 1 nor ignored. Throws
/// Error where an element is NaN or infinite.
LabelSummary summarize_labels(const DataArray& labels, const Shape& row, const std::vector<std::size_t>& axes,
                              std::int64_t ignored);

}  // namespace halfstep
