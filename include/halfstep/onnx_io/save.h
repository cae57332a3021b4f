// Saving trained parameters, or a Graph, as an .onnx file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/onnx_io/load.h>

namespace HALFSTEP_API halfstep {

enum class OutputForm {
  inference,  ///< BatchNormalization uses its running statistics, Dropout is off
  training,   ///< both as in the source model
};

/// Whether tensors are stored in a second file, `NAME.onnx.data`, next to the model.
enum class ExternalData {
  automatic,  ///< if the model would exceed 2 GB, the limit of a protobuf message
  always,
  never,
};

struct SaveOptions {
  OutputForm form = OutputForm::inference;
  ExternalData external_data = ExternalData::automatic;
};

// Parameters are identified by their names in the source model: an initializer, a Constant node's output, or, for one
// of several that an exporter merged, the output of the Identity node that names it. A single row represents all rows
// of a tensor that the exporter expanded over the batch; the first half of the columns represents a matrix whose other
// columns are zero.

/// Writes the source model with other parameters; everything else (names, versions, metadata, doc strings) is kept, in
/// the form after loading (normalize.h: nodes sorted, sparse tensors dense). Each parameter is written in its element
/// type in the source. A merged parameter becomes a separate initializer in place of its Identity node. In inference
/// form, parts that only training needs are removed. If a parameter's name exists only after model-local functions are
/// inlined, they are inlined in the file. Throws Error(failure) if a name is not in the source, a shape differs from
/// the source's, or the file cannot be written; nothing at `path` has changed then.
void save_trained(const SourceModel& source, const NamedTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options = {});

/// Messages for the user, a line each: how many parameters `save_trained` writes in a half type, as in the source, and
/// which of them have elements beyond its range, which are clamped to its largest number.
std::vector<std::string> storage_notes(const SourceModel& source, const NamedTensors& parameters);

/// The model that `save_trained` would write, as bytes of an .onnx file (at most 2 GB). Tensors and computation in the
/// half type `widened` become f32.
std::string trained_model_bytes(const SourceModel& source, const NamedTensors& parameters,
                                OutputForm form = OutputForm::inference, DType widened = DType::undefined);

/// To be called before training. Throws Error(input) unless `save_trained` can store parameters of these names.
void check_can_save(const SourceModel& source, const std::vector<std::string>& parameter_names);

/// Writes a Graph as a model, in the oldest opset that has all its operators, so that most runtimes can run it.
/// The file is written atomically.
void save_model(const Graph& graph, const std::filesystem::path& path,
                ExternalData external_data = ExternalData::automatic);

/// To be called before long work. Throws Error unless a model of about `expected_bytes` can be written to `path`.
void check_output_path(const std::filesystem::path& path, std::uint64_t expected_bytes = 0);

}  // namespace halfstep
