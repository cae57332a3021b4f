// The precision that a model is computed in.
#pragma once

#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/capabilities.h>

namespace HALFSTEP_API halfstep {

enum class Precision { automatic, fp32, bf16, fp16 };
/// "auto", "fp32", "bf16", "fp16"; throws Error for anything else.
Precision parse_precision(std::string_view name);
std::string_view name_of(Precision precision);
/// The element type of `precision` on a device; `automatic` becomes the type preferred by the device.
DType resolve(Precision precision, const Capabilities& capabilities);
/// The name of the precision that computes in this type.
std::string_view precision_name(DType type);

}  // namespace halfstep
