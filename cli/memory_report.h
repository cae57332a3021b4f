// Memory of a step, as a prediction of the peak resident set of the process.
#pragma once

#include <cstddef>

#include <nlohmann/json.hpp>

#include <halfstep/executors/memory_use.h>

namespace halfstep::cli {

/// {"peak_bytes", "categories": [{category, bytes}], "arena": {bytes, live_bytes, node}}. `largest_saved`: of the
/// tensors that are copied one at a time when the model is saved the largest, in bytes.
/// `read_ahead`: the batches of a training run that wait for their step.
nlohmann::ordered_json memory_report(const MemoryUse& use, std::size_t largest_saved, std::size_t read_ahead);

void print_memory(const nlohmann::ordered_json& report);

}  // namespace halfstep::cli
