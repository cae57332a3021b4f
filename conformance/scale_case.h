// The cases of the operator table with extents beyond the widths of vectors and tiles.
#pragma once

#include <array>

#include "conformance/cases.h"

namespace halfstep {

/// Extents to try in place of a case's own, largest first.
struct Scale {
  std::string_view name;
  std::array<std::int64_t, 4> extents;
};
/// Multiples of the widths that kernels work in, and what is a multiple of none.
inline constexpr Scale kScales[] = {{"large", {256, 96, 48, 24}}, {"odd", {257, 67, 35, 19}}};

/// "Relu/0/large"
std::string case_name(const OpDef& op, std::size_t index, const Scale& scale);

/// Case `index` of `op` in `dtype` with as many of its extents in place of others as the operator allows, within 2^14
/// elements of all inputs together; equal extents stay equal. Allowed is what the schema takes and the reference
/// executor runs. Empty when nothing is.
std::optional<ConformanceCase> scale_case(const OpDef& op, std::size_t index, DType dtype, const Scale& scale);

}  // namespace halfstep
