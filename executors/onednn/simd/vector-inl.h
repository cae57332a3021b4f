// Vectors of f32 loaded from and stored to f32, f16 and bf16 arrays, compiled once for every instruction set.
// Included by the sources that Highway's foreach_target.h compiles several times, hence the guard that toggles.
#if defined(HALFSTEP_SIMD_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFSTEP_SIMD_VECTOR_INL_H
#undef HALFSTEP_SIMD_VECTOR_INL_H
#else
#define HALFSTEP_SIMD_VECTOR_INL_H
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <hwy/highway.h>

#include <halfstep/base/dtype.h>

// Where the instruction set has no conversion to and from f16 (Highway numbers better sets lower).
#undef HALFSTEP_CONVERT_LANES
#define HALFSTEP_CONVERT_LANES (HWY_TARGET >= HWY_EMU128 || (HWY_ARCH_X86 && HWY_TARGET >= HWY_SSE4))

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::RebindToUnsigned<F32>;
using I32 = hn::RebindToSigned<F32>;
using Half = hn::Rebind<hwy::float16_t, F32>;
using U16 = hn::Rebind<std::uint16_t, F32>;
using V = hn::Vec<F32>;

inline std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(F32())); }

inline V load(const float* p) { return hn::LoadU(F32(), p); }

inline V load(const bf16* p) {
  const auto bits = hn::PromoteTo(U32(), hn::LoadU(U16(), reinterpret_cast<const std::uint16_t*>(p)));
  return hn::BitCast(F32(), hn::ShiftLeft<16>(bits));
}

inline V load(const f16* p) {
#if HALFSTEP_CONVERT_LANES
  HWY_ALIGN float values[HWY_MAX_BYTES / sizeof(float)];
  for (std::int64_t i = 0; i < lanes(); ++i) values[i] = static_cast<float>(p[i]);
  return hn::Load(F32(), values);
#else
  return hn::PromoteTo(F32(), hn::LoadU(Half(), reinterpret_cast<const hwy::float16_t*>(p)));
#endif
}

inline void store(V v, float* p) { hn::StoreU(v, F32(), p); }

inline void store(V v, bf16* p) {
  const U32 du;
  const auto bits = hn::BitCast(du, v);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
  const auto quiet = hn::Or(upper, hn::Set(du, 0x40));
  const auto nan = hn::RebindMask(du, hn::IsNaN(v));
  hn::StoreU(hn::TruncateTo(U16(), hn::IfThenElse(nan, quiet, rounded)), U16(), reinterpret_cast<std::uint16_t*>(p));
}

inline void store(V v, f16* p) {
#if HALFSTEP_CONVERT_LANES
  HWY_ALIGN float values[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, F32(), values);
  for (std::int64_t i = 0; i < lanes(); ++i) p[i] = f16(values[i]);
#else
  hn::StoreU(hn::DemoteTo(Half(), v), Half(), reinterpret_cast<hwy::float16_t*>(p));
#endif
}

/// The first n < lanes() elements at p; the others hold `fill`.
template <class T>
V load_first(const T* p, std::int64_t n, float fill = 0) {
  const F32 d;
  HWY_ALIGN T values[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(values, p, static_cast<std::size_t>(n) * sizeof(T));
  return hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(n)), load(values), hn::Set(d, fill));
}
/// Writes the first n < lanes() elements.
template <class T>
void store_first(V v, T* p, std::int64_t n) {
  HWY_ALIGN T values[HWY_MAX_BYTES / sizeof(float)];
  store(v, values);
  std::memcpy(p, values, static_cast<std::size_t>(n) * sizeof(T));
}
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2  // masked accesses touch nothing outside; Highway's for older sets do
template <>
inline V load_first(const float* p, std::int64_t n, float fill) {
  const F32 d;
  const auto mask = hn::FirstN(d, static_cast<std::size_t>(n));
  return hn::IfThenElse(mask, hn::MaskedLoad(mask, d, p), hn::Set(d, fill));
}
template <>
inline void store_first(V v, float* p, std::int64_t n) {
  const F32 d;
  hn::BlendedStore(v, hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
}
#endif

/// body(i, count) for i = 0, lanes, 2 lanes, ...: count is lanes() but for the last call, where it may be less. `read`
/// and `write` below take such a pair. Both kinds of call compute the same bits for an element.
template <class Body>
HWY_INLINE void for_vectors(std::int64_t n, const Body& body) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= n; i += step) body(i, std::true_type());
  if (i < n) body(i, n - i);
}

template <class T>
HWY_INLINE V read(const T* p, std::true_type, float = 0) {
  return load(p);
}
template <class T>
HWY_INLINE V read(const T* p, std::int64_t count, float fill = 0) {
  return load_first(p, count, fill);
}
template <class T>
HWY_INLINE void write(V v, T* p, std::true_type) {
  store(v, p);
}
template <class T>
HWY_INLINE void write(V v, T* p, std::int64_t count) {
  store_first(v, p, count);
}
/// v where the pair's elements are, `fill` elsewhere.
HWY_INLINE V keep(V v, std::true_type, float = 0) { return v; }
HWY_INLINE V keep(V v, std::int64_t count, float fill = 0) {
  const F32 d;
  return hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(count)), v, hn::Set(d, fill));
}

/// y[i] = f(x[i]).
template <class From, class To, class F>
HWY_INLINE void map_array(const void* x, void* y, std::int64_t n, const F& f) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) { write(f(read(from + i, count)), to + i, count); });
}

/// The sum of term(i, count) over n elements, in every lane. Runs are summed first and their sums then, so that the
/// error grows slowly with n.
template <class Term>
HWY_INLINE V sum_over(std::int64_t n, const Term& term) {
  const std::int64_t length = 64 * lanes();
  V total = hn::Zero(F32());
  for (std::int64_t begin = 0; begin < n; begin += length) {
    V run = hn::Zero(F32());
    for_vectors(HWY_MIN(length, n - begin),
                [&](std::int64_t i, auto count) { run = hn::Add(run, keep(term(begin + i, count), count)); });
    total = hn::Add(total, run);
  }
  return hn::SumOfLanes(F32(), total);
}

/// The value of f for the C++ type of a floating dtype, e.g. `by_type(dtype, []<class T>() { return &loop<T>; })`; null
/// for any other dtype.
template <class F>
auto by_type(DType dtype, const F& f) -> decltype(f.template operator()<float>()) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::bf16:
      return f.template operator()<bf16>();
    default:
      return nullptr;
  }
}

}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
