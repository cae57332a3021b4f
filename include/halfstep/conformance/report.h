// What a check found.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>

namespace HALFSTEP_API halfstep {

/// What was held against what.
enum class CheckKind {
  program,     ///< what an executor promises of stores and of programs that run again and again (executors/executor.h)
  training,    ///< ten steps of a small model, losses and parameters against the reference executor's
  gradient,    ///< the gradient rule against finite differences, in f64 on the reference executor
  execution,   ///< an operator on an executor against the reference executor
  onnx_case,   ///< an executor against the outputs that an ONNX test case brings along
  special,     ///< an operator where operands hold NaN, infinities, -0 and subnormal numbers
  statistics,  ///< an executor's random draws against the distribution they should come from
  mutation,    ///< an executor against the reference executor on an ONNX test case that was changed at random
};
std::string_view name_of(CheckKind kind);
/// Throws Error listing the kinds there are.
CheckKind parse_check_kind(std::string_view name);

enum class CheckResult { passed, failed, not_applicable };
std::string_view name_of(CheckResult result);

/// The outcome of one check of one case.
struct CheckReport {
  std::string op;  ///< with its domain when that is not ai.onnx; those of a model, separated by spaces
  /// "Relu/0" (case 0 of the row), "Relu/0/large" and "Relu/0/odd" (with larger extents), "Relu/0/17" (random draw 17
  /// of it), "node/test_relu", "Dropout/statistics", "program/states_move", "training/mlp"
  std::string case_name;
  CheckKind kind = CheckKind::gradient;
  DType dtype = DType::undefined;  ///< the type that stands for f32 in the case; undefined: the case has its own types
  CheckResult result = CheckResult::passed;
  std::string message = {};  ///< what differed, why the check does not apply, or with what reservation it passed
  /// Families of the kernels it ran on: "simd", "onednn, reference"; empty where it asked no executor.
  std::string kernels = {};

  bool ok() const { return result != CheckResult::failed; }
};

/// "Relu/0, gradient in f64"
std::string describe(const CheckReport& report);

}  // namespace halfstep
