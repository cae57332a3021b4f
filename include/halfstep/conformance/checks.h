// Every check there is for an executor, as a list: what `halfstep check` and GoogleTest (gtest.h) run.
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
  CheckReport about;  ///< what its report will be called
  std::function<CheckReport(Executor&)> run;
};

/// A check that takes longer hangs: who runs it may end the process.
inline constexpr unsigned kLongestCheckSeconds = 300;

/// Which of them; patterns are a shell's.
struct CheckSelection {
  std::string op = "*";  ///< of operators; programs and models that are trained are of none
  std::string case_name = "*";
  std::optional<CheckKind> kind = {};
  std::optional<DType> dtype = {};  ///< in place of those that a check is run in
  std::size_t random = 2;           ///< random variations of each case
  std::uint64_t seed = 0;
};

/// In this order: programs, training, then operator by operator gradients, execution (as written, enlarged and varied
/// at random), special values, statistics.
std::vector<Check> list_checks(const CheckSelection& selection = {});

/// What checks are run together: "program", "training" or the name of an operator.
std::string group_of(const Check& check);
/// The groups of list_checks(), in order.
std::vector<std::string> check_groups();
/// The checks of list_checks() that are of this group.
std::vector<Check> checks_of(const std::string& group);

}  // namespace halfstep
