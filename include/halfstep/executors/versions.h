// Versions of the libraries used by halfstep.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Names and versions: {"oneDNN", "3.9.1"}, {"ONNX", "1.23.2"}.
std::vector<std::pair<std::string, std::string>> library_versions();

}  // namespace halfstep
