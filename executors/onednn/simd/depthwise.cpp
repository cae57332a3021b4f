// Depthwise convolution: a vector holds channels, which do not mix.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/depthwise.cpp"
#include "executors/onednn/simd/depthwise.h"

#include <algorithm>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

struct Range {
  std::int64_t begin, end;
};
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a > 0 ? (a + b - 1) / b : 0; }

/// The taps of the kernel that fall into the image at this output position.
Range taps_at(const DepthwiseShape& shape, std::size_t axis, std::int64_t out) {
  const std::int64_t first = out * shape.strides[axis] - shape.pads[axis], step = shape.dilations[axis];
  const std::int64_t begin = ceil_div(-first, step), end = ceil_div(shape.in[axis] - first, step);
  return {begin, std::min(end, shape.kernel[axis])};
}
/// The output positions at which this tap falls into the image.
Range outputs_at(const DepthwiseShape& shape, std::size_t axis, std::int64_t tap) {
  const std::int64_t first = tap * shape.dilations[axis] - shape.pads[axis], step = shape.strides[axis];
  const std::int64_t begin = ceil_div(-first, step), end = ceil_div(shape.in[axis] - first, step);
  return {begin, std::min(end, shape.out[axis])};
}

/// kCount neighbouring outputs, all of which have these taps.
template <std::int64_t kCount, class Count>
HWY_INLINE void forward_tile(const DepthwiseShape& shape, const float* x, const float* weights, V bias,
                             const float* residual, float* y, std::int64_t row, std::int64_t column, Range rows,
                             Range columns, Count count) {
  const std::int64_t together = shape.together, stride = shape.strides[1] * together;
  V sum[kCount];
  for (std::int64_t j = 0; j < kCount; ++j)
    sum[j] = residual ? hn::Add(bias, read(residual + j * together, count)) : bias;
  for (std::int64_t kh = rows.begin; kh < rows.end; ++kh) {
    const std::int64_t from_row = row * shape.strides[0] + kh * shape.dilations[0] - shape.pads[0];
    const std::int64_t from_column = column * shape.strides[1] + columns.begin * shape.dilations[1] - shape.pads[1];
    const float* from = x + (from_row * shape.in[1] + from_column) * together;
    const float* factor = weights + (kh * shape.kernel[1] + columns.begin) * together;
    for (std::int64_t kw = columns.begin; kw < columns.end; ++kw) {
      const V w = read(factor, count);
      for (std::int64_t j = 0; j < kCount; ++j) sum[j] = hn::MulAdd(w, read(from + j * stride, count), sum[j]);
      from += shape.dilations[1] * together;
      factor += together;
    }
  }
  for (std::int64_t j = 0; j < kCount; ++j) write(shape.relu ? relu(sum[j]) : sum[j], y + j * together, count);
}

void forward(const DepthwiseShape& shape, const float* x, const float* weights, const float* bias,
             const float* residual, float* y, std::int64_t image, std::int64_t block, std::int64_t row) {
  constexpr std::int64_t kTile = 4;
  const std::int64_t together = shape.together, plane = image * shape.blocks() + block;
  x += plane * shape.in[0] * shape.in[1] * together;
  const std::int64_t to = (plane * shape.out[0] + row) * shape.out[1] * together;
  weights += block * shape.taps() * together;
  const Range rows = taps_at(shape, 0, row);
  for_vectors(together, [&](std::int64_t i, auto count) {
    const std::int64_t channel = block * together + i, left = std::max<std::int64_t>(shape.channels - channel, 0);
    const V shift = bias && left > 0 ? read(bias + channel, std::min(left, lanes())) : constant(0);
    for (std::int64_t column = 0; column < shape.out[1];) {
      const std::int64_t at = to + column * together + i;
      const float* added = residual ? residual + at : nullptr;
      const Range taps = taps_at(shape, 1, column);
      const std::int64_t last = column + kTile - 1;
      const Range last_taps = last < shape.out[1] ? taps_at(shape, 1, last) : Range{-1, -1};
      if (taps.begin == last_taps.begin && taps.end == last_taps.end) {
        forward_tile<kTile>(shape, x + i, weights + i, shift, added, y + at, row, column, rows, taps, count);
        column += kTile;
      } else {
        forward_tile<1>(shape, x + i, weights + i, shift, added, y + at, row, column, rows, taps, count);
        ++column;
      }
    }
  });
}

/// The sum over n places of a b, which lie `a_step` and `b_step` floats apart.
template <class Count>
HWY_INLINE V products(const float* a, const float* b, std::int64_t n, std::int64_t a_step, std::int64_t b_step, V start,
                      Count count) {
  V sum[4] = {start, constant(0), constant(0), constant(0)};
  std::int64_t k = 0;
  for (; k + 4 <= n; k += 4)
    for (std::int64_t j = 0; j < 4; ++j)
      sum[j] = hn::MulAdd(read(a + (k + j) * a_step, count), read(b + (k + j) * b_step, count), sum[j]);
  for (; k < n; ++k) sum[0] = hn::MulAdd(read(a + k * a_step, count), read(b + k * b_step, count), sum[0]);
  return hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
}

void bias_gradient(const DepthwiseShape& shape, const float* dy, float* db, std::int64_t block) {
  const std::int64_t together = shape.together, size = shape.out[0] * shape.out[1];
  for_vectors(together, [&](std::int64_t i, auto count) {
    V total = constant(0);
    for (std::int64_t image = 0; image < shape.images; ++image) {
      const float* from = dy + (image * shape.blocks() + block) * size * together + i;
      V sum = constant(0);
      for (std::int64_t k = 0; k < size; ++k) sum = hn::Add(sum, read(from + k * together, count));
      total = hn::Add(total, sum);
    }
    const std::int64_t channel = block * together + i, left = std::min(shape.channels - channel, together - i);
    if (left > 0) write(total, db + channel, std::min(left, lanes()));
  });
}

void gradient(const DepthwiseShape& shape, const float* dy, const float* x, float* result, std::int64_t block,
              std::int64_t tap) {
  if (tap < 0) return bias_gradient(shape, dy, result, block);
  const std::int64_t together = shape.together, kh = tap / shape.kernel[1], kw = tap % shape.kernel[1];
  const Range rows = outputs_at(shape, 0, kh), columns = outputs_at(shape, 1, kw);
  const std::int64_t from_column = columns.begin * shape.strides[1] + kw * shape.dilations[1] - shape.pads[1];
  float* to = result + (block * shape.taps() + tap) * together;
  for_vectors(together, [&](std::int64_t i, auto count) {
    V total = constant(0);
    for (std::int64_t image = 0; image < shape.images; ++image) {
      const std::int64_t plane = image * shape.blocks() + block;
      V sum = constant(0);
      for (std::int64_t row = rows.begin; row < rows.end && columns.begin < columns.end; ++row) {
        const std::int64_t from_row = row * shape.strides[0] + kh * shape.dilations[0] - shape.pads[0];
        const float* up = dy + ((plane * shape.out[0] + row) * shape.out[1] + columns.begin) * together + i;
        const float* from = x + ((plane * shape.in[0] + from_row) * shape.in[1] + from_column) * together + i;
        sum = products(up, from, columns.end - columns.begin, together, shape.strides[1] * together, sum, count);
      }
      total = hn::Add(total, sum);
    }
    write(total, to + i, count);
  });
}

DepthwiseKernel::Functions find() { return {&forward, &gradient}; }

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);

// Both pass multiplications for parallel_for's bytes: every element takes part in many, so that their time, and not
// that of memory, tells whether a parallel region pays.

void DepthwiseKernel::forward(const float* x, const float* weights, const float* bias, const float* residual,
                              float* y) const {
  const std::int64_t rows = shape_.out[0];
  parallel_for(shape_.images * shape_.blocks() * rows, shape_.multiplications(), [&](std::int64_t i) {
    const std::int64_t plane = i / rows;
    functions_.forward(shape_, x, weights, bias, residual, y, plane / shape_.blocks(), plane % shape_.blocks(),
                       i % rows);
  });
}

void DepthwiseKernel::gradient(const float* dy, const float* x, float* dw, float* db) const {
  const std::int64_t first = db ? -1 : 0, taps = shape_.taps() - first;
  parallel_for(shape_.blocks() * taps, shape_.multiplications(), [&](std::int64_t i) {
    const std::int64_t tap = i % taps + first;
    functions_.gradient(shape_, dy, x, tap < 0 ? db : dw, i / taps, tap);
  });
}

DepthwiseKernel find_depthwise(const DepthwiseShape& shape) {
  return DepthwiseKernel(HWY_DYNAMIC_DISPATCH(find)(), shape);
}

}  // namespace halfstep::simd
#endif
