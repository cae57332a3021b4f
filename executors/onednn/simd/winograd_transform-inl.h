// Winograd's algorithm: sums of few products over sliding windows, by fewer multiplications. Included by the sources
// that Highway's foreach_target.h compiles several times, hence the guard that toggles.
#if defined(HALFSTEP_SIMD_WINOGRAD_TRANSFORM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFSTEP_SIMD_WINOGRAD_TRANSFORM_INL_H
#undef HALFSTEP_SIMD_WINOGRAD_TRANSFORM_INL_H
#else
#define HALFSTEP_SIMD_WINOGRAD_TRANSFORM_INL_H
#endif

#include "executors/onednn/simd/unrolled-inl.h"
#include "executors/onednn/simd/vector-inl.h"
#include "executors/onednn/simd/winograd.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {

/// F(2, r), two outputs y of a kernel w of r taps over r + 1 elements x: y = kResult ((kKernel w) * (kData x)), with *
/// element by element. Each output depends on those products alone that have just elements of its window, so that no
/// element reaches another window's output, however large.
struct Winograd3 {
  static constexpr int kTaps = 3, kPoints = 4;
  static constexpr float kData[kPoints][kPoints] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, 1, -1, 0}, {0, 1, 0, -1}};
  static constexpr float kKernel[kPoints][kTaps] = {{1, 0, 0}, {.5, .5, .5}, {-.5, .5, -.5}, {0, 0, 1}};
  static constexpr float kResult[kWinogradTile][kPoints] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
};

/// By the values of polynomials at 0, 5/8, -5/8, 3/2, -3/2 and infinity: errors of 0, 1, -1, 2, -2 would be twice as
/// large.
struct Winograd5 {
  static constexpr int kTaps = 5, kPoints = 6;
  static constexpr float kData[kPoints][kPoints] = {
      {225 / 256.F, 0, -169 / 64.F, 0, 1, 0},      {0, -45 / 32.F, -9 / 4.F, 5 / 8.F, 1, 0},
      {0, 45 / 32.F, -9 / 4.F, -5 / 8.F, 1, 0},    {0, -75 / 128.F, -25 / 64.F, 3 / 2.F, 1, 0},
      {0, 75 / 128.F, -25 / 64.F, -3 / 2.F, 1, 0}, {0, 225 / 256.F, 0, -169 / 64.F, 0, 1}};
  static constexpr float kKernel[kPoints][kTaps] = {
      {256 / 225.F, 0, 0, 0, 0},
      {-2048 / 2975.F, -256 / 595.F, -32 / 119.F, -20 / 119.F, -25 / 238.F},
      {-2048 / 2975.F, 256 / 595.F, -32 / 119.F, 20 / 119.F, -25 / 238.F},
      {128 / 1071.F, 64 / 357.F, 32 / 119.F, 48 / 119.F, 72 / 119.F},
      {128 / 1071.F, -64 / 357.F, 32 / 119.F, -48 / 119.F, 72 / 119.F},
      {0, 0, 0, 0, 1}};
  static constexpr float kResult[kWinogradTile][kPoints] = {{1, 1, 1, 1, 1, 0},
                                                            {0, 5 / 8.F, -5 / 8.F, 3 / 2.F, -3 / 2.F, 1}};
};

/// A matrix of an algorithm: kRows x kColumns factors.
template <class A>
struct DataMatrix {
  static constexpr int kRows = A::kPoints, kColumns = A::kPoints;
  static constexpr float factor(int row, int column) { return A::kData[row][column]; }
};
template <class A>
struct KernelMatrix {
  static constexpr int kRows = A::kPoints, kColumns = A::kTaps;
  static constexpr float factor(int row, int column) { return A::kKernel[row][column]; }
};
template <class A>
struct ResultMatrix {
  static constexpr int kRows = kWinogradTile, kColumns = A::kPoints;
  static constexpr float factor(int row, int column) { return A::kResult[row][column]; }
};
template <class M>
struct Transposed {
  static constexpr int kRows = M::kColumns, kColumns = M::kRows;
  static constexpr float factor(int row, int column) { return M::factor(column, row); }
};

/// The sum of factor(kRow, j) get(j) over j >= kColumn, and `sum` where kIsSum says that it has begun.
template <class M, int kRow, int kColumn, bool kIsSum, class Get>
HWY_INLINE V row_sum(V sum, const Get& get) {
  if constexpr (kColumn == M::kColumns) {
    return sum;
  } else {
    constexpr float f = M::factor(kRow, kColumn);
    constexpr std::integral_constant<int, kColumn> column;
    if constexpr (f == 0) {
      return row_sum<M, kRow, kColumn + 1, kIsSum>(sum, get);
    } else {
      V next;
      if constexpr (f == 1)
        next = kIsSum ? hn::Add(sum, get(column)) : get(column);
      else if constexpr (f == -1)
        next = kIsSum ? hn::Sub(sum, get(column)) : hn::Neg(get(column));
      else if constexpr (kIsSum)
        next = hn::MulAdd(hn::Set(F32(), f), get(column), sum);
      else
        next = hn::Mul(hn::Set(F32(), f), get(column));
      return row_sum<M, kRow, kColumn + 1, true>(next, get);
    }
  }
}

/// M from M', of squares of numbers.
template <class M>
HWY_INLINE void transform(const V (&from)[M::kColumns * M::kColumns], V (&to)[M::kRows * M::kRows]) {
  constexpr int kRows = M::kRows, kColumns = M::kColumns;
  V middle[kRows * kColumns];
  unrolled<kColumns>([&](auto column) __attribute__((always_inline)) {
    unrolled<kRows>([&](auto row) __attribute__((always_inline)) {
      middle[row * kColumns + column] = row_sum<M, row(), 0, false>(
          hn::Zero(F32()), [&](auto j) __attribute__((always_inline)) { return from[j * kColumns + column]; });
    });
  });
  unrolled<kRows>([&](auto row) __attribute__((always_inline)) {
    unrolled<kRows>([&](auto column) __attribute__((always_inline)) {
      to[row * kRows + column] = row_sum<M, column(), 0, false>(
          hn::Zero(F32()), [&](auto j) __attribute__((always_inline)) { return middle[row * kColumns + j]; });
    });
  });
}

}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
