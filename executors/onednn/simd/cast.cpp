// Conversion of arrays between the float types, and from integers and bool.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/cast.cpp"
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/kernels.h"
#include "executors/onednn/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

template <class From, class To>
void between_floats(const void* x, void* y, std::int64_t n, ElementwiseParams) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) { write(read(from + i, count), to + i, count); });
}

/// Integers beyond 2^24 are rounded to f32 first.
template <class From, class To>
void from_integers(const void* x, void* y, std::int64_t n, ElementwiseParams) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for (std::int64_t i = 0; i < n; ++i) to[i] = To(static_cast<float>(from[i]));
}

template <class To>
UnaryFn find_to(DType from) {
  switch (from) {
    case DType::f32:
      return &between_floats<float, To>;
    case DType::f16:
      return &between_floats<f16, To>;
    case DType::bf16:
      return &between_floats<bf16, To>;
    case DType::boolean:
    case DType::u8:
      return &from_integers<std::uint8_t, To>;
    case DType::i32:
      return &from_integers<std::int32_t, To>;
    case DType::i64:
      return &from_integers<std::int64_t, To>;
    default:
      return nullptr;
  }
}

UnaryFn find(DType from, DType to) {
  return by_type(to, [from]<class To>() { return find_to<To>(from); });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
UnaryFn find_cast_range(DType from, DType to) { return HWY_DYNAMIC_DISPATCH(find)(from, to); }
}  // namespace halfstep::simd
#endif
