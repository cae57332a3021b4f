// Exception messages of the ONNX library in readable form.
#pragma once

#include <string>
#include <string_view>

namespace halfstep {

/// In one line, and without the prefix with the kind of exception: "[ShapeInferenceError] Incompatible dimensions"
/// becomes "Incompatible dimensions".
std::string plain_onnx_message(std::string_view message);

}  // namespace halfstep
