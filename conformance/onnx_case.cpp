#include "conformance/onnx_case.h"

#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "conformance/attempt.h"
#include "conformance/run_graph.h"
#include "onnx_io/unsupported.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr double kRelative = 1e-3, kAbsolute = 1e-7;
const std::set<std::string> kRandomOperators = {"Bernoulli",        "Multinomial",   "RandomNormal",
                                                "RandomNormalLike", "RandomUniform", "RandomUniformLike"};
constexpr double kBfloat16Relative = 0x1p-6;  // two units of its precision, as in ONNX's suite

/// A case whose outputs in the file are further from the exact ones than its tolerance, so that a result that is right
/// may be outside.
struct RoughCase {
  std::string_view name;
  double relative;  ///< what is allowed instead
  const char* reason;
};
constexpr RoughCase kRoughCases[] = {
    {"test_attention_4d_causal_fp16_expanded", 2 * 0x1p-10,
     "compared to two units of f16: numpy rounded every exponential and sum of the softmax to f16, and is off by more "
     "than the case's 1e-3 itself"}};

/// A case whose outputs say something else than the operator's specification, and than deployed runtimes.
struct OtherReading {
  std::string_view name;
  const char* reason;
};
constexpr const char* kUnroundedExtent =
    "its outputs follow the unrounded extent, where align_corners speaks of the result's length";
constexpr OtherReading kOtherReadings[] = {{"test_resize_downsample_scales_linear_align_corners", kUnroundedExtent},
                                           {"test_resize_downsample_scales_cubic_align_corners", kUnroundedExtent}};

std::string_view last_part(std::string_view name) { return name.substr(name.rfind('/') + 1); }  // all without a '/'

const RoughCase* find_rough_case(std::string_view name) {
  name = last_part(name);
  const auto* const found =
      std::find_if(std::begin(kRoughCases), std::end(kRoughCases), [&](const RoughCase& c) { return c.name == name; });
  return found == std::end(kRoughCases) ? nullptr : found;
}

std::string run_data_set(const Graph& loaded, const OnnxDataSet& data, Executor& executor, const Tolerance& tolerance) {
  const Graph graph = prepare_graph(loaded, data.inputs, executor.capabilities());
  const std::vector<Tensor> found = run_graph(executor, graph, data.inputs);
  if (found.size() != data.outputs.size())
    return fmt::format("{} outputs, and {} in the case", found.size(), data.outputs.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    Tolerance allowed = tolerance;
    if (data.outputs[i].dtype() == DType::bf16) allowed.relative = std::max(allowed.relative, kBfloat16Relative);
    std::string differs = difference(loaded[loaded.outputs[i]].name, found[i], data.outputs[i], allowed, "in the case");
    if (!differs.empty()) return differs;
  }
  return {};
}

// What is wrong; empty when nothing is.
std::string run(const OnnxCase& onnx_case, Executor& executor, CheckReport& report) {
  const Graph graph = onnx_case.load();
  const std::vector<OnnxDataSet> sets = onnx_case.data_sets();
  if (sets.empty()) return "no test_data_set_0 beside the model";
  Tolerance tolerance = tolerance_of(onnx_case);
  const RoughCase* rough = find_rough_case(onnx_case.name());
  if (rough) tolerance.relative = std::max(tolerance.relative, rough->relative);
  for (const OnnxDataSet& data : sets)
    if (std::string fault = run_data_set(graph, data, executor, tolerance); !fault.empty()) return fault;
  if (rough) report.message = rough->reason;
  return {};
}

}  // namespace

std::string not_applicable(const OnnxCase& onnx_case) {
  std::string reason = onnx_case.not_supported();
  if (!reason.empty()) return reason;
  for (const std::string& op : onnx_case.operators())
    if (kRandomOperators.contains(op)) return op + " draws at random";
  for (const OtherReading& other : kOtherReadings)
    if (last_part(onnx_case.name()) == other.name) return other.reason;
  return {};
}

Tolerance tolerance_of(const OnnxCase& onnx_case) {
  std::ifstream file(onnx_case.folder() / "data.json");
  if (!file) return {.absolute = kAbsolute, .relative = kRelative};
  const nlohmann::json data = nlohmann::json::parse(file, nullptr, false);
  if (!data.is_object())
    throw_input_error("a JSON object in data.json", "'" + (onnx_case.folder() / "data.json").string() + "'",
                      "correct the file");
  return {.absolute = data.value("atol", kAbsolute), .relative = data.value("rtol", kRelative)};
}

Graph prepare_graph(Graph graph, const std::vector<Tensor>& inputs, const Capabilities& capabilities) {
  if (graph.inputs.size() != inputs.size())
    throw_input_error(fmt::format("{} inputs, as the model has", graph.inputs.size()), std::to_string(inputs.size()),
                      "correct the case");
  InputShapes shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Value& input = graph[graph.inputs[i]];
    if (inputs[i].dtype() != input.dtype)
      throw_input_error(fmt::format("{} for input '{}'", name_of(input.dtype), input.name),
                        std::string(name_of(inputs[i].dtype())), "correct the case");
    shapes.by_name[input.name] = inputs[i].shape();
  }
  return run_pipeline(std::move(graph),
                      {bind_shapes(std::move(shapes)), fold_constants(), canonicalize(), fold_constants(),
                       eliminate_common_subexpressions(), fuse(capabilities.fusions), remove_dead_nodes()});
}

CheckReport check_onnx_case(const OnnxCase& onnx_case, Executor& executor) {
  const CheckReport empty{.op = fmt::format("{}", fmt::join(onnx_case.operators(), " ")),
                          .case_name = onnx_case.name(),
                          .kind = CheckKind::onnx_case};
  return attempt(empty, [&](CheckReport& report) {
    if (std::string why = not_applicable(onnx_case); !why.empty()) return leave_out(report, std::move(why));
    try {
      return run(onnx_case, executor, report);
    } catch (const Error& e) {
      if (e.required() != kSupportedModel) throw;
      return leave_out(report, not_in_table(onnx_case.operators_without_row()));
    }
  });
}

}  // namespace halfstep
