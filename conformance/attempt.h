// How every check makes its report. Internal to conformance.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include <halfstep/conformance/report.h>

namespace halfstep {

/// `report`, failed where `check(report)` gives what is wrong, or throws it.
template <class Check>
CheckReport attempt(CheckReport report, const Check& check) {
  std::string fault;
  try {
    fault = check(report);
  } catch (const std::exception& e) {
    fault = e.what();
  }
  if (fault.empty()) return report;
  report.result = CheckResult::failed;
  report.message = std::move(fault);
  return report;
}

/// Ends a check that does not apply.
inline std::string leave_out(CheckReport& report, std::string why) {
  report.result = CheckResult::not_applicable;
  report.message = std::move(why);
  return {};
}

}  // namespace halfstep
