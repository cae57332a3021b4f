#include "executors/onednn/kernels/then_epilogue.h"

#include "ops/epilogue_formula.h"

namespace halfstep::onednn {

simd::UnaryKernel epilogue_kernel(const ops::Epilogue& last, DType dtype) {
  const auto formula = ops::formula_of(last);
  return formula ? simd::find_unary(*formula, dtype, {.alpha = last.min, .beta = last.max}) : simd::UnaryKernel();
}

Bind then(Bind run, const ops::Epilogue& last, const Operand& result) {
  if (!last) return run;
  return in_sequence(
      std::move(run),
      [=, kernel = epilogue_kernel(last, result.dtype), n = result.stored()](const Memory& memory) -> Run {
        return [=, values = memory.at(result)] { kernel(values, values, n); };
      });
}

}  // namespace halfstep::onednn
