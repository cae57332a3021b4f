// Random variations of the cases of the operator table.
#pragma once

#include "conformance/cases.h"
#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// One variation of a case: which draw of which seed.
struct Draw {
  std::uint64_t seed = 0;
  std::size_t number = 0;
};

/// Case `index` of `op` with other extents (odd, one, zero), ranks, broadcasts, axes (negative ones too), element types
/// and values: a pure function of the arguments. `dtype` fixes the type that stands for f32; `undefined` leaves it to
/// the draw. `limit` bounds the elements of all inputs together. Only what the operator's schema takes and the
/// reference executor runs counts as a variation; empty when none was found in a bounded number of tries.
std::optional<ConformanceCase> draw_case(const OpDef& op, std::size_t index, const Draw& draw, DType dtype,
                                         std::int64_t limit);

/// "Relu/0/17": draw 17 of case 0.
std::string case_name(const OpDef& op, std::size_t index, const Draw& draw);

}  // namespace halfstep
