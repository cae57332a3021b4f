// Dropout with counter-based random numbers, and dropout that drops nothing.
#include "executors/onednn/simd/dropout.h"

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/simd_kernel.h"
#include "executors/onednn/simd/elementwise.h"

namespace halfstep::onednn {

Made make_dropout(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const DType dtype = context.in(0).dtype;
  const simd::DropoutKernel kernel =
      simd::find_dropout(dtype, {attributes.get_int("seed", 0), attributes.get_int("stream", 0)});
  if (!kernel) return refuse(fmt::format("no SIMD kernel for {}", name_of(dtype)));
  // An element's random number is found by its row-major index.
  const Operand x = context.read(0, Layout()), ratio = context.read(1, Layout(), DType::f32),
                counter = context.read(2, Layout());
  const Operand y = context.has_output(0) ? context.write_over(0, x) : Operand();
  const Operand mask = context.write(1, Layout());
  const BufferId unused = y ? kNoBuffer : context.scratch(x.bytes());
  return {"simd", {}, [=, n = x.stored()](const Memory& memory) -> Run {
            return [=, from = memory.at(x), to = y ? memory.at(y) : memory.at(unused), m = memory.as<bool>(mask),
                    r = memory.as<const float>(ratio),
                    c = memory.as<const std::int64_t>(counter)] { kernel(from, to, m, n, *r, *c); };
          }};
}

Made make_idle_dropout(KernelContext& context) {
  const bool is_off = !context.has_input(2) || context.constant_scalar(2) == 0.0 || context.constant_scalar(1) == 0.0;
  if (!is_off) return refuse("ONNX's stream of random numbers");
  const auto ratio = context.has_input(1) ? context.constant_scalar(1) : 0.5;
  if (!ratio || !(*ratio >= 0 && *ratio < 1)) return refuse("a ratio that is computed, or not in [0, 1)");
  if (context.has_output(1)) return refuse("a mask");
  const DType dtype = context.in(0).dtype;
  const simd::UnaryKernel copy = simd::find_cast(dtype, dtype);
  if (!is_float(dtype) || !copy) return refuse(fmt::format("no SIMD kernel for {}", name_of(dtype)));
  const Operand from = context.read(0), to = context.write_over(0, from);
  if (from.buffer == to.buffer) return {"alias", {}, {}};
  return simd_kernel([=, n = from.stored()](auto* a, auto* b) { copy(a, b, n); }, from, to);
}

}  // namespace halfstep::onednn
