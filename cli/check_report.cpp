#include "cli/check_report.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/printable.h"
#include "cli/common.h"

namespace halfstep::cli {
namespace {

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string junit_case(const CheckReport& report, const CheckSummary& summary) {
  const std::string name = report.dtype == DType::undefined
                               ? report.case_name
                               : fmt::format("{} {}", report.case_name, name_of(report.dtype));
  std::string xml = fmt::format("    <testcase classname=\"{}.{}\" name=\"{}\"", escape_markup(summary.executor),
                                name_of(report.kind), escape_markup(name));
  if (report.result == CheckResult::passed) return xml + "/>\n";
  if (report.result == CheckResult::not_applicable)
    return xml + fmt::format("><skipped message=\"{}\"/></testcase>\n", escape_markup(one_line(report.message)));
  return xml + fmt::format("><failure message=\"{}\">{}</failure></testcase>\n",
                           escape_markup(one_line(report.message)), escape_markup(summary.repeat_command(report)));
}

struct KernelCounts {
  std::size_t own = 0, mixed = 0, reference = 0;
};

KernelCounts count_kernels(const CheckSummary& summary) {
  KernelCounts counts;
  for (const CheckReport& report : summary.reports) {
    if (report.kernels.empty()) continue;
    const bool falls_back = report.kernels.find("reference") != std::string::npos;
    ++(!falls_back ? counts.own : report.kernels == "reference" ? counts.reference : counts.mixed);
  }
  return counts;
}

}  // namespace

std::size_t CheckSummary::count(CheckResult result) const {
  return static_cast<std::size_t>(
      std::count_if(reports.begin(), reports.end(), [&](const CheckReport& r) { return r.result == result; }));
}

void print_failure(const CheckReport& report, const CheckSummary& summary) {
  print_out("FAILED {}: {}\n  {}\n", describe(report), one_line(report.message), summary.repeat_command(report));
}

void print_summary(const CheckSummary& summary) {
  std::map<std::string, std::size_t> reasons;
  for (const CheckReport& report : summary.reports) {
    if (report.kind != CheckKind::onnx_case || report.message.empty()) continue;
    if (report.result == CheckResult::not_applicable) ++reasons[one_line(report.message)];
    if (report.result == CheckResult::passed) print_out("{}: {}\n", report.case_name, one_line(report.message));
  }
  for (const auto& [reason, count] : reasons)
    print_out("n/a {} {}, {}\n", count, count == 1 ? "case" : "cases", reason);
  if (!summary.without_cases.empty()) print_out("Operators without a case: {}\n", joined(summary.without_cases));
  if (const KernelCounts kernels = count_kernels(summary); kernels.own + kernels.mixed > 0)
    print_out("Kernels of {}: {} checks on its own, {} on the reference executor's, {} on both\n", summary.executor,
              kernels.own, kernels.reference, kernels.mixed);
  print_out("{} checks on {}: {} passed, {} failed, {} not applicable\n", summary.reports.size(), summary.executor,
            summary.count(CheckResult::passed), summary.count(CheckResult::failed),
            summary.count(CheckResult::not_applicable));
}

void print_json(const CheckSummary& summary) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const CheckReport& report : summary.reports) {
    nlohmann::ordered_json check{{"op", report.op}, {"case", report.case_name}, {"kind", name_of(report.kind)}};
    if (report.dtype != DType::undefined) check["dtype"] = name_of(report.dtype);
    check["result"] = name_of(report.result);
    if (!report.message.empty()) check["message"] = report.message;
    if (!report.kernels.empty()) check["kernels"] = report.kernels;
    if (!report.ok()) check["repeat"] = summary.repeat_command(report);
    checks.push_back(std::move(check));
  }
  const nlohmann::ordered_json all{{"executor", summary.executor},
                                   {"passed", summary.count(CheckResult::passed)},
                                   {"failed", summary.count(CheckResult::failed)},
                                   {"not_applicable", summary.count(CheckResult::not_applicable)},
                                   {"without_cases", summary.without_cases},
                                   {"checks", std::move(checks)}};
  print_json(all);
}

void write_junit(const CheckSummary& summary, const std::string& path) {
  std::map<CheckKind, std::vector<const CheckReport*>> suites;
  for (const CheckReport& report : summary.reports) suites[report.kind].push_back(&report);
  auto count = [](const std::vector<const CheckReport*>& reports, CheckResult result) {
    return std::count_if(reports.begin(), reports.end(), [&](const CheckReport* r) { return r->result == result; });
  };
  const std::size_t without_cases = summary.without_cases.size();
  std::string xml = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"halfstep check\" tests=\"{}\" failures=\"{}\">\n",
      summary.reports.size() + without_cases, summary.count(CheckResult::failed) + without_cases);
  for (const auto& [kind, reports] : suites) {
    xml +=
        fmt::format("  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n", name_of(kind),
                    reports.size(), count(reports, CheckResult::failed), count(reports, CheckResult::not_applicable));
    for (const CheckReport* report : reports) xml += junit_case(*report, summary);
    xml += "  </testsuite>\n";
  }
  if (without_cases > 0) {
    xml += fmt::format("  <testsuite name=\"cases\" tests=\"{0}\" failures=\"{0}\">\n", without_cases);
    for (const std::string& op : summary.without_cases)
      xml += fmt::format(
          "    <testcase classname=\"cases\" name=\"{}\"><failure message=\"no case in the table\"/></testcase>\n",
          escape_markup(op));
    xml += "  </testsuite>\n";
  }
  write_atomically(path, xml + "</testsuites>\n");
}

}  // namespace halfstep::cli
