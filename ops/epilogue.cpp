#include "ops/epilogue.h"

#include <cmath>

#include <fmt/format.h>

#include "ops/elementwise/formula.h"
#include "ops/epilogue_formula.h"
#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

[[noreturn]] void refuse(std::string_view known, std::string_view name) {
  throw_input_error(fmt::format("a fused operator's activation {}", known), fmt::format("'{}'", name),
                    "check the node's attribute 'activation'");
}

// Sets the attribute `name` to a bound of Clip, an optional input; false if it is not a constant representable in f32.
bool add_bound(const Graph& graph, ValueId bound, std::string_view name, Attributes& attributes) {
  if (bound == kNoValue) return true;
  const Value& value = graph[bound];
  if (!value.is_constant() || value.constant.count() != 1 || !is_float(value.dtype)) return false;
  const double wanted = to_doubles(value.constant)[0];
  const auto given = static_cast<float>(wanted);
  if (given != wanted || !std::isfinite(given)) return false;
  attributes.set(name, given);
  return true;
}

}  // namespace

double Epilogue::operator()(double x) const {
  const auto last = formula_of(*this);
  return last ? evaluate(*last, {x, min, max}) : x;
}

bool Epilogue::keeps_zero() const { return (*this)(0) == 0; }

Epilogue epilogue_of(const Attributes& attributes) {
  using enum Epilogue::Kind;
  const std::string name = attributes.get_string("activation", "");
  if (name.empty()) return {};
  if (name == "Relu") return {.kind = relu};
  if (name == "Gelu")
    return {.kind = find_formula("Gelu", kOnnxDomain, attributes)->formula == Formula::GeluTanh ? gelu_tanh : gelu};
  Epilogue clamp{.kind = clip};
  if (name != "Clip") refuse("Relu, Clip or Gelu", name);
  clamp.min = attributes.get_float("min", clamp.min);
  clamp.max = attributes.get_float("max", clamp.max);
  return clamp;
}

std::optional<Clamp> clamp_of(const Attributes& attributes) {
  const Epilogue last = epilogue_of(attributes);
  switch (last.kind) {
    case Epilogue::Kind::none:
      return std::nullopt;
    case Epilogue::Kind::relu:
      return Clamp{.low = 0, .stops_at_low = true};
    case Epilogue::Kind::clip:
      return Clamp{last.min, last.max};
    default:
      refuse("Relu or Clip behind a normalization", attributes.get_string("activation", ""));
  }
}

std::size_t addition_operand(std::string_view fused) {
  if (fused == "FusedConv") return 3;
  if (fused == "FusedBatchNormalization") return 5;
  throw_failure("a fused operator that adds an operand", std::string(fused), "clear its `adds`");
}

Attributes epilogue_attributes(const Graph& graph, const Node& node) {
  if (node.is("Relu") || node.is_own("ReluGrad")) return {{"activation", std::string("Relu")}};
  if (node.is("Gelu") || node.is_own("GeluGrad")) {
    Attributes attributes = node.attributes;
    attributes.set("activation", std::string("Gelu"));
    return attributes;
  }
  if (!node.is("Clip") && !node.is_own("ClipGrad")) return {};
  const std::size_t bounds = node.is("Clip") ? 1 : 2;
  Attributes attributes = {{"activation", std::string("Clip")}};
  const bool constant = add_bound(graph, node.input(bounds), "min", attributes) &&
                        add_bound(graph, node.input(bounds + 1), "max", attributes);
  return constant ? attributes : Attributes();
}

}  // namespace halfstep::ops
