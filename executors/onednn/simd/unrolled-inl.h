// Loops whose indices are constants. Included by the sources that Highway's foreach_target.h compiles several times,
// hence the guard that toggles.
#if defined(HALFSTEP_SIMD_UNROLLED_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFSTEP_SIMD_UNROLLED_INL_H
#undef HALFSTEP_SIMD_UNROLLED_INL_H
#else
#define HALFSTEP_SIMD_UNROLLED_INL_H
#endif

#include <utility>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {

/// f(0), ..., f(n - 1) with constants, so that arrays are registers from the start.
template <int n, class F>
HWY_INLINE void unrolled(const F& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, i>()), ...);
  }
  (std::make_integer_sequence<int, n>());
}

}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
