#include "ops/clamp.h"

#include "graph/error.h"

namespace halfstep::ops {

std::optional<Clamp> clamp_of(const Attributes& attributes) {
  const std::string activation = attributes.get_string("activation", "");
  if (activation.empty()) return std::nullopt;
  Clamp clamp;
  if (activation == "Relu") {
    clamp.low = 0;
    clamp.stops_at_low = true;
  } else if (activation == "Clip") {
    clamp.low = attributes.get_float("min", clamp.low);
    clamp.high = attributes.get_float("max", clamp.high);
  } else {
    throw_input_error("activation Relu or Clip", activation, "check the graph");
  }
  return clamp;
}

}  // namespace halfstep::ops
