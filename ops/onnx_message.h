// What the ONNX library says in its exceptions, for people.
#pragma once

#include <string>
#include <string_view>

namespace halfstep {

/// In one line, and without the name of the exception's kind in front: "[ShapeInferenceError] Incompatible dimensions"
/// is "Incompatible dimensions".
std::string plain_onnx_message(std::string_view message);

}  // namespace halfstep
