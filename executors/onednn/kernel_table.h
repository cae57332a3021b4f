// Which kernels there are for an operator.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include <halfstep/executors/core/kernel_row.h>

namespace halfstep::onednn {

std::vector<core::KernelRow> kernel_table();

/// Operators of ai.halfstep with kernels of their own.
std::span<const std::string_view> fused_operators();

}  // namespace halfstep::onednn
