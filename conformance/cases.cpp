#include "conformance/cases.h"

#include <fmt/format.h>

#include "base/philox.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

void change_attributes(Node& node, DType to) {
  const Attributes before = node.attributes;
  for (const auto& [name, value] : before) {
    if (const auto* tensor = std::get_if<Tensor>(&value); tensor && tensor->dtype() == DType::f32)
      node.attributes.set(name, convert(*tensor, to));
    // Finite differences would see an f32 in the middle as a staircase.
    const auto* type = std::get_if<std::int64_t>(&value);
    if (to == DType::f64 && type && (name == "to" || name == "dtype") && *type == static_cast<std::int64_t>(DType::f32))
      node.attributes.set(name, static_cast<std::int64_t>(to));
  }
}

Graph with_type(const Graph& source, DType to, bool constants) {
  Graph graph = source;
  if (to != DType::f32) {
    for (Value& value : graph.values) {
      if (value.is_constant()) {
        if (constants && value.dtype == DType::f32) {
          value.constant = convert(value.constant, to);
          value.dtype = to;
        }
      }
    }
    for (ValueId in : graph.inputs)
      if (graph[in].dtype == DType::f32) graph[in].dtype = to;
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
      const Graph::Edit node = graph.edit(n);
      change_attributes(*node, to);
    }
  }
  for (const Node& node : graph.nodes) {
    for (ValueId out : node.outputs) {
      if (out == kNoValue) continue;
      graph[out].dtype = DType::undefined;
      graph[out].shape = Shape::unranked();
    }
  }
  infer_graph(graph);
  return graph;
}

bool has_type(const Graph& graph, DType dtype) {
  for (const Value& value : graph.values)
    if (value.dtype == dtype) return true;
  return false;
}

}  // namespace

Graph parse_case(std::string_view text, std::string_view domain) {
  std::string domains =
      fmt::format("\"\": {}, \"{}\": {}, \"ai.onnx.preview.training\": 1", kOnnxOpset, kOwnDomain, kOwnOpset);
  if (domains.find(fmt::format("\"{}\"", domain)) == std::string::npos) domains += fmt::format(", \"{}\": 1", domain);
  return parse_model(fmt::format("<ir_version: 10, opset_import: [{}]> case {}", domains, text)).graph;
}

std::string qualified_name(const OpDef& op) {
  return op.domain.empty() ? std::string(op.name) : fmt::format("{}.{}", op.domain, op.name);
}

std::string case_name(const OpDef& op, std::size_t index) { return fmt::format("{}/{}", qualified_name(op), index); }

Tensor draw_uniform(DType dtype, const Shape& shape, double low, double high, std::uint64_t seed) {
  Tensor wide(DType::f64, shape);
  for (std::size_t i = 0; i < wide.span<double>().size(); ++i) {
    const PhiloxCounter bits = philox4x32_10({static_cast<std::uint32_t>(i / 4), 0, 0, 0}, philox_key(seed));
    wide.data<double>()[i] = low + (high - low) * (bits[i % 4] + 0.5) * 0x1p-32;
  }
  return convert(wide, dtype);
}

std::optional<ConformanceCase> make_case(const OpDef& op, std::size_t index, DType dtype) {
  if (index >= op.cases.size())
    throw_input_error(fmt::format("a case of {} ({} in all, counted from 0)", qualified_name(op), op.cases.size()),
                      std::to_string(index), "check --case");
  const OpCase& op_case = op.cases[index];
  const Graph source = with_type(parse_case(op_case.text, op.domain), DType::f32, true);
  // Without an f32 in it the case is about other types, and there is just one form of it.
  if (dtype != DType::f32 && !has_type(source, DType::f32)) return std::nullopt;

  ConformanceCase result;
  try {
    result.graph = with_type(source, dtype, true);
  } catch (const Error&) {
    try {
      result.graph = with_type(source, dtype, false);
    } catch (const Error&) {
      return std::nullopt;
    }
  }
  for (std::size_t i = 0; i < result.graph.inputs.size(); ++i) {
    const Value& input = result.graph[result.graph.inputs[i]];
    if (!is_float(input.dtype) && input.dtype != dtype)
      throw_input_error("a case whose inputs are floats",
                        fmt::format("'{}' of type {}", input.name, name_of(input.dtype)),
                        "make it an initializer of the case");
    result.inputs.push_back(draw_uniform(input.dtype, input.shape, op_case.low, op_case.high, i + 1));
  }
  return result;
}

}  // namespace halfstep
