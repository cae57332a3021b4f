// Where the memory of a program under construction goes.
#pragma once

#include <vector>

#include <halfstep/executors/core/assembly.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/executors/unread_inputs.h>

namespace halfstep::core {

/// A program that can tell what `memory_of` and `unread_inputs` ask.
class MeasuredProgram {
 public:
  virtual ~MeasuredProgram() = default;
  virtual const MemoryUse& memory() const = 0;
  virtual UnreadInputs unread() const { return {}; }
};

/// Adds what a state takes to the category of its role.
void add_state(MemoryUse& use, StateRole role, std::size_t bytes);

/// `lifetimes`, of each buffer, count the steps of the assembly, which is complete; those of buffers that do not lie in
/// the arena have no bytes.
MemoryUse memory_use(Assembly& assembly, const std::vector<Lifetime>& lifetimes, const Arena& arena);

}  // namespace halfstep::core
