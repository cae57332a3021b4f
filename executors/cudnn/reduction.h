// Sums for makers of other operators.
#pragma once

#include "executors/cudnn/row_text.h"

namespace halfstep::cudnn {

/// The sum of each row of f32, f16 or bf16, in f32, rounded to `result`.
RowFunction sum_function(DType element, DType result);

}  // namespace halfstep::cudnn
