// Report of a conversion: decisions and reasons.
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
  std::string op;     ///< with its domain if not ai.onnx
  std::string graph;  ///< "" for the main graph, else the owning node's name and attribute: "loop.body"
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
  std::string reason;  ///< why it stays f32, or possible losses in half; "" for neither
};

struct TensorReport {
  std::string name;
  bool is_constant = false;  ///< an initializer or the value of a Constant node; otherwise measured
  std::string types;         ///< "f16", "f32", or "f16 and f32" if two readers need different types
  FloatRange range;
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< of constants
  double limit = 0;                                 ///< elements beyond it were clamped; 0: none
};

/// Difference between an output of the converted model and that of the source, on the same data.
struct OutputError {
  std::string name;
  double max_error = 0;  ///< largest absolute difference of two elements
  double max_value = 0;  ///< largest magnitude in the source's output
  double mean_error = 0;
  std::uint64_t non_finite = 0;  ///< elements that are infinite or NaN, but finite in the source
  double relative() const { return max_value > 0 ? max_error / max_value : max_error; }
};

struct ConversionReport {
  std::string model;  ///< name of the file, or of the graph if it was not read from a file
  DType half = DType::f16;
  /// Size of all files of the source, and (approximately) of one file with the whole result.
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::int64_t opset_before = 0, opset_after = 0;
  int casts_before = 0, casts_after = 0;
  std::vector<NodeReport> nodes;
  std::vector<BoundaryReport> boundary;
  std::vector<TensorReport> tensors;
  std::vector<std::string> warnings;  ///< possible effects on the result, naming tensors and nodes
  std::vector<std::string> notes;     ///< other changes
  std::vector<OutputError> errors;    ///< if verified

  int half_nodes() const;
  int f32_nodes() const;
  /// Names of the outputs with non-finite elements in `errors`: the conversion overflows on that data.
  std::vector<std::string> overflowing_outputs() const;
};

/// The whole report as JSON.
std::string report_json(const ConversionReport& report);
/// The report as a self-contained HTML page: the graph with its nodes coloured by precision, and a histogram of the
/// range of every tensor.
std::string report_html(const ConversionReport& report);

}  // namespace halfstep
