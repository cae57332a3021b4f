#include <nlohmann/json.hpp>

#include "base/json_numbers.h"
#include "base/printable.h"
#include <halfstep/conversion/report.h>
#include <halfstep/graph/precision.h>

namespace halfstep {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const FloatRange& range, DType half) {
  Json json = {{"max", range.max},
               {"min_non_zero", range.min_non_zero},
               {"elements", range.count()},
               {"zeros", range.zeros},
               {"infinities", range.infinities},
               {"nans", range.nans},
               {"below_smallest_normal", range.below_normal(half)},
               {"flushed_to_zero", range.flushed(half)}};
  Json histogram = Json::object();  // power of two → number of elements of magnitude [2^e, 2^(e+1))
  for (std::size_t e = 1; e < range.exponents.size(); ++e)
    if (range.exponents[e] > 0) histogram[std::to_string(static_cast<int>(e) - 127)] = range.exponents[e];
  json["histogram"] = std::move(histogram);
  return json;
}

}  // namespace

std::string report_json(const ConversionReport& report) {
  Json json = {{"model", report.model},
               {"precision", precision_name(report.half)},
               {"bytes_before", report.bytes_before},
               {"bytes_after", report.bytes_after},
               {"opset_before", report.opset_before},
               {"opset_after", report.opset_after},
               {"casts_before", report.casts_before},
               {"casts_after", report.casts_after},
               {"half_nodes", report.half_nodes()},
               {"f32_nodes", report.f32_nodes()},
               {"warnings", report.warnings},
               {"notes", report.notes}};
  Json nodes = Json::array();
  for (const NodeReport& node : report.nodes) {
    Json entry = {{"name", node.name}, {"op", node.op}};
    if (!node.graph.empty()) entry["graph"] = node.graph;
    entry["precision"] = node.half ? precision_name(report.half) : node.has_floats ? "fp32" : "none";
    entry["reason"] = node.reason;
    entry["inputs"] = node.inputs;
    entry["outputs"] = node.outputs;
    nodes.push_back(std::move(entry));
  }
  json["nodes"] = std::move(nodes);
  Json boundary = Json::array();
  for (const BoundaryReport& value : report.boundary) {
    Json entry = {{"name", value.name},
                  {"kind", value.is_input ? "input" : "output"},
                  {"precision", precision_name(value.half ? report.half : DType::f32)}};
    if (!value.reason.empty()) entry["reason"] = value.reason;
    boundary.push_back(std::move(entry));
  }
  json["inputs_and_outputs"] = std::move(boundary);
  Json tensors = Json::array();
  for (const TensorReport& tensor : report.tensors) {
    Json entry = {{"name", tensor.name}, {"kind", tensor.is_constant ? "constant" : "activation"}};
    if (tensor.is_constant) {
      entry["types"] = tensor.types;
      entry["bytes_before"] = tensor.bytes_before;
      entry["bytes_after"] = tensor.bytes_after;
      if (tensor.limit > 0) entry["clamped_to"] = tensor.limit;
    }
    entry["range"] = to_json(tensor.range, report.half);
    tensors.push_back(std::move(entry));
  }
  json["tensors"] = std::move(tensors);
  if (!report.errors.empty()) {
    Json errors = Json::array();
    for (const OutputError& error : report.errors)
      errors.push_back({{"output", error.name},
                        {"max_error", error.max_error},
                        {"mean_error", error.mean_error},
                        {"max_value", error.max_value},
                        {"non_finite", error.non_finite},
                        {"relative_error", error.relative()}});
    json["errors"] = std::move(errors);
  }
  name_non_finite(json);
  return json_text(json, 1) + "\n";
}

}  // namespace halfstep
