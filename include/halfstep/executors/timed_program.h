// A program that can tell what each entry of its plan costs and how long it takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/cost.h>

namespace HALFSTEP_API halfstep {

enum class EntryKind : std::uint8_t {
  kernel,      ///< of the executor's own
  reference,   ///< the operator table's kernel
  fused,       ///< a node that the kernel of another computes along
  view,        ///< nothing has to run: the result is another name of the operand
  conversion,  ///< a copy to another layout, type or space, for a node or at the end of a step
};

/// What more there is to say of an entry of a plan.
struct EntryFacts {
  EntryKind kind = EntryKind::kernel;
  std::string made_for = {};  ///< of a conversion the node, by name; empty at the end of a step
  /// Of all that it computes, the nodes that are fused into it included; none where nothing has to run.
  Cost cost = {};
  DType computed = DType::undefined;  ///< type of its operands; see computed_type
};

/// When an entry ran, in seconds from the start of an execution; 0 and 0 where nothing has to run.
struct EntryTime {
  double start = 0, seconds = 0;
};

/// What executors of this library compile to, and plug-ins whose parts are a core::Backend.
class TimedProgram : public Program {
 public:
  /// For each entry of the plan.
  virtual const std::vector<EntryFacts>& facts() const = 0;
  /// Runs one execution on the inputs as they are, each entry by itself; states move on as in `run`.
  virtual std::vector<EntryTime> run_timed() = 0;
};

}  // namespace halfstep
