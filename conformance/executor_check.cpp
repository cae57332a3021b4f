#include "conformance/executor_check.h"

#include <algorithm>

#include "conformance/attempt.h"
#include "conformance/compare.h"
#include "conformance/run_graph.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::int64_t kMostDrawnElements = 1 << 14;

double tolerance_of(DType dtype, std::int64_t largest_operand) {
  const double accumulator = dtype == DType::f64 ? 0x1p-52 : 0x1p-23;
  return 4 * precision_of(dtype) + static_cast<double>(largest_operand) * accumulator;
}

std::int64_t largest_operand(const Graph& graph) {
  std::int64_t largest = 1;
  for (const Value& value : graph.values)
    if (value.shape.is_static()) largest = std::max(largest, value.shape.count());
  return largest;
}

template <class MakeCase>
CheckReport check_made(const CheckReport& empty, Executor& executor, double least_scale, const MakeCase& make) {
  return attempt(empty, [&](CheckReport& report) {
    const std::optional<ConformanceCase> made = make();
    if (!made) return leave_out(report, "the case does not exist in this type, or has no such variation");
    Plan plan;
    std::string fault = execution_difference(made->graph, made->inputs, executor, least_scale, &plan);
    report.kernels = kernel_families(plan, report.op);
    return fault;
  });
}

}  // namespace

double execution_tolerance(const Graph& graph, DType dtype) { return tolerance_of(dtype, largest_operand(graph)); }

std::string execution_difference(const Graph& graph, const std::vector<Tensor>& inputs, Executor& executor,
                                 double least_scale, Plan* plan) {
  const std::vector<Tensor> wanted = run_graph(*make_reference_executor(), graph, inputs);
  CompiledGraph compiled(executor, graph);
  if (plan) *plan = compiled.program().plan();
  const std::vector<Tensor> found = compiled.run(inputs);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    Tolerance tolerance;
    if (is_float(wanted[i].dtype()))
      tolerance.absolute =
          execution_tolerance(graph, wanted[i].dtype()) * std::max(least_scale, largest_element(wanted[i]));
    std::string differs =
        difference(graph[graph.outputs[i]].name, found[i], wanted[i], tolerance, "on the reference executor");
    if (!differs.empty()) return differs;
  }
  return {};
}

CheckReport check_execution(const OpDef& op, std::size_t index, DType dtype, Executor& executor) {
  return check_made(
      {.op = qualified_name(op), .case_name = case_name(op, index), .kind = CheckKind::execution, .dtype = dtype},
      executor, 0, [&] { return make_case(op, index, dtype); });
}

CheckReport check_execution(const OpDef& op, std::size_t index, const Draw& draw, Executor& executor) {
  return check_made({.op = qualified_name(op), .case_name = case_name(op, index, draw), .kind = CheckKind::execution},
                    executor, 1, [&] { return draw_case(op, index, draw, DType::undefined, kMostDrawnElements); });
}

CheckReport check_execution(const OpDef& op, std::size_t index, DType dtype, const Scale& scale, Executor& executor) {
  return check_made({.op = qualified_name(op),
                     .case_name = case_name(op, index, scale),
                     .kind = CheckKind::execution,
                     .dtype = dtype},
                    executor, 1, [&] { return scale_case(op, index, dtype, scale); });
}

}  // namespace halfstep
