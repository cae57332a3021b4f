// What a conversion did and why.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/passes/precision/float_range.h>

namespace HALFSTEP_API halfstep {

struct NodeReport {
  std::string name;   ///< of the node, or of its first output
  std::string op;     ///< with its domain when that is not ai.onnx
  std::string graph;  ///< "" for the main graph, else the owner's name and attribute: "loop.body"
  bool has_floats = false;
  bool half = false;
  std::string reason;
  std::vector<std::string> inputs, outputs;  ///< names of values in the source
};

/// An input or output of the model that was f32.
struct BoundaryReport {
  std::string name;
  bool is_input = false;
  bool half = false;
  std::string reason;  ///< why it stays f32, or what may be lost in half; "" for neither
};

struct TensorReport {
  std::string name;
  bool is_constant = false;  ///< an initializer or a Constant node's; otherwise measured
  std::string types;         ///< "f16", "f32", or "f16 and f32" where two readers need two types
  FloatRange range;
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< of constants
  double limit = 0;                                 ///< elements beyond it were clamped to it; 0: none
};

/// The outputs of the converted model against those of the source, on the same data.
struct OutputError {
  std::string name;
  double max_error = 0;  ///< largest difference of two elements
  double max_value = 0;  ///< largest magnitude in the source's output
  double mean_error = 0;
  std::uint64_t non_finite = 0;  ///< elements that are infinite or NaN, and not so in the source
  double relative() const { return max_value > 0 ? max_error / max_value : max_error; }
};

struct ConversionReport {
  std::string model;  ///< name of the file, or of the graph where it was not read from one
  DType half = DType::f16;
  /// Of all files of the source; of one file with all of the result, but for a few bytes.
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::int64_t opset_before = 0, opset_after = 0;
  int casts_before = 0, casts_after = 0;
  std::vector<NodeReport> nodes;
  std::vector<BoundaryReport> boundary;
  std::vector<TensorReport> tensors;
  std::vector<std::string> warnings;  ///< what may matter to the result, naming tensors and nodes
  std::vector<std::string> notes;     ///< what was done besides
  std::vector<OutputError> errors;    ///< when verified

  int half_nodes() const;
  int f32_nodes() const;
  /// Names of the outputs in whose `errors` elements are not finite: the conversion overflows on that data.
  std::vector<std::string> overflowing_outputs() const;
};

/// All of the report.
std::string report_json(const ConversionReport& report);
/// The same as one page that needs nothing else: the graph with its nodes coloured by precision, the range of every
/// tensor as a histogram.
std::string report_html(const ConversionReport& report);

}  // namespace halfstep
