// The formula of an epilogue.
#pragma once

#include <optional>

#include "ops/elementwise/formulas.h"
#include "ops/epilogue.h"

namespace halfstep::ops {

/// Its parameters are min and max, if it has any; empty for Kind::none.
inline std::optional<Formula> formula_of(const Epilogue& epilogue) {
  using Kind = Epilogue::Kind;
  switch (epilogue.kind) {
    case Kind::none:
      return std::nullopt;
    case Kind::relu:
      return Formula::Relu;
    case Kind::clip:
      return Formula::Clip;
    case Kind::gelu:
      return Formula::Gelu;
    case Kind::gelu_tanh:
      return Formula::GeluTanh;
  }
  return std::nullopt;
}

}  // namespace halfstep::ops
