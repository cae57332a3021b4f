// The table of optimizers.
#include "ops/optimizers/rows.h"

namespace halfstep {

std::span<const OptimizerDef> optimizers() {
  using namespace ops;
  static const OptimizerDef rows[] = {adam(),    adamw(), sgd(),       lion(),   rmsprop(),
                                      adagrad(), lamb(),  adafactor(), adamax(), nadam()};
  return rows;
}

}  // namespace halfstep
