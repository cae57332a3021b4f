#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/transpose.cpp"
#include "executors/onednn/simd/transpose.h"

#include <hwy/foreach_target.h>  // must come before the other headers
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

template <class T>
void plain(const T* from, std::int64_t from_step, T* to, std::int64_t to_step, std::int64_t columns,
           std::int64_t rows) {
  for (std::int64_t t = 0; t < columns; ++t)
    for (std::int64_t i = 0; i < rows; ++i) to[t * to_step + i] = from[i * from_step + t];
}

#if HWY_TARGET == HWY_SCALAR
constexpr std::int64_t kSide = 1;

void square(const std::uint16_t* from, std::int64_t, std::uint16_t* to, std::int64_t) { *to = *from; }
#else
namespace hn = hwy::HWY_NAMESPACE;
constexpr std::int64_t kSide = 8;

/// 8 rows of 8: pairs, then fours, then eights of one column come together.
void square(const std::uint16_t* from, std::int64_t from_step, std::uint16_t* to, std::int64_t to_step) {
  const hn::Full128<std::uint16_t> d16;
  const hn::Full128<std::uint32_t> d32;
  const hn::Full128<std::uint64_t> d64;
  const auto interleave = [](auto d, auto a, auto b, auto& low, auto& high) {
    low = hn::InterleaveLower(d, hn::BitCast(d, a), hn::BitCast(d, b));
    high = hn::InterleaveUpper(d, hn::BitCast(d, a), hn::BitCast(d, b));
  };
  const auto row = [&](int i) { return hn::LoadU(d16, from + i * from_step); };
  hn::VFromD<decltype(d16)> pairs[8];  // of rows 2i and 2i + 1: columns 0 to 3, columns 4 to 7
  for (int i = 0; i < 4; ++i) interleave(d16, row(2 * i), row(2 * i + 1), pairs[2 * i], pairs[2 * i + 1]);
  hn::VFromD<decltype(d32)> fours[8];  // of rows 0 to 3, then 4 to 7: columns 0 and 1, 2 and 3, ...
  for (int half = 0; half < 2; ++half)
    for (int side = 0; side < 2; ++side)
      interleave(d32, pairs[4 * half + side], pairs[4 * half + 2 + side], fours[4 * half + 2 * side],
                 fours[4 * half + 2 * side + 1]);
  for (int i = 0; i < 4; ++i) {
    hn::VFromD<decltype(d64)> even, odd;
    interleave(d64, fours[i], fours[4 + i], even, odd);
    hn::StoreU(hn::BitCast(d16, even), d16, to + 2 * i * to_step);
    hn::StoreU(hn::BitCast(d16, odd), d16, to + (2 * i + 1) * to_step);
  }
}
#endif

void tile(std::size_t element_bytes, const void* from, std::int64_t from_step, void* to, std::int64_t to_step,
          std::int64_t columns, std::int64_t rows) {
  const auto of = [&]<class T>(T) {
    plain(static_cast<const T*>(from), from_step, static_cast<T*>(to), to_step, columns, rows);
  };
  switch (element_bytes) {
    case 1:
      return of(std::uint8_t{});
    case 4:
      return of(std::uint32_t{});
    case 8:
      return of(std::uint64_t{});
    default:
      break;
  }
  const auto* source = static_cast<const std::uint16_t*>(from);
  auto* target = static_cast<std::uint16_t*>(to);
  const std::int64_t whole_columns = columns / kSide * kSide, whole_rows = rows / kSide * kSide;
  for (std::int64_t t = 0; t < whole_columns; t += kSide)
    for (std::int64_t i = 0; i < whole_rows; i += kSide)
      square(source + i * from_step + t, from_step, target + t * to_step + i, to_step);
  plain(source + whole_columns, from_step, target + whole_columns * to_step, to_step, columns - whole_columns, rows);
  plain(source + whole_rows * from_step, from_step, target + whole_rows, to_step, whole_columns, rows - whole_rows);
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(tile);
void transpose(std::size_t element_bytes, const void* from, std::int64_t from_step, void* to, std::int64_t to_step,
               std::int64_t columns, std::int64_t rows) {
  HWY_DYNAMIC_DISPATCH(tile)(element_bytes, from, from_step, to, to_step, columns, rows);
}
}  // namespace halfstep::simd
#endif
