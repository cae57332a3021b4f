// Kernels of formulas of two operands: arrays, and either operand a scalar.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/binary.cpp"
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/formula-inl.h"
#include "executors/onednn/simd/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

template <class F, class T>
void array_array(const void* a, const void* b, void* y, std::int64_t n, ElementwiseParams params) {
  using To = Result<F, T>;
  const T* left = static_cast<const T*>(a);
  const T* right = static_cast<const T*>(b);
  To* to = static_cast<To*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) {
    write(apply<F>(params, Floats(read(left + i, count)), Floats(read(right + i, count))), to + i, count);
  });
}

template <class F, class T>
void scalar_array(const void* a, const void* b, void* y, std::int64_t n, ElementwiseParams params) {
  using To = Result<F, T>;
  const Floats left = constant(static_cast<float>(*static_cast<const T*>(a)));
  const T* right = static_cast<const T*>(b);
  To* to = static_cast<To*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) {
    write(apply<F>(params, left, Floats(read(right + i, count))), to + i, count);
  });
}

template <class F, class T>
void array_scalar(const void* a, const void* b, void* y, std::int64_t n, ElementwiseParams params) {
  using To = Result<F, T>;
  const T* left = static_cast<const T*>(a);
  const Floats right = constant(static_cast<float>(*static_cast<const T*>(b)));
  To* to = static_cast<To*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) {
    write(apply<F>(params, Floats(read(left + i, count)), right), to + i, count);
  });
}

/// A half type by way of f32. Steps are 0 or 1.
template <class T>
HWY_NOINLINE void range_of_halves(BinaryFn fn, const T* a, std::int64_t step_a, const T* b, std::int64_t step_b, T* y,
                                  std::int64_t n, ElementwiseParams params) {
  HWY_ALIGN float left[kTile];
  HWY_ALIGN float right[kTile];
  for (std::int64_t begin = 0; begin < n; begin += kTile) {
    const std::int64_t count = HWY_MIN(kTile, n - begin);
    map_array<T, float>(a + step_a * begin, left, step_a ? count : 1, [](V v) { return v; });
    map_array<T, float>(b + step_b * begin, right, step_b ? count : 1, [](V v) { return v; });
    fn(left, right, step_a ? left : right, count, params);
    map_array<float, T>(step_a ? left : right, y + begin, count, [](V v) { return v; });
  }
}
template <BinaryFn fn, class T, bool moves_a, bool moves_b>
void halves(const void* a, const void* b, void* y, std::int64_t n, ElementwiseParams params) {
  range_of_halves(fn, static_cast<const T*>(a), moves_a, static_cast<const T*>(b), moves_b, static_cast<T*>(y), n,
                  params);
}

template <class F, class T>
constexpr BinaryKernel::Rows rows() {
  if constexpr (std::is_same_v<T, float> || F::row.is_light)
    return {&array_array<F, T>, &scalar_array<F, T>, &array_scalar<F, T>};
  else
    return {&halves<array_array<F, float>, T, true, true>, &halves<scalar_array<F, float>, T, false, true>,
            &halves<array_scalar<F, float>, T, true, false>};
}

struct ByType {
  BinaryKernel::Rows f32 = {}, f16 = {}, bf16 = {};
};
template <class F>
constexpr ByType by_type_of() {
  if constexpr (is_of_floats<F, 2>())
    return {rows<F, float>(), rows<F, halfstep::f16>(), rows<F, halfstep::bf16>()};
  else
    return {};
}

constexpr ByType kKernels[] = {
#define HALFSTEP_SIMD_BINARY(Name) by_type_of<formulas::Name>(),
    HALFSTEP_FORMULAS(HALFSTEP_SIMD_BINARY)
#undef HALFSTEP_SIMD_BINARY
};

BinaryKernel::Rows find(ops::Formula formula, DType dtype) {
  const ByType& kernels = kKernels[static_cast<std::size_t>(formula)];
  if (dtype == DType::f32) return kernels.f32;
  return dtype == DType::f16 ? kernels.f16 : dtype == DType::bf16 ? kernels.bf16 : BinaryKernel::Rows();
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
BinaryKernel::Rows find_binary_rows(ops::Formula formula, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(find)(formula, dtype);
}
}  // namespace halfstep::simd
#endif
