#include "graph/state_fit.h"

#include <string_view>

#include <fmt/format.h>

#include "graph/may_be_equal.h"

namespace halfstep {
namespace {

std::string described(const Value& value) {
  return fmt::format("'{}' of {} {}", value.name, name_of(value.dtype), value.shape.to_string());
}

}  // namespace

std::string state_misfit(const Graph& graph, const State& state) {
  const Value& value = graph[state.value];
  const auto misfit = [&](ValueId id, std::string_view what, bool type_fits) {
    const bool fits = type_fits && may_be_equal(graph[id].shape, value.shape);
    return fits ? "" : fmt::format("{} as {} of {}", described(graph[id]), what, described(value));
  };
  if (state.next != kNoValue) {
    const DType next = graph[state.next].dtype;
    const std::string found = misfit(state.next, "the next value", next == DType::undefined || next == value.dtype);
    if (!found.empty()) return found;
  }
  if ((state.role == StateRole::copy) != (state.source != kNoValue))
    return fmt::format("{} as a state that is {}", described(value),
                       state.source == kNoValue ? "a copy of nothing" : "of another");
  if (state.source != kNoValue) {
    const std::ptrdiff_t source = graph.state_of(state.source);
    const bool is_state = source >= 0 && graph.states[source].role != StateRole::copy;
    const std::string found = misfit(state.source, "the source", is_state && is_half(value.dtype));
    if (!found.empty()) return found;
  }
  if (state.gradient == kNoValue) return "";
  const DType gradient = graph[state.gradient].dtype;
  return misfit(state.gradient, "the gradient", gradient == DType::undefined || is_float(gradient));
}

}  // namespace halfstep
