#include <halfstep/ops/op_def.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

// Operators of ai.onnx without a row that occur in models: conversion and inspection still process them.
struct ForeignOp {
  std::string_view name;
  OpTraits traits;
};
using enum OperandRole;
constexpr ForeignOp kForeign[] = {
    {"DeformConv", {.features = FeatureAxis::second, .operands = {data, weight, data, bias}}},
    {"DequantizeLinear", {.quantizes = true}},
    {"DynamicQuantizeLinear", {.quantizes = true}},
    {"FlexAttention", {.one_type = true}},
    {"LinearAttention", {.one_type = true}},
    {"QuantizeLinear", {.quantizes = true}},
};

}  // namespace

const OpTraits& traits_of(std::string_view name, std::string_view domain) {
  static constexpr OpTraits none;
  if (const OpDef* row = find_op(name, domain)) return row->traits;
  if (!domain.empty()) return none;
  const auto foreign =
      std::find_if(std::begin(kForeign), std::end(kForeign), [&](const ForeignOp& op) { return op.name == name; });
  return foreign == std::end(kForeign) ? none : foreign->traits;
}

}  // namespace halfstep
