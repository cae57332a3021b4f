#include "ops/inference_guard.h"

#include <cstdint>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

/// The requirement that an attribute violates; "" if it is valid.
using Fault = std::string (*)(const onnx::AttributeProto& attribute, std::size_t outputs);

/// An attribute of an operator; of every operator that has it if `op` is empty.
struct Guard {
  std::string_view op;
  const char* attribute;
  Fault fault;
};

// Stored in an int, which would truncate larger numbers.
std::string no_axis(const onnx::AttributeProto& attribute, std::size_t) {
  return attribute.i() < INT32_MIN || attribute.i() > INT32_MAX ? "an axis of an operand" : "";
}

// Negative values would be counted from below 0.
std::string no_batch_axes(const onnx::AttributeProto& attribute, std::size_t) {
  return attribute.i() < 0 || attribute.i() > INT32_MAX ? "at least 0, and less than operands have axes" : "";
}

// It determines the number of parts that are created.
std::string no_parts(const onnx::AttributeProto& attribute, std::size_t outputs) {
  return attribute.i() != static_cast<std::int64_t>(outputs) ? fmt::format("as the node has outputs: {}", outputs) : "";
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// With other characters, or a second ellipsis in a term, inference does not terminate.
std::string no_equation(const onnx::AttributeProto& attribute, std::size_t) {
  const char* const wanted =
      "terms of letters and at most one '...', separated by ',', and after '->' those of the result";
  std::string equation = attribute.s();
  std::erase(equation, ' ');
  if (const std::size_t arrow = equation.find("->"); arrow != std::string::npos) equation.replace(arrow, 2, ",");
  bool has_ellipsis = false;
  for (std::size_t i = 0; i < equation.size(); ++i) {
    if (is_letter(equation[i])) continue;
    if (equation[i] == ',') {
      has_ellipsis = false;
    } else if (!has_ellipsis && equation.compare(i, 3, "...") == 0) {
      has_ellipsis = true;
      i += 2;
    } else {
      return wanted;
    }
  }
  return "";
}

constexpr Guard kGuards[] = {{"", "axis", no_axis},
                             {"Einsum", "equation", no_equation},
                             {"GatherND", "batch_dims", no_batch_axes},
                             {"Split", "num_outputs", no_parts}};

}  // namespace

void check_before_inference(std::string_view op, std::size_t outputs, const AttributeLookup& attribute,
                            const std::function<std::string()>& where) {
  for (const Guard& guard : kGuards) {
    if (!guard.op.empty() && guard.op != op) continue;
    const onnx::AttributeProto* given = attribute(guard.attribute);
    if (!given || !given->ref_attr_name().empty()) continue;
    const std::string wanted = guard.fault(*given, outputs);
    if (!wanted.empty())
      throw_input_error(
          fmt::format("attribute {} to be {}", guard.attribute, wanted),
          fmt::format("{} in {}", given->has_s() ? "'" + given->s() + "'" : std::to_string(given->i()), where()),
          fmt::format("check {}'s {}", op, guard.attribute));
  }
}

}  // namespace halfstep
