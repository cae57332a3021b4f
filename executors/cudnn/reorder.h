// Tensors in another order of elements, or in another type.
#pragma once

#include "executors/cudnn/resources.h"
#include <halfstep/executors/core/kernel.h>

namespace halfstep::cudnn {

/// A step that copies a value within the device to another layout or to another float type.
core::Made make_reorder(const core::Operand& from, const core::Operand& to, const Libraries& libraries);

/// In the host's memory.
void reorder_on_host(DType dtype, const Shape& shape, const std::byte* from, const core::Layout& from_layout,
                     std::byte* to, const core::Layout& to_layout);

}  // namespace halfstep::cudnn
