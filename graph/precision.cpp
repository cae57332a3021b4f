#include <array>

#include <halfstep/base/error.h>
#include <halfstep/graph/precision.h>

namespace halfstep {
namespace {

struct PrecisionName {
  Precision precision;
  std::string_view name;
};
constexpr std::array<PrecisionName, 4> kPrecisions{
    {{Precision::automatic, "auto"}, {Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}, {Precision::fp16, "fp16"}}};

}  // namespace

Precision parse_precision(std::string_view name) {
  for (const PrecisionName& p : kPrecisions)
    if (p.name == name) return p.precision;
  throw_input_error("a precision: auto, fp32, bf16, fp16", "'" + std::string(name) + "'",
                    "check --precision and HALFSTEP_PRECISION");
}

std::string_view name_of(Precision precision) {
  for (const PrecisionName& p : kPrecisions)
    if (p.precision == precision) return p.name;
  return "unknown";
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
