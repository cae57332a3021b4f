// Converting a model to half precision for inference: f32 weights and computation become f16 or bf16 where that is
// worth it and safe, and everything else of the model stays as it is.
//
//   halfstep::ModelFile model = halfstep::ModelFile::open("model.onnx");
//   halfstep::Conversion conversion = halfstep::convert(model, {.half = halfstep::DType::f16, .keep_io_types = true});
//   conversion.save("model_fp16.onnx");
//   for (const std::string& warning : conversion.report().warnings) …
//
// Works on any valid ONNX model: operators halfstep does not know, sequences, strings and subgraphs included. What has
// no half-precision form keeps f32, with casts around it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/conversion/report.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/precision/float_range.h>

namespace HALFSTEP_API halfstep {

/// A model as its file has it. Large tensors are not read before they are needed.
class ModelFile {
 public:
  /// Throws Error(input) when there is no ONNX model at `path`, or its data files are not what it says.
  static ModelFile open(const std::filesystem::path& path);
  /// From the bytes of an .onnx file that has all its data.
  static ModelFile from_bytes(std::string_view bytes);
  /// From ONNX's text form.
  static ModelFile parse(std::string_view text);

  /// The files beside it that it keeps tensors in.
  const std::vector<std::filesystem::path>& data_files() const;

  struct Content;
  const Content& content() const { return *content_; }
  const std::shared_ptr<const Content>& shared_content() const { return content_; }

 private:
  std::shared_ptr<const Content> content_;
};

/// Selects nodes: by operator ("Softmax", "com.microsoft.Gelu"), or by a regular expression (ECMAScript) that the whole
/// name of the node matches. A node without a name has that of its first output.
struct NodePattern {
  enum class Kind { op, node };
  Kind kind = Kind::op;
  std::string text;
};
/// "op:Softmax,node:/encoder/.*": a list separated by commas (in an expression a comma is written `\,`).
/// Throws Error(input) on anything else, and on an invalid expression.
std::vector<NodePattern> parse_node_patterns(std::string_view text);

/// Ranges of activations as measured, by the value's name in the model.
using ActivationRanges = std::map<std::string, FloatRange>;

struct ConvertOptions {
  DType half = DType::f16;                      ///< f16 or bf16
  bool keep_io_types = false;                   ///< all inputs and outputs of the model keep their type
  std::vector<std::string> keep_io_names = {};  ///< these do
  std::vector<NodePattern> keep_f32 = {};       ///< nodes that stay f32; goes before force_half
  std::vector<NodePattern> force_half = {};     ///< nodes that become half even where that is not safe
  /// Model-local functions stay functions, and calls of them f32. Otherwise they are inlined.
  bool keep_functions = false;
  /// Metadata and doc strings of graphs, nodes, values and tensors stay. Those of the model do in any case.
  bool keep_metadata = true;
  /// Nodes whose operands or results do not fit into `half` stay f32.
  ActivationRanges measured = {};
};

/// A converted model, not yet written.
class Conversion {
 public:
  const ConversionReport& report() const;

  /// The model as bytes of an .onnx file (at most 2 GB).
  std::string bytes() const;
  /// Writes the model. `automatic` keeps tensors in a second file when the source does, or they would not fit into one.
  /// At `path` is either what was there or the whole new model, even after a power cut. Returns the bytes of its files.
  /// Throws Error(failure) when it cannot be written, Error(input) for a file of the source, whose weights would be
  /// lost.
  std::uint64_t save(const std::filesystem::path& path, ExternalData external = ExternalData::automatic) const;

  struct Content;
  explicit Conversion(std::shared_ptr<const Content> content) : content_(std::move(content)) {}

 private:
  std::shared_ptr<const Content> content_;
};

/// Makes the operators' schemas known to the process, which else the first model that is opened does (some 10 ms).
void load_schemas();

/// Names of inputs, outputs, nodes and initializers are kept, and metadata, and the operator set unless bf16 needs a
/// newer one. The same model and options give the same bytes; converting the result again changes nothing.
/// Throws Error(input) when the model is not valid or an option names what is not there.
Conversion convert(const ModelFile& model, const ConvertOptions& options = {});

}  // namespace halfstep
