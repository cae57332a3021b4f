// The formula of an epilogue.
#pragma once

#include <optional>

#include "ops/elementwise/formulas.h"
#include "ops/epilogue.h"

namespace halfstep::ops {

/// Its parameters are min and max, if it has any; empty for Kind::none.
inline std::optional<Formula> formula_of(const Epilogue& epilogue) {
  constexpr std::optional<Formula> kFormulas[] = {std::nullopt, Formula::Relu, Formula::Clip, Formula::Gelu,
                                                  Formula::GeluTanh};  // in the order of the kinds
  return kFormulas[static_cast<std::size_t>(epilogue.kind)];
}

}  // namespace halfstep::ops
