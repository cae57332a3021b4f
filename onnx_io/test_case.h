// ONNX's own test cases, in the folder format of its backend test suite.
#pragma once

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace onnx {
class ModelProto;
}

namespace HALFSTEP_API halfstep {

/// Inputs and expected outputs, in the order of the model's.
struct OnnxDataSet {
  std::vector<Tensor> inputs, outputs;
};

/// A folder with model.onnx and test_data_set_N/{input,output}_K.pb. Sequences and optional values are replaced by
/// tensors, with the lengths in the first data set.
class OnnxCase {
 public:
  /// Reads model.onnx. Throws Error if it does not exist or is not a model's protobuf message.
  OnnxCase(std::filesystem::path folder, std::string name);

  const std::string& name() const { return name_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// The message of the model over tensors, see test_case_containers.h.
  std::string model_bytes() const;
  /// The loaded model. Throws Error as `load_model` does.
  Graph load() const;
  /// Operators of the model, including subgraphs and local functions, each once and in alphabetical order.
  std::vector<std::string> operators() const;
  /// Those of them that can only run through the function bodies of their schemas.
  std::set<std::string> operators_without_row() const;
  /// Why halfstep does not support the model: operators that are not in the table, values that do not consist of
  /// tensors, an opset that is too old. Empty if it does.
  std::string not_supported() const;
  /// Throws Error if a file does not contain an input or output of the model.
  std::vector<OnnxDataSet> data_sets() const;

 private:
  std::vector<std::filesystem::path> data_folders() const;

  std::filesystem::path folder_;
  std::string name_;
  std::shared_ptr<onnx::ModelProto> model_;
  std::shared_ptr<onnx::ModelProto> source_;  ///< the original, if it has sequences or optional values
};

/// The folders below `root` with a model.onnx, in alphabetical order, named by their relative paths. Throws Error if
/// there are none.
std::vector<OnnxCase> find_onnx_cases(const std::filesystem::path& root);

/// The reason for a case with operators that halfstep lacks.
std::string not_in_table(const std::set<std::string>& operators);

}  // namespace halfstep
