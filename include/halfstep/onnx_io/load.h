// From an .onnx file to a Graph.
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

/// The file's own message; `save_trained` writes it back with other parameters.
class SourceModel;

/// What the values that a model takes consist of, where they are not tensors: a graph has tensors only, and as many as
/// there were when it was read.
struct LoadOptions {
  /// How many elements each sequence among the inputs has. In place of a sequence NAME the graph has the inputs NAME.0,
  /// NAME.1, ….
  std::map<std::string, std::int64_t> sequence_lengths{};
  /// The optional values among the inputs that are not given; all others are.
  std::set<std::string> absent_inputs{};
};

struct LoadedModel {
  /// In opset kOnnxOpset, every operator in its newest form and supported, types inferred. Extents the file leaves open
  /// are `Shape::kUnknown`. Initializers and Constant nodes are constants; `Value::is_initializer` tells them apart.
  Graph graph;
  std::shared_ptr<const SourceModel> source;
  /// The files beside the model that it keeps tensors in.
  std::vector<std::filesystem::path> data_files = {};
};

/// Reads a model: size and structure, external data (see external_data.h), sparse tensors made dense, nodes sorted, the
/// ONNX checker (see check_message.h), model-local functions inlined, old operator sets lifted, operators without a row
/// replaced by their function bodies, sequences and optional values taken apart. Accepts IR versions 3 to 14 and
/// ai.onnx operator sets 1 to 28. Throws Error(input): what is wrong with the file, all operators that are not
/// supported, with their nodes' names, or a sequence whose length does not follow from the model.
LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options = {});

/// The same from memory. `folder` is where external data lies; when empty, a model with external data is refused.
LoadedModel load_model_from_bytes(std::string_view bytes, const std::filesystem::path& folder = {},
                                  const LoadOptions& options = {});

/// The same from ONNX's text form: `<ir_version: 10, opset_import: ["": 20]> name (float[N, 4] x) => (float[N, 4] y)
/// {…}`.
LoadedModel parse_model(std::string_view text, const LoadOptions& options = {});

}  // namespace halfstep
