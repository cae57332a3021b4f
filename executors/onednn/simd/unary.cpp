// Kernels of formulas of one operand.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/unary.cpp"
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/formula-inl.h"
#include "executors/onednn/simd/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

template <class F, class T>
void range(const void* x, void* y, std::int64_t n, ElementwiseParams params) {
  using To = Result<F, T>;
  const T* from = static_cast<const T*>(x);
  To* to = static_cast<To*>(y);
  for_vectors(
      n, [&](std::int64_t i, auto count) { write(apply<F>(params, Floats(read(from + i, count))), to + i, count); });
}

/// A half type by way of f32.
template <class T>
HWY_NOINLINE void range_of_halves(UnaryFn fn, const T* x, T* y, std::int64_t n, ElementwiseParams params) {
  HWY_ALIGN float tile[kTile];
  for (std::int64_t begin = 0; begin < n; begin += kTile) {
    const std::int64_t count = HWY_MIN(kTile, n - begin);
    map_array<T, float>(x + begin, tile, count, [](V v) { return v; });
    fn(tile, tile, count, params);
    map_array<float, T>(tile, y + begin, count, [](V v) { return v; });
  }
}
template <class F, class T>
void halves(const void* x, void* y, std::int64_t n, ElementwiseParams params) {
  range_of_halves(&range<F, float>, static_cast<const T*>(x), static_cast<T*>(y), n, params);
}

struct ByType {
  UnaryFn f32 = nullptr, f16 = nullptr, bf16 = nullptr;
};
template <class F>
constexpr ByType by_type_of() {
  if constexpr (!is_of_floats<F, 1>())
    return {};
  else if constexpr (F::row.is_light)
    return {&range<F, float>, &range<F, halfstep::f16>, &range<F, halfstep::bf16>};
  else
    return {&range<F, float>, &halves<F, halfstep::f16>, &halves<F, halfstep::bf16>};
}

constexpr ByType kKernels[] = {
#define HALFSTEP_SIMD_UNARY(Name) by_type_of<formulas::Name>(),
    HALFSTEP_FORMULAS(HALFSTEP_SIMD_UNARY)
#undef HALFSTEP_SIMD_UNARY
};

UnaryFn find(ops::Formula formula, DType dtype) {
  const ByType& kernels = kKernels[static_cast<std::size_t>(formula)];
  return dtype == DType::f32    ? kernels.f32
         : dtype == DType::f16  ? kernels.f16
         : dtype == DType::bf16 ? kernels.bf16
                                : nullptr;
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
UnaryFn find_unary_range(ops::Formula formula, DType dtype) { return HWY_DYNAMIC_DISPATCH(find)(formula, dtype); }
}  // namespace halfstep::simd
#endif
