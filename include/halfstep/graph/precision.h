// What a model is computed in.
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
/// What `precision` means on a device: automatic becomes what the device prefers.
DType resolve(Precision precision, const Capabilities& capabilities);
/// The name of a precision by the type it computes in.
std::string_view precision_name(DType type);

}  // namespace halfstep
