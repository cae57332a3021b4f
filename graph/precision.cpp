#include <algorithm>

#include "base/row_named.h"
#include <halfstep/graph/precision.h>

namespace halfstep {
namespace {

struct PrecisionName {
  Precision precision;
  std::string_view name;
};
constexpr PrecisionName kPrecisions[] = {
    {Precision::automatic, "auto"}, {Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}, {Precision::fp16, "fp16"}};

}  // namespace

Precision parse_precision(std::string_view name) {
  return row_named(kPrecisions, name, "a precision: ", "check --precision and HALFSTEP_PRECISION").precision;
}

std::string_view name_of(Precision precision) {
  const auto* row = std::ranges::find(kPrecisions, precision, &PrecisionName::precision);
  return row == std::end(kPrecisions) ? "unknown" : row->name;
}

DType resolve(Precision precision, const Capabilities& capabilities) {
  return precision == Precision::fp32   ? DType::f32
         : precision == Precision::bf16 ? DType::bf16
         : precision == Precision::fp16 ? DType::f16
                                        : capabilities.auto_precision;
}

std::string_view precision_name(DType type) {
  return name_of(type == DType::bf16 ? Precision::bf16 : type == DType::f16 ? Precision::fp16 : Precision::fp32);
}

}  // namespace halfstep
