// What of a model is trained, what is not and why, and what the exporter did to it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <halfstep/onnx_io/load.h>

namespace halfstep::cli {

/// {"parameters": [{name, type, shape, elements, stored_in, use: […]}], "not_trained": [{name, type, shape, elements,
/// stored_in, reason}], "blocked_by": [{node, op}], "notes": […]}. `elements` are those that are trained; `stored_in`
/// is "initializer" or "Constant". `freeze` are the patterns of --freeze, `batch` is for inputs that leave it open.
nlohmann::ordered_json parameter_report(const LoadedModel& model, const std::vector<std::string>& freeze,
                                        std::int64_t batch);

/// What the exporter changed in the parameters, a sentence each: ones that may be merged, with the way to untie them;
/// ones that are gone; ones expanded over the batch.
std::vector<std::string> exporter_notes(const LoadedModel& model);

/// The model with what `patterns` (--untie) ask for untied; see `choose_untied`.
LoadedModel untie_merged(LoadedModel model, const std::vector<std::string>& patterns);

}  // namespace halfstep::cli
