// What attention does with rows of scores between its products.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/attention.cpp"
#include "executors/onednn/simd/attention.h"

#include <algorithm>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

std::int64_t seen_by(const ScoreRows& s, std::int64_t row) {
  return s.first < 0 ? s.keys : std::min(s.keys, s.first + row);
}

/// f(the score of keys i to i + count, i, count) along what a row sees.
template <class F>
HWY_INLINE void for_scores(const ScoreRows& s, std::int64_t row, const F& f) {
  const float* scores = s.scores + row * s.keys;
  const std::int64_t seen = seen_by(s, row);
  const V scale = constant(s.scale);
  if (!s.mask) {
    for_vectors(seen, [&](std::int64_t i, auto count) { f(hn::Mul(read(scores + i, count), scale), i, count); });
  } else if (s.mask_column == 0) {
    const V mask = constant(s.mask[row * s.mask_row]);
    for_vectors(seen,
                [&](std::int64_t i, auto count) { f(hn::MulAdd(read(scores + i, count), scale, mask), i, count); });
  } else {
    const float* mask = s.mask + row * s.mask_row;
    for_vectors(seen, [&](std::int64_t i, auto count) {
      f(hn::MulAdd(read(scores + i, count), scale, read(mask + i, count)), i, count);
    });
  }
}

template <class T>
HWY_INLINE void clear(T* row, std::int64_t from, std::int64_t to) {
  std::fill(row + std::min(from, to), row + to, T(0.0F));
}

template <class T>
void score_softmax(const ScoreRows& s, void* p, float* statistics) {
  const F32 d;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    float* scores = s.scores + r * s.keys;
    T* to = static_cast<T*>(p) + r * s.keys;
    const std::int64_t seen = seen_by(s, r);
    V top = constant(-kInfinity);
    for_scores(s, r, [&](V x, std::int64_t i, auto count) {
      write(x, scores + i, count);
      top = hn::Max(top, keep(x, count, -kInfinity));
    });
    top = hn::MaxOfLanes(d, top);
    const V sum = sum_over(seen, [&](std::int64_t i, auto count) {
      const V e = decaying_exp(hn::Sub(read(scores + i, count), top));
      write(e, scores + i, count);
      return e;
    });
    const V factor = hn::Div(constant(1), sum);
    for_vectors(seen,
                [&](std::int64_t i, auto count) { write(hn::Mul(read(scores + i, count), factor), to + i, count); });
    clear(to, seen, s.keys);
    statistics[r] = hn::GetLane(hn::Add(top, log(sum)));
  }
}

template <class T>
void score_grad(const ScoreRows& s, const float* dp, const float* statistics, void* p, void* ds) {
  for (std::int64_t r = 0; r < s.rows; ++r) {
    float* scores = s.scores + r * s.keys;
    const float* up = dp + r * s.keys;
    T* to = static_cast<T*>(p) + r * s.keys;
    T* down = static_cast<T*>(ds) + r * s.keys;
    const V logarithm = constant(statistics[r]), scale = constant(s.scale);
    // Probabilities are divided by their sum again: beside a large maximum, as of a row that is masked as a whole, the
    // logarithm of the forward sum is lost in the statistics.
    V total = constant(0), sum = constant(0);
    for_scores(s, r, [&](V x, std::int64_t i, auto count) {
      const V e = decaying_exp(hn::Sub(x, logarithm));
      write(e, scores + i, count);
      total = hn::Add(total, keep(e, count));
      sum = hn::Add(sum, keep(hn::Mul(e, read(up + i, count)), count));
    });
    const V factor = hn::Div(constant(1), hn::SumOfLanes(F32(), total));
    const V mean = hn::Mul(hn::SumOfLanes(F32(), sum), factor);
    const std::int64_t seen = seen_by(s, r);
    for_vectors(seen, [&](std::int64_t i, auto count) {
      const V e = hn::Mul(read(scores + i, count), factor);
      const V centred = hn::Mul(hn::Sub(read(up + i, count), mean), scale);
      write(e, to + i, count);
      write(hn::Mul(e, centred), down + i, count);
    });
    clear(to, seen, s.keys);
    clear(down, seen, s.keys);
  }
}

template <class From, class To>
void row_cast(const void* x, std::int64_t x_row, void* y, std::int64_t y_row, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r)
    map_array<From, To>(static_cast<const From*>(x) + r * x_row, static_cast<To*>(y) + r * y_row, n,
                        [](V v) { return v; });
}

ScoreSoftmaxFn find_softmax_rows(DType type) {
  return by_type(type, []<class T>() { return &score_softmax<T>; });
}
ScoreGradFn find_grad_rows(DType type) {
  return by_type(type, []<class T>() { return &score_grad<T>; });
}
RowCastFn find_widen_rows(DType from) {
  return by_type(from, []<class T>() { return &row_cast<T, float>; });
}
RowCastFn find_narrow_rows(DType to) {
  return by_type(to, []<class T>() { return &row_cast<float, T>; });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find_softmax_rows);
HWY_EXPORT(find_grad_rows);
HWY_EXPORT(find_widen_rows);
HWY_EXPORT(find_narrow_rows);

ScoreSoftmaxFn find_score_softmax(DType p) { return HWY_DYNAMIC_DISPATCH(find_softmax_rows)(p); }
ScoreGradFn find_score_grad(DType p) { return HWY_DYNAMIC_DISPATCH(find_grad_rows)(p); }
RowCastFn find_row_widen(DType from) { return HWY_DYNAMIC_DISPATCH(find_widen_rows)(from); }
RowCastFn find_row_narrow(DType to) { return HWY_DYNAMIC_DISPATCH(find_narrow_rows)(to); }

}  // namespace halfstep::simd
#endif
