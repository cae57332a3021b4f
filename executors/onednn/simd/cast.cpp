// Conversion of arrays between the float types, from integers and bool to any type, and from f32 to bool.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/cast.cpp"
#include <type_traits>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/kernels.h"
#include "executors/onednn/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

template <class From, class To>
void between_floats(const void* x, void* y, std::int64_t n, ElementwiseParams) {
  map_array<From, To>(x, y, n, [](V v) { return v; });
}

/// From integers and bool, or to bool. To a half type integers beyond 2^24 are rounded to f32 first.
template <class From, class To>
void one_by_one(const void* x, void* y, std::int64_t n, ElementwiseParams) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for (std::int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<To, bool>)
      to[i] = from[i] != 0;
    else if constexpr (std::is_integral_v<To>)
      to[i] = static_cast<To>(from[i]);
    else
      to[i] = To(static_cast<float>(from[i]));
  }
}

template <class To>
UnaryFn find_from_integers(DType from) {
  switch (from) {
    case DType::boolean:
    case DType::u8:
      return &one_by_one<std::uint8_t, To>;
    case DType::i32:
      return &one_by_one<std::int32_t, To>;
    case DType::i64:
      return &one_by_one<std::int64_t, To>;
    default:
      return nullptr;
  }
}

template <class To>
UnaryFn find_to(DType from) {
  const UnaryFn of_floats = by_type(from, []<class From>() -> UnaryFn { return &between_floats<From, To>; });
  return of_floats ? of_floats : find_from_integers<To>(from);
}

UnaryFn find(DType from, DType to) {
  switch (to) {
    case DType::i32:
      return find_from_integers<std::int32_t>(from);
    case DType::i64:
      return find_from_integers<std::int64_t>(from);
    case DType::boolean:
      return from == DType::f32 ? &one_by_one<float, bool> : find_from_integers<bool>(from);
    default:
      return by_type(to, [from]<class To>() { return find_to<To>(from); });
  }
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
