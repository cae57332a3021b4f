// Tiles of matrix products, and the packing of their operands.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/gemm_kernels.cpp"
#include "executors/onednn/simd/gemm_kernels.h"

#include <algorithm>
#include <array>
#include <utility>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/unrolled-inl.h"
#include "executors/onednn/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

// Two vectors wide, and as many rows as there are registers for sums beside operands: 16 registers, or 32.
constexpr std::int64_t kRows = HWY_TARGET <= HWY_AVX3 ? 12 : 6;
std::int64_t width() { return 2 * lanes(); }

/// How much of a tile's columns there is: all of both vectors, some, or none of the second.
enum class Wide { whole, partly, first };

/// The first `n` columns of a row.
template <Wide kWide>
HWY_INLINE void read_row(const float* p, std::int64_t n, V& low, V& high) {
  const std::int64_t half = lanes();
  low = kWide != Wide::first || n == half ? load(p) : load_first(p, n);
  if constexpr (kWide == Wide::whole) high = load(p + half);
  if constexpr (kWide == Wide::partly) high = load_first(p + half, n - half);
}
template <Wide kWide, class T>
HWY_INLINE void write_row(V low, V high, T* p, std::int64_t n) {
  const std::int64_t half = lanes();
  if (kWide == Wide::first && n < half) return store_first(low, p, n);
  store(low, p);
  if constexpr (kWide == Wide::whole) store(high, p + half);
  if constexpr (kWide == Wide::partly) store_first(high, p + half, n - half);
}

template <class T, int kM, Wide kWide>
HWY_INLINE void sums(const GemmTile& t, std::int64_t n) {
#define HALFSTEP_ROW [&](auto i) __attribute__((always_inline))
  constexpr bool kBoth = kWide != Wide::first;
  const std::int64_t half = lanes();
  V low[kM], high[kM];
  const float* a[kM];
  unrolled<kM>(HALFSTEP_ROW {
    low[i] = high[i] = hn::Zero(F32());
    a[i] = t.a + i * t.a_row;
  });
  const float* b = t.b;
  const std::int64_t end = t.depth * t.a_step, a_step = t.a_step, b_step = t.b_step;
  for (std::int64_t k = 0; k < end; k += a_step) {
    const V b0 = load(b), b1 = kBoth ? load(b + half) : b0;
    b += b_step;
    unrolled<kM>(HALFSTEP_ROW {
      const V x = hn::Set(F32(), a[i][k]);
      low[i] = hn::MulAdd(x, b0, low[i]);
      if constexpr (kBoth) high[i] = hn::MulAdd(x, b1, high[i]);
    });
  }
  T* y = static_cast<T*>(t.y);
  const std::int64_t y_row = t.y_row, plus_row = t.plus_row;
  const float* plus = t.plus;
  if (!plus) {
    unrolled<kM>(HALFSTEP_ROW { write_row<kWide>(low[i], high[i], y + i * y_row, n); });
  } else if (t.plus_column == 0) {
    unrolled<kM>(HALFSTEP_ROW {
      const V value = hn::Set(F32(), plus[i * plus_row]);
      write_row<kWide>(hn::Add(low[i], value), hn::Add(high[i], value), y + i * y_row, n);
    });
  } else {
    unrolled<kM>(HALFSTEP_ROW {
      V first, second = hn::Zero(F32());
      read_row<kWide>(plus + i * plus_row, n, first, second);
      write_row<kWide>(hn::Add(low[i], first), hn::Add(high[i], second), y + i * y_row, n);
    });
  }
#undef HALFSTEP_ROW
}

template <class T, int kM>
void rows_of(const GemmTile& t, std::int64_t n) {
  if (n == width())
    sums<T, kM, Wide::whole>(t, n);
  else if (n > lanes())
    sums<T, kM, Wide::partly>(t, n);
  else
    sums<T, kM, Wide::first>(t, n);
}

template <class T, int... kM>
constexpr auto by_rows(std::integer_sequence<int, kM...>) {
  return std::array<void (*)(const GemmTile&, std::int64_t), sizeof...(kM)>{&rows_of<T, kM + 1>...};
}
template <class T>
void tile(const GemmTile& t, std::int64_t m, std::int64_t n) {
  static constexpr auto kFunctions = by_rows<T>(std::make_integer_sequence<int, kRows>());
  kFunctions[m - 1](t, n);
}

/// Rows of j: each is spread over all panels, so that its cache lines are read once.
template <class T>
void pack_rows(const T* from, std::int64_t k_step, std::int64_t k, std::int64_t n, std::int64_t wide, float factor,
               float* to) {
  const V by = hn::Set(F32(), factor);
  const std::int64_t step = lanes();
  for (std::int64_t i = 0; i < k; ++i, from += k_step, to += wide) {
    float* panel = to;
    for (std::int64_t begin = 0; begin < n; begin += wide, panel += k * wide) {
      for (std::int64_t j = begin; j < begin + wide; j += step) {
        const V v = j + step <= n ? load(from + j) : j < n ? load_first(from + j, n - j) : hn::Zero(F32());
        const std::int64_t room = begin + wide - j;  // what is beyond is overwritten by the panel's next row
        if (room >= step || i + 1 < k)
          store(hn::Mul(v, by), panel + (j - begin));
        else
          store_first(hn::Mul(v, by), panel + (j - begin), room);
      }
    }
  }
}

using F128 = hn::CappedTag<float, 4>;
#if HWY_TARGET == HWY_SCALAR
constexpr std::int64_t kSide = 1;
#else
constexpr std::int64_t kSide = 4;
#endif

template <class T>
HWY_INLINE hn::Vec<F128> load_four(const T* p) {
  const F128 d;
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadU(d, p);
  } else if constexpr (std::is_same_v<T, bf16>) {
    const hn::RebindToUnsigned<F128> du;
    const hn::Rebind<std::uint16_t, F128> d16;
    return hn::BitCast(d,
                       hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p)))));
  } else {
#if HALFSTEP_CONVERT_LANES
    HWY_ALIGN float values[kSide];
    for (std::int64_t i = 0; i < kSide; ++i) values[i] = static_cast<float>(p[i]);
    return hn::Load(d, values);
#else
    const hn::Rebind<hwy::float16_t, F128> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#endif
  }
}

/// Four k of four j.
template <class T>
HWY_INLINE void pack_square(const T* from, std::int64_t j_step, std::int64_t wide, hn::Vec<F128> factor, float* to) {
  const F128 d;
#if HWY_TARGET == HWY_SCALAR
  hn::StoreU(hn::Mul(load_four(from), factor), d, to);
#else
  const hn::RepartitionToWide<F128> d64;
  hn::Vec<F128> row[4];
  for (int j = 0; j < 4; ++j) row[j] = hn::Mul(load_four(from + j * j_step), factor);
  const auto wider = [&](auto v) { return hn::BitCast(d64, v); };
  const auto low = wider(hn::InterleaveLower(d, row[0], row[1])), high = wider(hn::InterleaveUpper(d, row[0], row[1]));
  const auto low2 = wider(hn::InterleaveLower(d, row[2], row[3])),
             high2 = wider(hn::InterleaveUpper(d, row[2], row[3]));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low, low2)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low, low2)), d, to + wide);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high, high2)), d, to + 2 * wide);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high, high2)), d, to + 3 * wide);
#endif
}

/// Any steps, one element after the other: columns [j_begin, j_end) of rows [k_begin, k_end).
template <class T>
void pack_plain(const T* from, std::int64_t k_step, std::int64_t j_step, std::int64_t k_begin, std::int64_t k_end,
                std::int64_t j_begin, std::int64_t j_end, std::int64_t wide, float factor, float* to) {
  for (std::int64_t j = j_begin; j < j_end; ++j)
    for (std::int64_t k = k_begin; k < k_end; ++k)
      to[k * wide + j] = static_cast<float>(from[k * k_step + j * j_step]) * factor;
}

/// A panel from rows of k, or from any others.
template <class T>
void pack_panel(const T* from, std::int64_t k_step, std::int64_t j_step, std::int64_t k, std::int64_t n,
                std::int64_t wide, float factor, float* to) {
  for (std::int64_t i = 0; n < wide && i < k; ++i) std::fill_n(to + i * wide + n, wide - n, 0.0F);
  if (k_step != 1) return pack_plain(from, k_step, j_step, 0, k, 0, n, wide, factor, to);
  const hn::Vec<F128> by = hn::Set(F128(), factor);
  const std::int64_t whole_k = k / kSide * kSide, whole_n = n / kSide * kSide;
  for (std::int64_t j = 0; j < whole_n; j += kSide)  // few rows at a time: more may lie in one set of the cache
    for (std::int64_t i = 0; i < whole_k; i += kSide)
      pack_square(from + j * j_step + i, j_step, wide, by, to + i * wide + j);
  pack_plain(from, 1, j_step, whole_k, k, 0, whole_n, wide, factor, to);
  pack_plain(from, 1, j_step, 0, k, whole_n, n, wide, factor, to);
}

template <class T>
void pack(const void* from, std::int64_t k_step, std::int64_t j_step, std::int64_t k, std::int64_t n, std::int64_t wide,
          float factor, float* to) {
  const T* source = static_cast<const T*>(from);
  if (j_step == 1) return pack_rows(source, k_step, k, n, wide, factor, to);
  for (std::int64_t j = 0; j < n; j += wide, source += wide * j_step, to += wide * k)
    pack_panel(source, k_step, j_step, k, HWY_MIN(wide, n - j), wide, factor, to);
}

GemmKernels kernels(DType result) {
  const auto function =
      by_type(result, []<class T>() -> void (*)(const GemmTile&, std::int64_t, std::int64_t) { return &tile<T>; });
  return {kRows, width(), function};
}
GemmPack find_pack(DType dtype) {
  return by_type(dtype, []<class T>() -> GemmPack { return &pack<T>; });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(kernels);
HWY_EXPORT(find_pack);
GemmKernels find_gemm_kernels(DType result) { return HWY_DYNAMIC_DISPATCH(kernels)(result); }
GemmPack find_gemm_pack(DType dtype) { return HWY_DYNAMIC_DISPATCH(find_pack)(dtype); }
}  // namespace halfstep::simd
#endif
