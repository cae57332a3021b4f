// Index maps for strided operands, and the step from a DType to a C++ type of the device.
#pragma once

#include <span>
#include <vector>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/kernels/index.h"
#include <halfstep/base/visit.h>

namespace halfstep::cudnn {

/// Elements an operand of shape `operand` steps over along each axis of `result`, to which it is broadcast.
std::vector<std::int64_t> broadcast_steps(const Shape& operand, const Shape& result);

/// One map for each operand: axes of extent 1 dropped, neighbours merged wherever every operand allows it.
/// Empty when more than Index::kMaxRank axes remain.
std::vector<Index> collapse(std::span<const std::int64_t> extents, std::span<const std::vector<std::int64_t>> steps);

/// Whether every element is read once, in order.
bool is_contiguous(const Index& index);

/// f.operator()<T>() for a float type of the device; a refusal for any other.
template <class F>
Made visit_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::bf16:
      return f.template operator()<bf16>();
    default:
      return refuse("own kernels compute f32, f16 and bf16, not " + std::string(name_of(dtype)));
  }
}

}  // namespace halfstep::cudnn
