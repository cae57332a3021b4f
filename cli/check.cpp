// halfstep check: is what this machine computes right? Every operator, against finite differences and the reference.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "executors/conformance/executor_check.h"
#include "executors/conformance/gradient_check.h"
#include "graph/error.h"

namespace halfstep::cli {
namespace {

struct CheckFlags {
  ExecutorFlags executor;
  std::string op = "*", kind, dtype;
  int index = -1;  // every case
  bool as_json = false;
};

// What was run, and what there is nothing to run for.
struct Summary {
  std::vector<CheckReport> reports;
  std::vector<std::string> without_cases;

  std::size_t count(CheckResult result) const {
    std::size_t n = 0;
    for (const CheckReport& report : reports) n += report.result == result;
    return n;
  }
};

// The call that repeats this one check.
std::string repeat_command(const CheckReport& report, const CheckFlags& flags) {
  std::string command =
      fmt::format("halfstep check --op {} --case {} --kind {}", report.op, report.index, name_of(report.kind));
  if (report.kind == CheckKind::gradient) return command;
  command += fmt::format(" --dtype {}", name_of(report.dtype));
  return command + (flags.executor.plugin.empty() ? " --executor " + flags.executor.executor
                                                  : fmt::format(" --plugin '{}'", flags.executor.plugin));
}

std::vector<DType> checked_types(const CheckFlags& flags) {
  if (flags.dtype.empty()) return {std::begin(kCheckedTypes), std::end(kCheckedTypes)};
  const DType dtype = dtype_from_name(flags.dtype);
  if (!is_float(dtype))
    throw_input_error("--dtype f32, f16, bf16 or f64", fmt::format("'{}'", flags.dtype), "name one of them");
  return {dtype};
}

Summary run_checks(const CheckFlags& flags, Executor& executor) {
  const std::vector<DType> types = checked_types(flags);
  const bool gradients = flags.kind.empty() || parse_check_kind(flags.kind) == CheckKind::gradient;
  const bool executions = flags.kind.empty() || parse_check_kind(flags.kind) == CheckKind::execution;
  Summary summary;
  bool matched = false;
  for (const OpDef* op : op_table()) {
    const std::string name = qualified_name(*op);
    if (fnmatch(flags.op.c_str(), name.c_str(), 0) != 0) continue;
    matched = true;
    if (op->cases.empty()) summary.without_cases.push_back(name);
    for (std::size_t i = 0; i < op->cases.size(); ++i) {
      if (flags.index >= 0 && static_cast<std::size_t>(flags.index) != i) continue;
      if (gradients) summary.reports.push_back(check_gradient(*op, i));
      if (!executions) continue;
      for (DType dtype : types) summary.reports.push_back(check_execution(*op, i, dtype, executor));
    }
  }
  if (!matched)
    throw_input_error("--op as the name of an operator, or a pattern that matches one", fmt::format("'{}'", flags.op),
                      "operators of the own domain are written ai.halfstep.NAME");
  if (summary.reports.empty() && flags.index >= 0)
    throw_input_error(fmt::format("a case of {}", flags.op), fmt::format("--case {}", flags.index),
                      "leave --case out to run all there are");
  return summary;
}

void print_text(const Summary& summary, const CheckFlags& flags, std::string_view executor) {
  for (const CheckReport& report : summary.reports) {
    if (report.ok()) continue;
    fmt::print("FAILED {} case {}, {} in {}: {}\n  {}\n", report.op, report.index, name_of(report.kind),
               name_of(report.dtype), report.message, repeat_command(report, flags));
  }
  if (!summary.without_cases.empty())
    fmt::print("Operators without a case: {}\n", fmt::join(summary.without_cases, ", "));
  fmt::print("{} checks on {}: {} passed, {} failed, {} not applicable\n", summary.reports.size(), executor,
             summary.count(CheckResult::passed), summary.count(CheckResult::failed),
             summary.count(CheckResult::not_applicable));
}

void print_json(const Summary& summary, const CheckFlags& flags, std::string_view executor) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const CheckReport& report : summary.reports) {
    nlohmann::ordered_json check{{"op", report.op},
                                 {"case", report.index},
                                 {"kind", name_of(report.kind)},
                                 {"dtype", name_of(report.dtype)},
                                 {"result", name_of(report.result)}};
    if (!report.message.empty()) check["message"] = report.message;
    if (!report.ok()) check["repeat"] = repeat_command(report, flags);
    checks.push_back(std::move(check));
  }
  const nlohmann::ordered_json all{{"executor", executor},
                                   {"passed", summary.count(CheckResult::passed)},
                                   {"failed", summary.count(CheckResult::failed)},
                                   {"not_applicable", summary.count(CheckResult::not_applicable)},
                                   {"without_cases", summary.without_cases},
                                   {"checks", std::move(checks)}};
  fmt::print("{}\n", all.dump(2));
}

}  // namespace

void add_check(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "check",
      "Runs every operator's cases: gradient rules against finite differences, the executor against the reference.");
  auto flags = std::make_shared<CheckFlags>();
  flags->executor.add_to(*command);
  command->add_option("--op", flags->op, "operators whose name matches this shell pattern")->type_name("PATTERN");
  command->add_option("--case", flags->index, "this case of each operator alone, counted from 0")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--kind", flags->kind, "gradient or execution alone");
  command->add_option("--dtype", flags->dtype, "execution in this element type alone");
  command->add_flag("--json", flags->as_json, "as JSON");
  command->callback([flags, &exit_code] {
    const std::unique_ptr<Executor> executor = flags->executor.open();
    const Summary summary = run_checks(*flags, *executor);
    (flags->as_json ? print_json : print_text)(summary, *flags, executor->name());
    if (summary.count(CheckResult::failed) > 0) exit_code = 1;
  });
}

}  // namespace halfstep::cli
