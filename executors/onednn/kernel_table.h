// Which kernels there are for an operator.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include <halfstep/executors/core/kernel_row.h>
#include <halfstep/graph/capabilities.h>

namespace halfstep::onednn {

std::vector<core::KernelRow> kernel_table();

/// What kernels of the table do together.
std::vector<Fusion> fusions();

}  // namespace halfstep::onednn
