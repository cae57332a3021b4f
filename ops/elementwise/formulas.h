// The formulas, for single numbers and text; an instruction set of vectors includes formulas-inl.h itself.
#pragma once

#include <cstdint>

#include "ops/elementwise/formula_row.h"
#include "ops/elementwise/formula_scalar.h"

#define HALFSTEP_FORMULA HALFSTEP_ANYWHERE static inline
namespace halfstep::formulas {

using ops::FormulaParameter, ops::FormulaRow;
using ops::kGeluCubic, ops::kGeluScale, ops::kInfinite, ops::kInverseSqrt2, ops::kNormalDensity;

#include "ops/elementwise/formulas-inl.h"

}  // namespace halfstep::formulas
#undef HALFSTEP_FORMULA

namespace halfstep::ops {

/// By the name that the formula has in formulas-inl.h.
enum class Formula : std::uint8_t {
#define HALFSTEP_FORMULA_ENUMERATOR(Name) Name,
  HALFSTEP_FORMULAS(HALFSTEP_FORMULA_ENUMERATOR)
#undef HALFSTEP_FORMULA_ENUMERATOR
};

constexpr FormulaRow row_of(Formula formula) {
  constexpr FormulaRow kRows[] = {
#define HALFSTEP_FORMULA_ROW(Name) formulas::Name::row,
      HALFSTEP_FORMULAS(HALFSTEP_FORMULA_ROW)
#undef HALFSTEP_FORMULA_ROW
  };
  return kRows[static_cast<std::size_t>(formula)];
}

}  // namespace halfstep::ops
