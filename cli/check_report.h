// The results of `halfstep check` as text, JSON and JUnit XML.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <halfstep/conformance/report.h>

namespace halfstep::cli {

struct CheckSummary {
  std::string executor;
  std::vector<CheckReport> reports;
  std::vector<std::string> without_cases;  ///< operators without cases
  /// The command that repeats a single check.
  std::function<std::string(const CheckReport&)> repeat_command;

  std::size_t count(CheckResult result) const;
  bool ok() const { return count(CheckResult::failed) == 0 && without_cases.empty(); }
};

/// One line for a failed check, and one with the command that repeats it.
void print_failure(const CheckReport& report, const CheckSummary& summary);
/// ONNX cases that do not apply, by reason; operators without cases; the families of kernels used; the counts.
void print_summary(const CheckSummary& summary);
void print_json(const CheckSummary& summary);
/// A <testsuite> for each kind of check, in the form read by Jenkins, GitLab and GitHub actions. Throws Error(failure)
/// if the file cannot be written.
void write_junit(const CheckSummary& summary, const std::string& path);

}  // namespace halfstep::cli
