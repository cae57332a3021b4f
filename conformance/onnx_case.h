// ONNX's own test cases, as its backend suite writes them into folders.
#pragma once

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "conformance/compare.h"
#include <halfstep/base/api.h>
#include <halfstep/conformance/report.h>
#include <halfstep/executors/executor.h>

namespace onnx {
class ModelProto;
}

namespace HALFSTEP_API halfstep {

/// Inputs and the outputs they should give, in the order of the model's.
struct OnnxDataSet {
  std::vector<Tensor> inputs, outputs;
};

/// A folder with model.onnx, test_data_set_N/{input,output}_K.pb and, where the tolerance is not the suite's, data.json
/// with "rtol" and "atol". Sequences and optional values are taken apart into tensors, as the first data set has them.
class OnnxCase {
 public:
  /// Reads model.onnx. Throws Error when there is none, or it is no protobuf message of a model.
  OnnxCase(std::filesystem::path folder, std::string name);

  const std::string& name() const { return name_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// Over tensors, see container_case.h.
  const onnx::ModelProto& model() const { return *model_; }
  /// The model read. Throws Error as `load_model` does.
  Graph load() const;
  /// Operators of the model, subgraphs and local functions included, each once and in alphabetical order.
  std::vector<std::string> operators() const;
  /// Those of them that run, if at all, through the function bodies of their schemas.
  std::set<std::string> operators_without_row() const;
  /// Why halfstep does not claim to run the case: operators outside the table, values made of something else than
  /// tensors, an operator set older than what is read. Empty when it does.
  std::string not_applicable() const;
  /// 1e-3 relative and 1e-7 absolute, unless data.json says otherwise.
  Tolerance tolerance() const;
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

/// A loaded graph with the input shapes of `inputs`, as programs are compiled from it: shapes bound, constants folded,
/// what `capabilities` has fused kernels for fused; training modes and precision left alone.
Graph prepare_graph(Graph graph, const std::vector<Tensor>& inputs, const Capabilities& capabilities);

/// Runs every data set of the case. Outputs must have the types and shapes of those in the files, floats within the
/// tolerance (bf16 at least within two units of its precision), all else exactly. Where the outputs in the files are
/// known to be rougher than that, the report of a case that passed says how they were compared. Never throws: an Error
/// on the way is a failed check.
CheckReport check_onnx_case(const OnnxCase& onnx_case, Executor& executor);

}  // namespace halfstep
