#include "executors/core/crossings.h"

#include <algorithm>

namespace halfstep::core {
namespace {

std::size_t place_in(const std::vector<BufferId>& buffers, BufferId id) {
  return static_cast<std::size_t>(std::ranges::find(buffers, id) - buffers.begin());
}

/// In which states and constants are not.
bool is_of_arena(const Assembly::Buffer& buffer) { return !buffer.fixed && !buffer.state; }

/// By all that a run does; a view is nothing of that.
bool is_touched_once(const Assembly& assembly, BufferId id) {
  std::size_t count = 0;
  for (const Step& step : assembly.steps())
    if (step.bind) count += static_cast<std::size_t>(std::ranges::count(step.touches, id));
  return count == 1;
}

StepCrossing crossing_of(const Assembly& assembly, const Step& step) {
  if (assembly.device().is_host() || step.touches.size() != 2) return {};
  const BufferId from = step.touches[0], to = step.touches[1];
  if (assembly.buffers()[from].bytes <= kSmallCopy) return {};
  if (step.entry.op == "Download" && is_of_arena(assembly.buffers()[from])) {
    const std::size_t output = place_in(assembly.output_buffers, to);
    if (output < assembly.output_buffers.size()) return {Crossing::fetched, output};
  }
  if (step.entry.op == "Upload" && assembly.device().stages_inputs() && is_of_arena(assembly.buffers()[to]) &&
      assembly.buffers()[to].whole == kNoBuffer && is_touched_once(assembly, from)) {
    const std::size_t input = place_in(assembly.input_buffers, from);
    if (input < assembly.input_buffers.size()) return {Crossing::staged, input};
  }
  return {};
}

}  // namespace

std::vector<StepCrossing> crossings_of(const Assembly& assembly) {
  std::vector<StepCrossing> crossings;
  for (const Step& step : assembly.steps()) crossings.push_back(crossing_of(assembly, step));
  return crossings;
}

}  // namespace halfstep::core
