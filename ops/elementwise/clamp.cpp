#include "ops/elementwise/clamp.h"

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

[[noreturn]] void refuse(std::string_view known, std::string_view name) {
  throw_input_error(fmt::format("a fused operator's activation {}", known), fmt::format("'{}'", name),
                    "check the node's attribute 'activation'");
}

}  // namespace

Activation activation_named(std::string_view name) {
  if (name.empty()) return Activation::none;
  if (name == "Relu") return Activation::relu;
  if (name == "Clip") return Activation::clip;
  refuse("Relu or Clip", name);
}

bool ends_with_relu(std::string_view activation) {
  if (activation_named(activation) == Activation::clip) refuse("Relu, or none", activation);
  return activation_named(activation) == Activation::relu;
}
bool ends_with_relu(const Attributes& attributes) { return ends_with_relu(attributes.get_string("activation", "")); }

std::optional<Clamp> clamp_of(const Attributes& attributes) {
  Clamp clamp;
  switch (activation_named(attributes.get_string("activation", ""))) {
    case Activation::none:
      return std::nullopt;
    case Activation::relu:
      clamp.low = 0;
      clamp.stops_at_low = true;
      break;
    case Activation::clip:
      clamp.low = attributes.get_float("min", clamp.low);
      clamp.high = attributes.get_float("max", clamp.high);
      break;
  }
  return clamp;
}

}  // namespace halfstep::ops
