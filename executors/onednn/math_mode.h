// What primitives that are being made compute products of f32 in.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>

#include <halfstep/executors/fp32_math.h>

namespace halfstep::onednn {

/// Of the calling thread: as the innermost scope says, f32 without one.
dnnl::fpmath_mode math_mode();

/// Primitives are described in it.
class Fp32MathScope {
 public:
  explicit Fp32MathScope(Fp32Math math);
  ~Fp32MathScope();
  Fp32MathScope(const Fp32MathScope&) = delete;
  Fp32MathScope& operator=(const Fp32MathScope&) = delete;

 private:
  dnnl::fpmath_mode before_;
};

}  // namespace halfstep::onednn
