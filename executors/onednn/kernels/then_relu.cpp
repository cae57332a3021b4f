#include "executors/onednn/kernels/then_relu.h"

#include "executors/onednn/simd/elementwise.h"

namespace halfstep::onednn {

Bind then_relu(Bind run, const Operand& result) {
  const simd::UnaryKernel relu = simd::find_unary(simd::UnaryOp::relu, result.dtype);
  return in_sequence(std::move(run), [=, n = result.stored()](const Memory& memory) -> Run {
    return [=, values = memory.at(result)] { relu(values, values, n); };
  });
}

}  // namespace halfstep::onednn
