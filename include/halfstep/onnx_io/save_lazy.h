// Saving a trained model without a copy of all its parameters, neither of those that are written nor of those that the
// file had.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/onnx_io/save.h>

namespace HALFSTEP_API halfstep {

/// As the functions of save.h; a large parameter is read when it is written.
void save_trained(const SourceModel& source, const LazyTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options = {});
std::vector<std::string> storage_notes(const SourceModel& source, const LazyTensors& parameters);

/// The source without the values that `save_trained` would replace by these parameters; the others are shared. Who
/// holds it instead of the source holds no second copy of what is trained. Saving then takes all these parameters:
/// Throws Error(failure) where one is missing.
std::shared_ptr<const SourceModel> without_values(const SourceModel& source, const std::vector<TensorInfo>& parameters);

}  // namespace halfstep
