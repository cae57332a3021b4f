// Operands that kernels do not read.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// By node name, the positions of the inputs that its kernel does not read; nodes whose kernels read all inputs are
/// missing. A gradient kernel that recomputes what it needs, for example, does not read a result of the forward pass.
using UnreadInputs = std::map<std::string, std::vector<std::size_t>>;

/// Empty if the executor does not report it.
UnreadInputs unread_inputs(const Program& program);

}  // namespace halfstep
