// Loading an .onnx file as a Graph.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// The file's ModelProto; `save_trained` writes it with other parameters.
class SourceModel;

/// Contents of inputs that are not tensors. A graph has only tensors, and their number is fixed when the model is
/// loaded.
struct LoadOptions {
  /// Length of each sequence among the inputs. A sequence NAME is replaced by the inputs NAME.0, NAME.1, ….
  std::map<std::string, std::int64_t> sequence_lengths{};
  /// The optional inputs that are absent; all others are present.
  std::set<std::string> absent_inputs{};
};

struct LoadedModel {
  /// In opset kOnnxOpset, with supported operators in their newest form and inferred types. Extents that the file does
  /// not fix are `Shape::kUnknown`. Initializers and Constant nodes are constants, distinguished by
  /// `Value::is_initializer`.
  Graph graph;
  std::shared_ptr<const SourceModel> source;
  /// The external data files of the model.
  std::vector<std::filesystem::path> data_files = {};
};

/// Loads a model: checks size and structure, reads external data (see external_data.h), makes sparse tensors dense,
/// sorts nodes, runs the ONNX checker (see check_message.h), inlines model-local functions, upgrades old opsets,
/// replaces operators without a row by their function bodies, and eliminates sequences and optional values. Running
/// statistics that several BatchNormalizations share become separate initializers. Supports IR
/// versions 3 to 14 and ai.onnx opsets 1 to 28. Throws Error(input) for an invalid file, for unsupported operators,
/// naming all of them with their nodes, and for a sequence whose length does not follow from the model.
LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options = {});

/// The same from memory. `folder` contains external data; if it is empty, a model with external data is rejected.
LoadedModel load_model_from_bytes(std::string_view bytes, const std::filesystem::path& folder = {},
                                  const LoadOptions& options = {});

/// The same from ONNX's text form: `<ir_version: 10, opset_import: ["": 20]> name (float[N, 4] x) => (float[N, 4] y)
/// {…}`.
LoadedModel parse_model(std::string_view text, const LoadOptions& options = {});

}  // namespace halfstep
