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
  switch (precision) {
    case Precision::fp32:
      return DType::f32;
    case Precision::bf16:
      return DType::bf16;
    case Precision::fp16:
      return DType::f16;
    case Precision::automatic:
      break;
  }
  return capabilities.auto_precision;
}

std::string_view precision_name(DType type) {
  switch (type) {
    case DType::bf16:
      return name_of(Precision::bf16);
    case DType::f16:
      return name_of(Precision::fp16);
    default:
      return name_of(Precision::fp32);
  }
}

}  // namespace halfstep
