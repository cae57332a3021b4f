#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "base/enum_names.h"
#include <halfstep/base/error.h>
#include <halfstep/conformance/report.h>

namespace halfstep {

namespace {

constexpr std::string_view kKinds[] = {"program", "training", "gradient",   "execution",
                                       "onnx",    "special",  "statistics", "mutation"};
constexpr std::string_view kResults[] = {"passed", "failed", "not applicable"};

}  // namespace

std::string_view name_of(CheckKind kind) { return name_in(kKinds, kind); }

CheckKind parse_check_kind(std::string_view name) {
  const auto* kind = std::ranges::find(kKinds, name);
  if (kind != std::end(kKinds)) return static_cast<CheckKind>(kind - kKinds);
  throw_input_error("a kind of check: program, training, gradient, execution, special, onnx, statistics, mutation",
                    fmt::format("'{}'", name), "check --kind");
}

std::string_view name_of(CheckResult result) { return name_in(kResults, result); }

std::string describe(const CheckReport& report) {
  if (report.kind == CheckKind::onnx_case) return report.case_name;
  std::string text = fmt::format("{}, {}", report.case_name, name_of(report.kind));
  return report.dtype == DType::undefined ? text : fmt::format("{} in {}", text, name_of(report.dtype));
}

}  // namespace halfstep
