// Results of checks.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>

namespace HALFSTEP_API halfstep {

/// Kinds of checks, by what they compare.
enum class CheckKind {
  program,     ///< the contract of stores and of repeatedly run programs (executors/executor.h)
  training,    ///< losses and parameters of ten steps of a small model against the reference executor's
  gradient,    ///< the gradient rule against finite differences, in f64 on the reference executor
  execution,   ///< an operator on an executor against the reference executor
  onnx_case,   ///< an executor against the expected outputs of an ONNX test case
  special,     ///< an operator with operands that contain NaN, infinities, -0 and subnormal numbers
  statistics,  ///< an executor's random numbers against the expected distribution
  mutation,    ///< an executor against the reference executor on a randomly modified ONNX test case
};
std::string_view name_of(CheckKind kind);
/// Throws Error listing the available kinds.
CheckKind parse_check_kind(std::string_view name);

enum class CheckResult { passed, failed, not_applicable };
std::string_view name_of(CheckResult result);

/// The outcome of one check of one case.
struct CheckReport {
  std::string op;  ///< with its domain if not ai.onnx; for a model all operators, separated by spaces
  /// "Relu/0" (case 0 of the row), "Relu/0/large" and "Relu/0/odd" (with larger extents), "Relu/0/17" (random draw 17
  /// of it), "node/test_relu", "Dropout/statistics", "program/states_move", "training/mlp"
  std::string case_name;
  CheckKind kind = CheckKind::gradient;
  DType dtype = DType::undefined;  ///< the type that replaces f32 in the case; undefined: the case has its own types
  CheckResult result = CheckResult::passed;
  std::string message = {};  ///< the difference, why the check does not apply, or a reservation of a passed check
  /// Families of the kernels used: "simd", "onednn, reference"; empty if no executor was used.
  std::string kernels = {};

  bool ok() const { return result != CheckResult::failed; }
};

/// "Relu/0, gradient in f64"
std::string describe(const CheckReport& report);

}  // namespace halfstep
