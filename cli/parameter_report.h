// Trained parameters of a model, other constants with reasons, and the exporter's changes to parameters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/passes.h>

namespace halfstep::cli {

/// {"parameters": [{name, type, shape, elements, stored_in, use: […]}], "not_trained": [{name, type, shape, elements,
/// stored_in, reason}], "blocked_by": [{node, op}], "notes": […]}. `elements` are those that are trained; `stored_in`
/// is "initializer" or "Constant". `selection` has the patterns of --freeze and --trainable, `batch` is for inputs that
/// leave it open.
nlohmann::ordered_json parameter_report(const LoadedModel& model, ParameterSelection selection, std::int64_t batch);

/// The exporter's changes to the parameters, one sentence each: parameters that may be merged, with the flag to untie
/// them; removed ones; ones expanded over the batch.
std::vector<std::string> exporter_notes(const LoadedModel& model);

/// The model after untying the parameters of `patterns` (--untie); see `choose_untied`.
LoadedModel untie_merged(LoadedModel model, const std::vector<std::string>& patterns);

}  // namespace halfstep::cli
