#include "executors/conformance/executor_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "graph/error.h"

namespace halfstep {
namespace {

double precision_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-10;
    case DType::bf16:
      return 0x1p-7;
    case DType::f64:
      return 0x1p-52;
    default:
      return 0x1p-23;
  }
}

double tolerance_of(DType dtype, std::int64_t largest_operand) {
  const double accumulator = dtype == DType::f64 ? 0x1p-52 : 0x1p-23;
  return 4 * precision_of(dtype) + static_cast<double>(largest_operand) * accumulator;
}

std::vector<Tensor> run_on(Executor& executor, const ConformanceCase& c) {
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(c.graph, *store);
  for (std::size_t i = 0; i < c.inputs.size(); ++i)
    if (c.inputs[i].bytes() > 0) std::memcpy(program->input(i).raw(), c.inputs[i].raw(), c.inputs[i].bytes());
  program->run();
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < c.graph.outputs.size(); ++i) outputs.push_back(program->output(i).clone());
  return outputs;
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

std::string compare(const std::string& name, const Tensor& found, const Tensor& wanted, double tolerance) {
  if (found.dtype() != wanted.dtype() || found.shape() != wanted.shape())
    return fmt::format("output '{}' is {}{}, and {}{} on the reference executor", name, name_of(found.dtype()),
                       found.shape().to_string(), name_of(wanted.dtype()), wanted.shape().to_string());
  if (!is_float(wanted.dtype())) {
    if (identical(found, wanted)) return {};
    return fmt::format("output '{}' of type {} differs from the reference executor's", name, name_of(wanted.dtype()));
  }
  const std::vector<double> a = to_doubles(found), b = to_doubles(wanted);
  double largest = 0;
  for (double x : b)
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (same(a[i], b[i]) || std::fabs(a[i] - b[i]) <= tolerance * largest) continue;
    return fmt::format("output '{}', element {}: {:.9g}, and {:.9g} on the reference executor (allowed: {:.3g})", name,
                       i, a[i], b[i], tolerance * largest);
  }
  return {};
}

void check(const OpDef& op, Executor& executor, CheckReport& report) {
  const std::optional<ConformanceCase> made = make_case(op, report.index, report.dtype);
  if (!made) {
    report.result = CheckResult::not_applicable;
    report.message = fmt::format("the case does not exist in {}", name_of(report.dtype));
    return;
  }
  std::int64_t largest_operand = 1;
  for (const Value& value : made->graph.values)
    if (value.shape.is_static()) largest_operand = std::max(largest_operand, value.shape.count());

  const std::vector<Tensor> wanted = run_on(*make_reference_executor(), *made);
  const std::vector<Tensor> found = run_on(executor, *made);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::string& name = made->graph[made->graph.outputs[i]].name;
    report.message = compare(name, found[i], wanted[i], tolerance_of(wanted[i].dtype(), largest_operand));
    if (report.message.empty()) continue;
    report.result = CheckResult::failed;
    return;
  }
}

}  // namespace

CheckReport check_execution(const OpDef& op, std::size_t index, DType dtype, Executor& executor) {
  CheckReport report{
      .op = qualified_name(op), .index = index, .kind = CheckKind::execution, .dtype = dtype, .message = {}};
  try {
    check(op, executor, report);
  } catch (const std::exception& e) {
    report.result = CheckResult::failed;
    report.message = e.what();
  }
  return report;
}

}  // namespace halfstep
