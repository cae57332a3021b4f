// Options of a training step, converted from Python arguments.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace halfstep::python {

using Numbers = std::map<std::string, double>;
/// Pattern, factor of the learning rate, number of initial frozen updates, hyperparameters.
using GroupOptions = std::tuple<std::string, double, std::int64_t, Numbers>;

/// Throws Error(input) for unknown names and for values out of range.
OptimizerOptions optimizer_options(const std::string& name, const Numbers& numbers,
                                   const std::vector<GroupOptions>& groups);

/// auto, always or never. Throws Error(input) for another name.
ExternalData external_data_of(const std::string& name);

}  // namespace halfstep::python
