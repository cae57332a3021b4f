// An optimizer's update as kernels over a list of parameters, from the expressions of its row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "executors/cudnn/kernel_text.h"
#include <halfstep/base/dtype.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::cudnn {

/// The types of one parameter's tensors: of the parameter, its gradient and its slots, and of the next parameter and
/// slots. Slots that no parameter has are left out.
struct UpdateTypes {
  std::vector<DType> in, out;
  DType copy = DType::undefined;  ///< of the next parameter; undefined if none has one
};

/// Sums over whole parameters that an update is made from, those that need no other ones first: each is summed over
/// chunks (`gather`), then over the chunks of a parameter (`join`).
struct SumTexts {
  KernelText gather, join;
  std::size_t bytes = 0;  ///< of what is gathered of a chunk
};

struct UpdateTexts {
  std::vector<SumTexts> sums;
  KernelText update;
  std::size_t sum_count = 0;  ///< numbers in ListArguments::sums for each parameter
};

/// Nothing where the update depends on a parameter's shape, or is made of more than elementwise operators and sums over
/// all of a parameter.
std::optional<UpdateTexts> update_texts(const OptimizerDef& row, const Hyperparameters& h, const UpdateTypes& types);

/// Whether every update by that row has kernels.
bool has_update_texts(const OptimizerDef& row);

}  // namespace halfstep::cudnn
