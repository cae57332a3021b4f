// What becomes of zeros in a formula.
#pragma once

#include "ops/elementwise/formula.h"

namespace halfstep::onednn {

/// Whether f(0, s) = 0 for every finite s but 0, of a formula of two operands on floats, as its instructions tell:
/// false also where only arithmetic shows it.
bool keeps_zero_beside_scalar(const ops::FormulaDef& def);

}  // namespace halfstep::onednn
