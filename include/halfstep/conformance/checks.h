// The list of all checks of an executor, run by `halfstep check` and GoogleTest (gtest.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/conformance/report.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// One check, not yet run.
struct Check {
  CheckReport about;  ///< identifies the check in reports
  std::function<CheckReport(Executor&)> run;
};

/// A check that takes longer is considered hanging; its caller may end the process.
inline constexpr unsigned kLongestCheckSeconds = 300;

/// Selection of checks; patterns are shell globs.
struct CheckSelection {
  std::string op = "*";  ///< of operators; `program` and `training` checks belong to none
  std::string case_name = "*";
  std::optional<CheckKind> kind = {};
  std::optional<DType> dtype = {};  ///< instead of the types of each check
  std::size_t random = 2;           ///< random variations of each case
  std::uint64_t seed = 0;
};

/// In this order: programs, training, then for each operator gradients, execution (as written, enlarged and with
/// random variations), special values, statistics.
std::vector<Check> list_checks(const CheckSelection& selection = {});

/// The group that a check is run with: "program", "training" or the name of an operator.
std::string group_of(const Check& check);
/// The groups of list_checks(), in order.
std::vector<std::string> check_groups();
/// The checks of list_checks() in this group.
std::vector<Check> checks_of(const std::string& group);

}  // namespace halfstep
