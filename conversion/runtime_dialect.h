// Operators that runtimes write into operator sets which do not have them yet. Internal to conversion.
#pragma once

#include <cstdint>
#include <string_view>

namespace halfstep::conversion {

/// ONNX Runtime writes some operators into operator sets of ai.onnx older than they are. The version whose schema they
/// have; 0 for all others.
std::int64_t first_version_of_extension(std::string_view domain, std::string_view op);

}  // namespace halfstep::conversion
