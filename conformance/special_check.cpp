#include "conformance/special_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "conformance/attempt.h"
#include "conformance/compare.h"
#include "conformance/executor_check.h"
#include "conformance/gradient_check.h"
#include "conformance/random_choice.h"
#include "conformance/run_graph.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

struct Special {
  const char* name;
  double value;  ///< 0 stands for a subnormal number of the element's type
};
constexpr Special kSpecials[] = {{"NaN", std::numeric_limits<double>::quiet_NaN()},
                                 {"infinity", std::numeric_limits<double>::infinity()},
                                 {"-infinity", -std::numeric_limits<double>::infinity()},
                                 {"-0", -0.0},
                                 {"a subnormal number", 0}};  // the last one

/// The exponent of the least normal number.
int least_exponent(DType dtype) {
  if (dtype == DType::f16) return -14;
  return dtype == DType::f64 ? -1022 : -126;
}

void put(SpecialInputs& to, std::size_t input, std::size_t element, const Special& special) {
  Tensor& tensor = to.inputs[input];
  const double value = special.value == 0 && !std::signbit(special.value)
                           ? std::ldexp(1.5, least_exponent(tensor.dtype()) - 2)
                           : special.value;
  const Tensor one = convert(Tensor::scalar(value), tensor.dtype());
  std::memcpy(static_cast<std::byte*>(tensor.raw()) + element * one.bytes(), one.raw(), one.bytes());
  to.has_nan = to.has_nan || std::isnan(value);
  to.has_infinity = to.has_infinity || std::isinf(value);
}

SpecialInputs copy_of(const std::vector<Tensor>& inputs, std::string what) {
  SpecialInputs copy{.what = std::move(what), .inputs = {}};
  for (const Tensor& input : inputs) copy.inputs.push_back(input.clone());
  return copy;
}

/// The outputs; empty when the executor refuses the inputs.
std::optional<std::vector<Tensor>> try_run(CompiledGraph& graph, const std::vector<Tensor>& inputs) {
  try {
    return graph.run(inputs);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// `found`, with the elements of `wanted` where either is NaN.
Tensor without_nan(const Tensor& found, const Tensor& wanted) {
  if (!is_float(found.dtype()) || found.dtype() != wanted.dtype() || found.shape() != wanted.shape()) return found;
  Tensor result = found.clone();
  const std::vector<double> values = to_doubles(found), others = to_doubles(wanted);
  const std::size_t bytes = bytes_of(found.dtype(), 1);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (std::isnan(values[i]) || std::isnan(others[i]))
      std::memcpy(static_cast<std::byte*>(result.raw()) + i * bytes,
                  static_cast<const std::byte*>(wanted.raw()) + i * bytes, bytes);
  return result;
}

/// The gradients by the rule of a randomly weighted sum of the outputs as a graph whose inputs are the case's, and a
/// zero; empty when there are none.
std::optional<ConformanceCase> gradient_case(const OpDef& op, std::size_t index) {
  if (!op.gradient || op.gradient == no_gradient || !op.cases[index].check_gradient) return std::nullopt;
  std::optional<ConformanceCase> made = make_case(op, index, DType::f32);
  if (!made || made->inputs.empty() || !make_weighted_loss(made->graph, made->inputs, DType::f32)) return std::nullopt;
  made->graph = run_pipeline(std::move(made->graph), {differentiate()});
  Graph& graph = made->graph;
  made->inputs.clear();
  graph.outputs.clear();
  for (const State& state : graph.states) {
    graph.inputs.push_back(state.value);
    made->inputs.push_back(state.initial);
    if (state.gradient != kNoValue && !graph[state.gradient].is_constant()) graph.outputs.push_back(state.gradient);
  }
  graph.states.clear();
  if (graph.outputs.empty()) return std::nullopt;
  return made;
}

std::string check(const OpDef& op, std::size_t index, const ConformanceCase& made, DType dtype, Executor& executor) {
  std::string differs = special_difference(made.graph, made.graph, made.inputs, executor, op.open_nan);
  if (!differs.empty() || dtype != DType::f32) return differs;
  const std::optional<ConformanceCase> gradient = gradient_case(op, index);
  if (!gradient) return {};
  const Graph fused = run_pipeline(gradient->graph, {fold_constants(), fuse(executor.capabilities().fusions)});
  constexpr double kChain = 16;  // a rule may write a dozen nodes, whose roundings add up
  differs = special_difference(gradient->graph, fused, gradient->inputs, executor, op.open_nan, kChain);
  return differs.empty() ? differs : "gradient " + differs;
}

}  // namespace

std::vector<SpecialInputs> special_inputs(const std::vector<Tensor>& inputs, const std::vector<std::string>& names) {
  RandomChoice choice(0, "special values");
  const auto sizes = [&](std::size_t input) {
    return is_float(inputs[input].dtype()) ? static_cast<std::size_t>(inputs[input].count()) : 0;
  };
  std::vector<SpecialInputs> all;
  for (const Special& special : kSpecials) {
    for (std::size_t input = 0; input < inputs.size(); ++input) {
      if (sizes(input) == 0) continue;
      all.push_back(copy_of(inputs, fmt::format("{} in one element of '{}'", special.name, names[input])));
      put(all.back(), input, choice.below(sizes(input)), special);
    }
    for (const char* share : {"half of the", "all"}) {
      const bool every = share == std::string_view("all");
      all.push_back(copy_of(inputs, fmt::format("{} in {} elements", special.name, share)));
      for (std::size_t input = 0; input < inputs.size(); ++input)
        for (std::size_t i = 0; i < sizes(input); ++i)
          if (every || choice.one_in(2)) put(all.back(), input, i, special);
    }
  }
  all.push_back(copy_of(inputs, "a mixture of special numbers"));
  for (std::size_t input = 0; input < inputs.size(); ++input) {
    // Units that multiply bf16 take subnormal numbers for 0 (AVX512-BF16, AMX): with infinity beside them that is NaN.
    const bool flushes = inputs[input].dtype() == DType::bf16;
    const std::span<const Special> specials = std::span(kSpecials).first(std::size(kSpecials) - flushes);
    for (std::size_t i = 0; i < sizes(input); ++i)
      if (choice.one_in(2)) put(all.back(), input, i, choice.of(specials));
  }
  return all;
}

std::string special_difference(const Graph& graph, const Graph& on_executor, const std::vector<Tensor>& inputs,
                               Executor& executor, const OpenNaN& open_nan, double slack) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < inputs.size(); ++i) names.push_back(graph[graph.inputs[i]].name);
  const std::unique_ptr<Executor> reference_executor = make_reference_executor();
  CompiledGraph reference(*reference_executor, graph), other(executor, on_executor);
  for (const SpecialInputs& special : special_inputs(inputs, names)) {
    const auto wanted = try_run(reference, special.inputs), found = try_run(other, special.inputs);
    if (wanted.has_value() != found.has_value())
      return fmt::format("with {}: refused by {} alone", special.what, found ? "the reference executor" : "it");
    if (!wanted) continue;
    const bool open = (special.has_nan && open_nan.with_nan) || (special.has_infinity && open_nan.with_infinity);
    for (std::size_t i = 0; i < wanted->size(); ++i) {
      const Tensor &w = (*wanted)[i], f = open ? without_nan((*found)[i], w) : (*found)[i];
      Tolerance tolerance;
      if (is_float(w.dtype()))
        tolerance.absolute = slack * execution_tolerance(graph, w.dtype()) * largest_element(w) +
                             std::ldexp(1, w.dtype() == DType::f16 ? -24 : least_exponent(w.dtype()));
      const std::string differs =
          difference(graph[graph.outputs[i]].name, f, w, tolerance, "on the reference executor");
      if (!differs.empty()) return fmt::format("with {}: {}", special.what, differs);
    }
  }
  return {};
}

CheckReport check_special(const OpDef& op, std::size_t index, DType dtype, Executor& executor) {
  const CheckReport empty{
      .op = qualified_name(op), .case_name = case_name(op, index), .kind = CheckKind::special, .dtype = dtype};
  return attempt(empty, [&](CheckReport& report) {
    const std::optional<ConformanceCase> made = make_case(op, index, dtype);
    if (!made) return leave_out(report, "the case does not exist in this type");
    if (made->inputs.empty()) return leave_out(report, "the case has no float input");
    std::string fault = check(op, index, *made, dtype, executor);
    report.kernels = kernel_families(CompiledGraph(executor, made->graph).program().plan(), report.op);
    return fault;
  });
}

}  // namespace halfstep
