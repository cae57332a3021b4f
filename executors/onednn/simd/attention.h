// What attention does with rows of scores between its products; on the calling thread, computed in f32.
#pragma once

#include <cstdint>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// Rows of scores, the products of queries and keys, and what is added to them.
struct ScoreRows {
  float* scores;  ///< contiguous rows
  std::int64_t rows, keys;
  float scale;
  const float* mask;                   ///< nullptr: none
  std::int64_t mask_row, mask_column;  ///< its strides; that from key to key is 0 or 1
  std::int64_t first;                  ///< row r sees first + r keys at most; less than 0: all
};

/// The probabilities of the rows, into `p` (which may be the scores) as rows of `keys`; `statistics` become the
/// logarithms of the sums they were divided by.
using ScoreSoftmaxFn = void (*)(const ScoreRows& s, void* p, float* statistics);
/// The probabilities again, by their statistics, into `p`, and into `ds` the gradient of the products: p (dp - the sum
/// of p dp) scale. `p` may be the scores, `ds` may be `dp`.
using ScoreGradFn = void (*)(const ScoreRows& s, const float* dp, const float* statistics, void* p, void* ds);
/// Rows in another type; rows begin `x_row`, `y_row` elements apart.
using RowCastFn = void (*)(const void* x, std::int64_t x_row, void* y, std::int64_t y_row, std::int64_t rows,
                           std::int64_t n);

/// nullptr unless the type is f32, f16 or bf16.
ScoreSoftmaxFn find_score_softmax(DType probabilities);
ScoreGradFn find_score_grad(DType probabilities);
RowCastFn find_row_widen(DType from);  ///< to f32
RowCastFn find_row_narrow(DType to);   ///< from f32

}  // namespace halfstep::simd
