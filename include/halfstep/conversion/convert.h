// Converting a model to half precision for inference: f32 weights and computation become f16 or bf16 where this is
// beneficial and safe; the rest of the model is unchanged.
//
//   halfstep::ModelFile model = halfstep::ModelFile::open("model.onnx");
//   halfstep::Conversion conversion = halfstep::convert(model, {.half = halfstep::DType::f16, .keep_io_types = true});
//   conversion.save("model_fp16.onnx");
//   for (const std::string& warning : conversion.report().warnings) …
//
// Supports any valid ONNX model, including operators unknown to halfstep, sequences, strings and subgraphs. Nodes
// without a half-precision form stay in f32, with casts around them.
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

/// A model file. Large tensors are read on demand.
class ModelFile {
 public:
  /// Throws Error(input) if there is no ONNX model at `path`, or its external data files do not match.
  static ModelFile open(const std::filesystem::path& path);
  /// From the bytes of an .onnx file without external data.
  static ModelFile from_bytes(std::string_view bytes);
  /// From ONNX's text form.
  static ModelFile parse(std::string_view text);

  /// The external data files.
  const std::vector<std::filesystem::path>& data_files() const;

  struct Content;
  const Content& content() const { return *content_; }
  const std::shared_ptr<const Content>& shared_content() const { return content_; }

 private:
  std::shared_ptr<const Content> content_;
};

/// Selects nodes by operator ("Softmax", "com.microsoft.Gelu"), or by a regular expression (ECMAScript) that must match
/// the whole name of the node. An unnamed node has the name of its first output.
struct NodePattern {
  enum class Kind { op, node };
  Kind kind = Kind::op;
  std::string text;
};
/// Parses "op:Softmax,node:/encoder/.*": a comma-separated list (in an expression a comma is written `\,`).
/// Throws Error(input) for any other form and for an invalid expression.
std::vector<NodePattern> parse_node_patterns(std::string_view text);

/// Measured ranges of activations, by the value's name in the model.
using ActivationRanges = std::map<std::string, FloatRange>;

struct ConvertOptions {
  DType half = DType::f16;                      ///< f16 or bf16
  bool keep_io_types = false;                   ///< all inputs and outputs of the model keep their type
  std::vector<std::string> keep_io_names = {};  ///< these inputs and outputs keep their type
  std::vector<NodePattern> keep_f32 = {};       ///< nodes that stay f32; takes precedence over force_half
  std::vector<NodePattern> force_half = {};     ///< nodes that become half even if it is not safe
  /// Model-local functions are kept, and calls of them stay f32. Otherwise they are inlined.
  bool keep_functions = false;
  /// Keeps metadata and doc strings of graphs, nodes, values and tensors. Those of the model are always kept.
  bool keep_metadata = true;
  /// Nodes whose operands or results do not fit into `half` stay f32.
  ActivationRanges measured = {};
};

/// A converted model, not yet written to a file.
class Conversion {
 public:
  const ConversionReport& report() const;

  /// The model as bytes of an .onnx file (at most 2 GB).
  std::string bytes() const;
  /// Writes the model. `automatic` uses a second file for tensors if the source does, or if they do not fit into one.
  /// Afterwards `path` has either its previous contents or the whole new model, even after a power failure. Returns
  /// the total size of its files in bytes. Throws Error(failure) if it cannot be written, Error(input) if it would
  /// overwrite a file of the source, whose weights would be lost.
  std::uint64_t save(const std::filesystem::path& path, ExternalData external = ExternalData::automatic) const;

  struct Content;
  explicit Conversion(std::shared_ptr<const Content> content) : content_(std::move(content)) {}

 private:
  std::shared_ptr<const Content> content_;
};

/// Registers the operators' schemas, which otherwise happens when the first model is opened (some 10 ms).
void load_schemas();

/// Converts a model. Keeps names of inputs, outputs, nodes and initializers, metadata, and the opset unless bf16 needs
/// a newer one. The same model and options give the same bytes; converting the result again changes nothing.
/// Throws Error(input) if the model is invalid or an option names something that does not exist.
Conversion convert(const ModelFile& model, const ConvertOptions& options = {});

}  // namespace halfstep
