#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/conformance/report.h>

namespace halfstep {

std::string_view name_of(CheckKind kind) {
  switch (kind) {
    case CheckKind::program:
      return "program";
    case CheckKind::training:
      return "training";
    case CheckKind::gradient:
      return "gradient";
    case CheckKind::execution:
      return "execution";
    case CheckKind::onnx_case:
      return "onnx";
    case CheckKind::special:
      return "special";
    case CheckKind::statistics:
      return "statistics";
    case CheckKind::mutation:
      return "mutation";
  }
  return "unknown";
}

CheckKind parse_check_kind(std::string_view name) {
  for (CheckKind kind : {CheckKind::program, CheckKind::training, CheckKind::gradient, CheckKind::execution,
                         CheckKind::special, CheckKind::onnx_case, CheckKind::statistics, CheckKind::mutation})
    if (name == name_of(kind)) return kind;
  throw_input_error("a kind of check: program, training, gradient, execution, special, onnx, statistics, mutation",
                    fmt::format("'{}'", name), "check --kind");
}

std::string_view name_of(CheckResult result) {
  switch (result) {
    case CheckResult::passed:
      return "passed";
    case CheckResult::failed:
      return "failed";
    case CheckResult::not_applicable:
      return "not applicable";
  }
  return "unknown";
}

std::string describe(const CheckReport& report) {
  if (report.kind == CheckKind::onnx_case) return report.case_name;
  std::string text = fmt::format("{}, {}", report.case_name, name_of(report.kind));
  return report.dtype == DType::undefined ? text : fmt::format("{} in {}", text, name_of(report.dtype));
}

}  // namespace halfstep
