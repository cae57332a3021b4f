#include "executors/onednn/math_mode.h"

namespace halfstep::onednn {
namespace {

thread_local dnnl::fpmath_mode present = dnnl::fpmath_mode::strict;

}  // namespace

dnnl::fpmath_mode math_mode() { return present; }

Fp32MathScope::Fp32MathScope(Fp32Math math) : before_(present) {
  present = math == Fp32Math::bf16 ? dnnl::fpmath_mode::bf16 : dnnl::fpmath_mode::strict;
}
Fp32MathScope::~Fp32MathScope() { present = before_; }

}  // namespace halfstep::onednn
