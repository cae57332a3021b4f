// A program that reports the cost and the time of each entry of its plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/cost.h>

namespace HALFSTEP_API halfstep {

enum class EntryKind : std::uint8_t {
  kernel,      ///< a kernel of the executor
  reference,   ///< the reference kernel of the operator table
  fused,       ///< a node that is computed by another node's kernel
  view,        ///< nothing to run: the result is a view of the operand
  conversion,  ///< a copy to another layout, type or space, for a node or at the end of a step
};

/// Further facts about an entry of a plan.
struct EntryFacts {
  EntryKind kind = EntryKind::kernel;
  std::string made_for = {};  ///< of a conversion: the node's name; empty at the end of a step
  /// Including the nodes that are fused into it; none if there is nothing to run.
  Cost cost = {};
  DType computed = DType::undefined;  ///< type of its operands; see computed_type
};

/// Time of an entry, in seconds from the start of an execution; 0 and 0 if there is nothing to run.
struct EntryTime {
  double start = 0, seconds = 0;
};

/// The type of programs compiled by this library's executors, and by plug-ins based on core::Backend.
class TimedProgram : public Program {
 public:
  /// For each entry of the plan.
  virtual const std::vector<EntryFacts>& facts() const = 0;
  /// Runs one execution on the present inputs, timing each entry separately; states are updated as in `run`.
  virtual std::vector<EntryTime> run_timed() = 0;
};

}  // namespace halfstep
