// ONNX's own test cases, as its backend suite writes them into folders.
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

/// Inputs and the outputs they should give, in the order of the model's.
struct OnnxDataSet {
  std::vector<Tensor> inputs, outputs;
};

/// A folder with model.onnx and test_data_set_N/{input,output}_K.pb. Sequences and optional values are taken apart into
/// tensors, as the first data set has them.
class OnnxCase {
 public:
  /// Reads model.onnx. Throws Error when there is none, or it is no protobuf message of a model.
  OnnxCase(std::filesystem::path folder, std::string name);

  const std::string& name() const { return name_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// The message of the model over tensors, see test_case_containers.h.
  std::string model_bytes() const;
  /// The model read. Throws Error as `load_model` does.
  Graph load() const;
  /// Operators of the model, subgraphs and local functions included, each once and in alphabetical order.
  std::vector<std::string> operators() const;
  /// Those of them that run, if at all, through the function bodies of their schemas.
  std::set<std::string> operators_without_row() const;
  /// Why halfstep does not read the model: operators outside the table, values made of something else than tensors, an
  /// operator set older than what is read. Empty when it does.
  std::string not_supported() const;
  /// Throws Error on a file that holds something else than the model's input or output.
  std::vector<OnnxDataSet> data_sets() const;

 private:
  std::vector<std::filesystem::path> data_folders() const;

  std::filesystem::path folder_;
  std::string name_;
  std::shared_ptr<onnx::ModelProto> model_;
  std::shared_ptr<onnx::ModelProto> source_;  ///< as in the file, where that has sequences or optional values
};

/// The folders below `root` that hold a model.onnx, in alphabetical order, named by their path from there. Throws Error
/// when there is none.
std::vector<OnnxCase> find_onnx_cases(const std::filesystem::path& root);

/// The reason of a case whose operators halfstep lacks.
std::string not_in_table(const std::set<std::string>& operators);

}  // namespace halfstep
