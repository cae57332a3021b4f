// The operator table as documentation.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// Which kernels of an executor an operator's cases ran on, in f32.
struct KernelNames {
  std::string forward;   ///< "native", "reference", "native, reference"; "–" when no case of it compiles
  std::string backward;  ///< of what the gradient rule writes; "zero", or "–" when there is no rule
};
KernelNames kernel_names(const OpDef& op, Executor& executor);

/// The element types that may stand for f32 in some case of the operator: its schema takes them and the reference
/// executor runs them. Of an operator without such cases, the types its cases have.
std::vector<DType> element_types(const OpDef& op);

/// Versions of the operator that are read, by the operator set that brought them: "7, 13–28".
std::string operator_versions(std::string_view name, std::string_view domain);

/// A Markdown document: all rows in alphabetical order, own operators after ONNX's, and the operators that are gone
/// once a model is read.
std::string operators_markdown(Executor& executor);

}  // namespace halfstep
