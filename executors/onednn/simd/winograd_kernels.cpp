// The transforms of Winograd's algorithm: a vector holds channels, which do not mix.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/winograd_kernels.cpp"
#include <algorithm>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/winograd.h"
#include "executors/onednn/simd/winograd_transform-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

using Shape = WinogradShape;
constexpr int kTile = kWinogradTile, kOutputs = kTile * kTile;
template <class A>
constexpr int kTapsOf = A::kTaps* A::kTaps;
template <class A>
constexpr int kPointsOf = A::kPoints* A::kPoints;

/// Where a tile's outputs begin.
struct Place {
  std::int64_t image, row, column;
};

/// f(tile, place) for tiles [first, first + count), counted from `first`.
template <class F>
HWY_INLINE void for_tiles(const Shape& shape, std::int64_t first, std::int64_t count, const F& f) {
  const auto [rows, columns] = shape.tiles();
  std::int64_t image = first / (rows * columns), row = first / columns % rows, column = first % columns;
  for (std::int64_t tile = 0; tile < count; ++tile) {
    f(tile, Place{image, row * kTile, column * kTile});
    if (++column < columns) continue;
    column = 0;
    if (++row < rows) continue;
    row = 0;
    ++image;
  }
}

/// Numbers in a plane of pixels [rows, columns, T], from a row and a column on that may be outside, where zeros are.
template <int kExtent>
HWY_INLINE void load_square(const float* plane, const Shape::Pair& extents, std::int64_t together, std::int64_t row,
                            std::int64_t column, V (&to)[kExtent * kExtent]) {
  const float* from = plane + (row * extents[1] + column) * together;
  const std::int64_t step = extents[1] * together;
  if (row >= 0 && column >= 0 && row + kExtent <= extents[0] && column + kExtent <= extents[1]) {
    unrolled<kExtent * kExtent>([&](auto i) __attribute__((always_inline)) {
      to[i] = load(from + i / kExtent * step + i % kExtent * together);
    });
    return;
  }
  const auto is_inside = [](std::int64_t i, std::int64_t extent) { return i >= 0 && i < extent; };
  unrolled<kExtent * kExtent>([&](auto i) __attribute__((always_inline)) {
    const bool inside = is_inside(row + i / kExtent, extents[0]) && is_inside(column + i % kExtent, extents[1]);
    to[i] = inside ? load(from + i / kExtent * step + i % kExtent * together) : hn::Zero(F32());
  });
}

/// Squares of pixels, the first `shift` before each tile's, through M. The next row's tiles begin where a processor
/// that loads ahead does not look.
template <class M>
HWY_INLINE void transform_tiles(const Shape& shape, const float* from, std::int64_t channels,
                                const Shape::Pair& extents, const Shape::Pair& shift, std::int64_t first,
                                std::int64_t count, const WinogradMatrices& to) {
  constexpr int kExtent = M::kColumns, kPoints = M::kRows * M::kRows;
  const std::int64_t together = shape.together, blocks = channels / together, step = extents[1] * together;
  for (std::int64_t block = 0; block < blocks; ++block) {
    for_tiles(shape, first, count, [&](std::int64_t tile, const Place& place) {
      const std::int64_t row = place.row - shift[0], column = place.column - shift[1];
      const float* plane = from + (place.image * blocks + block) * extents[0] * step;
      for (std::int64_t i = 0; i < together; i += lanes()) {
        V pixels[kExtent * kExtent], points[kPoints];
        const float* next = plane + (row + kExtent) * step + column * together + i;
        unrolled<kOutputs>([&](auto k) __attribute__((always_inline)) {
          hwy::Prefetch(next + k / kTile * step + k % kTile * together);
        });
        load_square<kExtent>(plane + i, extents, together, row, column, pixels);
        transform<M>(pixels, points);
        float* out = to.at + tile * to.row + block * together + i;
        unrolled<kPoints>([&](auto k) __attribute__((always_inline)) { store(points[k], out + k * to.step); });
      }
    });
  }
}

template <class A>
void data(const Shape& shape, const float* x, std::int64_t first, std::int64_t count, const WinogradMatrices& to) {
  transform_tiles<DataMatrix<A>>(shape, x, shape.channels_in, shape.in, shape.pads, first, count, to);
}

template <class A>
void diff(const Shape& shape, const float* dy, std::int64_t first, std::int64_t count, const WinogradMatrices& to) {
  transform_tiles<Transposed<ResultMatrix<A>>>(shape, dy, shape.channels_out, shape.out, {0, 0}, first, count, to);
}

template <class A>
void weights(const Shape& shape, const float* w, std::int64_t channel, std::int64_t width, const WinogradMatrices& to) {
  constexpr int kTaps = kTapsOf<A>, kPoints = kPointsOf<A>;
  const std::int64_t together = shape.together;
  for (std::int64_t j = 0; j < width; j += lanes()) {
    const std::int64_t o = channel + j;
    for (std::int64_t i = 0; i < shape.channels_in; ++i) {
      V points[kPoints];
      if (o < shape.channels_out) {
        const float* from = w + o / together * shape.weights_out_step + i / together * shape.weights_in_step +
                            i % together * together + o % together;
        const std::int64_t last = shape.is_flipped ? kTaps - 1 : 0, step = shape.is_flipped ? -1 : 1;
        V taps[kTaps];
        unrolled<kTaps>([&](auto k) __attribute__((always_inline)) {
          taps[k] = load(from + (last + step * k) * together * together);
        });
        transform<KernelMatrix<A>>(taps, points);
      } else {
        std::fill_n(points, kPoints, hn::Zero(F32()));
      }
      float* out = to.at + i * to.row + j;
      unrolled<kPoints>([&](auto k) __attribute__((always_inline)) { store(points[k], out + k * to.step); });
    }
  }
}

bool is_finite(V v) { return hn::AllTrue(F32(), hn::IsFinite(v)); }
/// Sums that stay as they are: a run that has diverged takes no longer for them.
bool is_nan(V v) { return hn::AllTrue(F32(), hn::IsNaN(v)); }

/// One vector of y from its window.
template <class A>
V direct(const Shape& shape, const float* x, const float* w, const Place& at, std::int64_t channel) {
  const std::int64_t together = shape.together, blocks = shape.channels_in / together;
  V sum = hn::Zero(F32());
  for (std::int64_t tap = 0; tap < kTapsOf<A>; ++tap) {
    const std::int64_t row = at.row - shape.pads[0] + tap / A::kTaps,
                       column = at.column - shape.pads[1] + tap % A::kTaps;
    if (row < 0 || column < 0 || row >= shape.in[0] || column >= shape.in[1]) continue;
    const std::int64_t stored = shape.is_flipped ? kTapsOf<A> - 1 - tap : tap;
    for (std::int64_t block = 0; block < blocks; ++block) {
      const float* pixel = x + (((at.image * blocks + block) * shape.in[0] + row) * shape.in[1] + column) * together;
      const float* factors = w + channel / together * shape.weights_out_step + block * shape.weights_in_step +
                             stored * together * together + channel % together;
      for (std::int64_t i = 0; i < together; ++i)
        sum = hn::MulAdd(hn::Set(F32(), pixel[i]), load(factors + i * together), sum);
      if (is_nan(sum)) return sum;
    }
  }
  return sum;
}

template <class A>
void result(const Shape& shape, const WinogradMatrices& from, std::int64_t first, std::int64_t count,
            std::int64_t channel, std::int64_t channels, const WinogradOperands& operands) {
  constexpr int kPoints = kPointsOf<A>;
  const std::int64_t together = shape.together, blocks = shape.channels_out / together;
  for (const std::int64_t end = channel + channels, begin = channel; channel < end; channel += lanes()) {
    const std::int64_t block = channel / together, i = channel % together;
    const V shift = operands.bias ? load(operands.bias + channel) : hn::Zero(F32());
    for_tiles(shape, first, count, [&](std::int64_t tile, const Place& place) {
      V points[kPoints], outputs[kOutputs];
      const float* in = from.at + tile * from.row + channel - begin;
      unrolled<kPoints>([&](auto k) __attribute__((always_inline)) { points[k] = load(in + k * from.step); });
      transform<ResultMatrix<A>>(points, outputs);
      const std::int64_t rows = HWY_MIN(kTile, shape.out[0] - place.row);
      const std::int64_t columns = HWY_MIN(kTile, shape.out[1] - place.column);
      unrolled<kOutputs>([&](auto k) __attribute__((always_inline)) {
        constexpr std::int64_t kRow = k / kTile, kColumn = k % kTile;
        if (kRow >= rows || kColumn >= columns) return;
        const Place at = {place.image, place.row + kRow, place.column + kColumn};
        V sum = outputs[k];
        if (HWY_UNLIKELY(!is_finite(sum))) sum = direct<A>(shape, operands.x, operands.weights, at, channel);
        const std::int64_t to =
            (((place.image * blocks + block) * shape.out[0] + at.row) * shape.out[1] + at.column) * together + i;
        sum = hn::Add(sum, shift);
        if (operands.residual) sum = hn::Add(sum, load(operands.residual + to));
        store(sum, operands.y + to);
      });
    });
  }
}

/// One vector of dw: the sum over all places where the tap of input channel i meets x.
template <class A>
V direct_gradient(const Shape& shape, const float* x, const float* dy, std::int64_t i, std::int64_t channel,
                  std::int64_t tap) {
  const std::int64_t together = shape.together;
  const std::int64_t row_shift = tap / A::kTaps - shape.pads[0], column_shift = tap % A::kTaps - shape.pads[1];
  V total = hn::Zero(F32());
  for (std::int64_t image = 0; image < shape.images; ++image) {
    const float* from =
        x + (image * shape.channels_in + i / together * together) * shape.in[0] * shape.in[1] + i % together;
    const float* up = dy + (image * shape.channels_out + channel / together * together) * shape.out[0] * shape.out[1] +
                      channel % together;
    V sum = hn::Zero(F32());
    for (std::int64_t row = HWY_MAX(0, -row_shift); row < HWY_MIN(shape.out[0], shape.in[0] - row_shift); ++row) {
      for (std::int64_t column = HWY_MAX(0, -column_shift); column < HWY_MIN(shape.out[1], shape.in[1] - column_shift);
           ++column) {
        const V factor = hn::Set(F32(), from[((row + row_shift) * shape.in[1] + column + column_shift) * together]);
        sum = hn::MulAdd(factor, load(up + (row * shape.out[1] + column) * together), sum);
      }
      if (is_nan(sum)) return sum;
    }
    total = hn::Add(total, sum);
  }
  return total;
}

template <class A>
void weight_gradient(const Shape& shape, const WinogradMatrices& from, std::int64_t parts, std::int64_t part_step,
                     std::int64_t channel, std::int64_t channels, const float* x, const float* dy, float* dw) {
  constexpr int kTaps = kTapsOf<A>, kPoints = kPointsOf<A>;
  const std::int64_t together = shape.together;
  for (std::int64_t o = 0; o < shape.channels_out; o += lanes()) {
    for (std::int64_t i = channel; i < channel + channels; ++i) {
      V points[kPoints], taps[kTaps];
      const float* in = from.at + (i - channel) * from.row + o;
      unrolled<kPoints>([&](auto k) __attribute__((always_inline)) {
        points[k] = load(in + k * from.step);
        for (std::int64_t part = 1; part < parts; ++part)
          points[k] = hn::Add(points[k], load(in + part * part_step + k * from.step));
      });
      transform<Transposed<KernelMatrix<A>>>(points, taps);
      float* to = dw + o / together * shape.weights_out_step + i / together * shape.weights_in_step +
                  i % together * together + o % together;
      unrolled<kTaps>([&](auto k) __attribute__((always_inline)) {
        if (HWY_UNLIKELY(!is_finite(taps[k]))) taps[k] = direct_gradient<A>(shape, x, dy, i, o, k);
        store(taps[k], to + k * together * together);
      });
    }
  }
}

void bias_gradient(const Shape& shape, const float* dy, std::int64_t channel, float* db) {
  const std::int64_t together = shape.together, size = shape.out[0] * shape.out[1];
  for (std::int64_t i = 0; i < together; i += lanes()) {
    V total = hn::Zero(F32());
    for (std::int64_t image = 0; image < shape.images; ++image) {
      const float* from = dy + (image * shape.channels_out + channel) * size + i;
      V sum = hn::Zero(F32());
      for (std::int64_t k = 0; k < size; ++k) sum = hn::Add(sum, load(from + k * together));
      total = hn::Add(total, sum);
    }
    store(total, db + channel + i);
  }
}

bool divides(std::int64_t together) { return together % lanes() == 0; }

template <class A>
WinogradFunctions functions() {
  return {&data<A>, &diff<A>, &weights<A>, &result<A>, &weight_gradient<A>, &bias_gradient};
}
WinogradFunctions find(std::int64_t kernel) { return kernel == 3 ? functions<Winograd3>() : functions<Winograd5>(); }

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
HWY_EXPORT(divides);
WinogradFunctions find_winograd(std::int64_t kernel) { return HWY_DYNAMIC_DISPATCH(find)(kernel); }
bool has_winograd(std::int64_t kernel, std::int64_t together) {
  return (kernel == 3 || kernel == 5) && HWY_DYNAMIC_DISPATCH(divides)(together);
}
}  // namespace halfstep::simd
#endif
