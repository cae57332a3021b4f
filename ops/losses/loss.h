// Label checks shared by the loss kernels of every executor.
#pragma once

#include <cstdint>
#include <optional>

#include <halfstep/graph/tensor.h>

namespace halfstep::ops {

/// Throws Error unless every label is in [0, classes) or `ignored`. Allocates nothing for i32 and i64.
void check_labels(const Tensor& labels, std::int64_t classes, std::optional<std::int64_t> ignored);

}  // namespace halfstep::ops
