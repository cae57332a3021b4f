// The kernel of a node: which makers are asked, and what the plan and the profile say of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "executors/core/collective_kernels.h"
#include <halfstep/executors/core/assembly.h>
#include <halfstep/executors/core/kernel_row.h>
#include <halfstep/executors/timed_program.h>
#include <halfstep/executors/unread_inputs.h>

namespace halfstep::core {

/// Appends the steps of a node of `assembly`, the `position`th of its schedule, with their facts: of the first kernel
/// that is made. Returns false when even the reference has no such operator.
bool compile_node(Assembly& assembly, const std::vector<KernelRow>& table, CollectiveKernels& collective,
                  std::size_t index, std::int32_t position, std::vector<bool>& absorbed, std::vector<EntryFacts>& facts,
                  UnreadInputs& unread);

/// Adds the facts of all steps that have none yet: they convert.
void add_conversion_facts(Assembly& assembly, const std::string& made_for, std::vector<EntryFacts>& facts);

}  // namespace halfstep::core
