// Operands that kernels do without.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// Inputs, by position, that a node's kernel does not read, by the node's name; nodes whose kernels read all are
/// missing. A gradient that computes again what it needs leaves a result of the forward pass unread.
using UnreadInputs = std::map<std::string, std::vector<std::size_t>>;

/// Empty if the executor does not report it.
UnreadInputs unread_inputs(const Program& program);

}  // namespace halfstep
