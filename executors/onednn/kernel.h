// Kernels that are oneDNN primitives.
#pragma once

#include <cstddef>
#include <vector>

#include "executors/onednn/layout.h"
#include <halfstep/executors/core/kernel_context.h>
#include <halfstep/executors/core/kernel_row.h>

namespace halfstep::onednn {

using core::Bind;
using core::BufferId;
using core::ForwardRecord;
using core::in_sequence;
using core::KernelContext;
using core::kNoBuffer;
using core::Made;
using core::Memory;
using core::Operand;
using core::refuse;
using core::Run;

inline Desc desc_of(const Operand& operand) { return desc_of(operand.layout, operand.shape, operand.dtype); }
/// The same memory under other extents; the layout must be row-major or have just these extents.
inline Desc desc_of(const Operand& operand, const Dims& dims) {
  return operand.layout.is_row_major() ? row_major(dims, operand.dtype) : desc_of(operand);
}

/// One argument of a oneDNN primitive: DNNL_ARG_*, its descriptor, and where it lies (`offset` bytes into a buffer).
struct Argument {
  int index;
  Desc desc;
  BufferId buffer;
  std::size_t offset = 0;
};

/// Executes a primitive with these arguments; ones without a buffer, or with an empty descriptor, are left out. Its
/// stream is its own, so that several threads may each run one.
Bind bind_primitive(dnnl::primitive primitive, std::vector<Argument> arguments);

}  // namespace halfstep::onednn
