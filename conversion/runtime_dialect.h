// Operators that runtimes write into opsets which do not define them yet. Internal to conversion.
#pragma once

#include <cstdint>
#include <string_view>

namespace halfstep::conversion {

/// ONNX Runtime writes some operators into older opsets of ai.onnx than the ones that define them. Returns the version
/// with the schema of such an operator; 0 for all others.
std::int64_t first_version_of_extension(std::string_view domain, std::string_view op);

}  // namespace halfstep::conversion
