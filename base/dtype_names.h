// Element types by their names elsewhere.
#pragma once

#include <string_view>

#include <halfstep/base/dtype.h>

namespace halfstep {

/// ONNX's: "float", "float16", "int64".
std::string_view onnx_name_of(DType dtype);

}  // namespace halfstep
