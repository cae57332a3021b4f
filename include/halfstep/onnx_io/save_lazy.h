// Saving a trained model without a copy of all its parameters in memory, neither the trained ones nor those of the
// source file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/onnx_io/save.h>

namespace HALFSTEP_API halfstep {

/// Like the functions of save.h; a large parameter is read when it is written.
void save_trained(const SourceModel& source, const LazyTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options = {});
std::vector<std::string> storage_notes(const SourceModel& source, const LazyTensors& parameters);
/// The memory that saving takes in addition to the parameters: the largest parameter, and a copy of the source's
/// message without elements.
std::size_t bytes_to_save(const SourceModel& source, const LazyTensors& parameters);

/// The source without the values that `save_trained` would replace by these parameters; the others are shared. Held
/// instead of the source, it avoids a second copy of the trained parameters. Saving it requires all these parameters
/// and throws Error(failure) if one is missing.
std::shared_ptr<const SourceModel> without_values(const SourceModel& source, const std::vector<TensorInfo>& parameters);

}  // namespace halfstep
