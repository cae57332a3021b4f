#include "executors/onednn/kernels/then_epilogue.h"

namespace halfstep::onednn {
namespace {

simd::UnaryOp simd_op(ops::Epilogue::Kind kind) {
  switch (kind) {
    case ops::Epilogue::Kind::none:
      return simd::UnaryOp::identity;
    case ops::Epilogue::Kind::relu:
      return simd::UnaryOp::relu;
    case ops::Epilogue::Kind::clip:
      return simd::UnaryOp::clip;
    case ops::Epilogue::Kind::gelu:
      return simd::UnaryOp::gelu;
    case ops::Epilogue::Kind::gelu_tanh:
      return simd::UnaryOp::gelu_tanh;
  }
  return simd::UnaryOp::identity;
}

}  // namespace

simd::UnaryKernel epilogue_kernel(const ops::Epilogue& last, DType dtype) {
  return last ? simd::find_unary(simd_op(last.kind), dtype, {.alpha = last.min, .beta = last.max})
              : simd::UnaryKernel();
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
