// The loops of batch normalization over a part of a tensor.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/batch_norm_kernels.cpp"
#include <type_traits>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/batch_norm.h"
#include "executors/onednn/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

constexpr int kSums = 4;  // accumulators side by side, which hide the latency of an addition

/// Offset of the part's first channel at position p.
HWY_INLINE std::int64_t offset_of(const BatchNormShape& shape, const BatchNormPart& part, std::int64_t p) {
  const std::int64_t image = p / shape.positions, position = p % shape.positions;
  return ((image * shape.groups + part.group) * shape.positions + position) * shape.lanes + part.lane;
}

/// From an element of the part to that of the next part in its place, where both parts are pieces of one plane; else 0.
HWY_INLINE std::int64_t distance_to_next(const BatchNormShape& shape, const BatchNormPart& part) {
  const std::int64_t length = part.end - part.begin;
  return part.begin % shape.positions + 2 * length <= shape.positions ? length * shape.lanes : 0;
}

/// Calls f(offset, count) for the runs of positions of the part's first channel that follow each other in memory.
template <class F>
HWY_INLINE void for_runs(const BatchNormShape& shape, const BatchNormPart& part, const F& f) {
  for (std::int64_t p = part.begin; p < part.end;) {
    const std::int64_t count = HWY_MIN(shape.positions - p % shape.positions, part.end - p);
    f(offset_of(shape, part, p), count);
    p += count;
  }
}

/// One channel, whose positions fill vectors.
struct Plane {
  static constexpr int kVectors = 1;
  const BatchNormShape& shape;
  const BatchNormPart& part;

  /// f(offset, count, accumulator, vector of channels) for every vector of elements.
  template <class F>
  HWY_INLINE void walk(const F& f) const {
    for_runs(shape, part, [&](std::int64_t offset, std::int64_t n) {
      const std::int64_t step = lanes();
      std::int64_t i = 0;
      for (; i + kSums * step <= n; i += kSums * step)
        for (int k = 0; k < kSums; ++k) f(offset + i + k * step, std::true_type(), k, 0);
      for_vectors(n - i, [&](std::int64_t j, auto count) { f(offset + i + j, count, 0, 0); });
    });
  }
  /// The first element of each channel.
  template <class T>
  HWY_INLINE V first(const T* x, int) const {
    return constant(static_cast<float>(x[offset_of(shape, part, part.begin)]));
  }
  HWY_INLINE V total(const V* sums, int) const {
    return hn::SumOfLanes(F32(), hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
  }
  HWY_INLINE V get(const float* values, int) const { return constant(values[part.group]); }
  HWY_INLINE void put(V v, float* values, int) const { values[part.group] = hn::GetLane(v); }
};

/// As many vectors of channels, the first at channel `lane` of the group.
template <int kCount, class Count>
struct Columns {
  static constexpr int kVectors = kCount;
  const BatchNormShape& shape;
  const BatchNormPart& part;
  std::int64_t lane;
  Count count;

  template <class F>
  HWY_INLINE void walk(const F& f) const {
    constexpr int kRows = kSums / kVectors;
    const std::int64_t step = lanes(), stride = shape.lanes;
    for_runs(shape, part, [&](std::int64_t offset, std::int64_t rows) {
      offset += lane - part.lane;
      std::int64_t r = 0;
      for (; r + kRows <= rows; r += kRows)
        for (int u = 0; u < kRows; ++u)
          for (int k = 0; k < kVectors; ++k) f(offset + (r + u) * stride + k * step, count, u * kVectors + k, k);
      for (; r < rows; ++r)
        for (int k = 0; k < kVectors; ++k) f(offset + r * stride + k * step, count, k, k);
    });
  }
  template <class T>
  HWY_INLINE V first(const T* x, int k) const {
    return read(x + offset_of(shape, part, part.begin) + lane - part.lane + k * lanes(), count);
  }
  HWY_INLINE V total(const V* sums, int k) const {
    if constexpr (kVectors == kSums) return sums[k];
    return hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  }
  HWY_INLINE std::int64_t channel(int k) const { return part.group * shape.lanes + lane + k * lanes(); }
  HWY_INLINE V get(const float* values, int k) const { return read(values + channel(k), count); }
  HWY_INLINE void put(V v, float* values, int k) const { write(v, values + channel(k), count); }
};

/// Calls body(tile) for the tiles that make up a part.
template <class Body>
HWY_INLINE void for_tiles(const BatchNormShape& shape, const BatchNormPart& part, const Body& body) {
  if (shape.lanes == 1) return body(Plane{shape, part});
  const std::int64_t end = part.lane + part.width;
  std::int64_t lane = part.lane;
  for (; lane + kSums * lanes() <= end; lane += kSums * lanes())
    body(Columns<kSums, std::true_type>{shape, part, lane, {}});
  for_vectors(end - lane, [&](std::int64_t i, auto count) {
    body(Columns<1, decltype(count)>{shape, part, lane + i, count});
  });
}

/// The mean of what `tile` calls its k-th vector of channels.
template <class Tile, class T>
V plain_mean(const Tile& tile, const T* from, V length, int k) {
  V sums[kSums] = {constant(0), constant(0), constant(0), constant(0)};
  tile.walk([&](std::int64_t i, auto count, int sum, int) {
    sums[sum] = hn::Add(sums[sum], keep(read(from + i, count), count));
  });
  return hn::Div(tile.total(sums, k), length);
}

template <class T>
void moments(const BatchNormShape& shape, const BatchNormPart& part, const void* x, float* mean, float* squares) {
  const T* from = static_cast<const T*>(x);
  const V length = constant(static_cast<float>(part.end - part.begin));
  const std::int64_t ahead = distance_to_next(shape, part);
  for_tiles(shape, part, [&](const auto& tile) {
    constexpr int kVectors = std::decay_t<decltype(tile)>::kVectors;
    // Distances from the first element are what is summed: of a constant channel, which a ReLU in front may leave, the
    // mean is exact and all that is normalized exactly 0, neither above nor below the next ReLU's bound.
    V firsts[kVectors];
    for (int k = 0; k < kVectors; ++k) firsts[k] = tile.first(from, k);
    V sums[kSums] = {constant(0), constant(0), constant(0), constant(0)};
    tile.walk([&](std::int64_t i, auto count, int sum, int k) {
      sums[sum] = hn::Add(sums[sum], keep(hn::Sub(read(from + i, count), firsts[k]), count));
    });
    V centers[kVectors];
    for (int k = 0; k < kVectors; ++k) {
      centers[k] = hn::Add(firsts[k], hn::Div(tile.total(sums, k), length));
      // The distance of an infinite element from itself is NaN, where the mean is infinite.
      const auto infinite = hn::IsInf(firsts[k]);
      if (!hn::AllFalse(F32(), infinite))
        centers[k] = hn::IfThenElse(infinite, plain_mean(tile, from, length, k), centers[k]);
    }
    V distances[kSums] = {constant(0), constant(0), constant(0), constant(0)};
    tile.walk([&](std::int64_t i, auto count, int sum, int k) {
      hwy::Prefetch(from + i + ahead);  // memory would be idle meanwhile
      const V distance = keep(hn::Sub(read(from + i, count), centers[k]), count);
      distances[sum] = hn::MulAdd(distance, distance, distances[sum]);
    });
    for (int k = 0; k < kVectors; ++k) {
      tile.put(centers[k], mean, k);
      tile.put(tile.total(distances, k), squares, k);
    }
  });
}

/// Coefficients of a tile's channels.
template <int kVectors>
struct TileCoefficients {
  V mean[kVectors], factor[kVectors], shift[kVectors];

  template <class Tile>
  TileCoefficients(const Tile& tile, const BatchNormCoefficients& c) {
    for (int k = 0; k < kVectors; ++k) {
      mean[k] = tile.get(c.mean, k);
      factor[k] = tile.get(c.factor, k);
      shift[k] = tile.get(c.shift, k);
    }
  }
  HWY_INLINE V normalized(V distance, int k) const { return hn::MulAdd(distance, factor[k], shift[k]); }
};
template <class Tile>
TileCoefficients(const Tile&, const BatchNormCoefficients&) -> TileCoefficients<Tile::kVectors>;

template <class T, bool kClamps>
void normalize(const BatchNormShape& shape, const BatchNormPart& part, const void* x, const BatchNormCoefficients& c,
               const ops::Clamp& bounds, void* y) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  const V low = constant(bounds.low), high = constant(bounds.high);
  for_tiles(shape, part, [&](const auto& tile) {
    const TileCoefficients t(tile, c);
    tile.walk([&](std::int64_t i, auto count, int, int k) {
      const V n = t.normalized(hn::Sub(read(from + i, count), t.mean[k]), k);
      write(kClamps ? clamp(n, low, high) : n, to + i, count);
    });
  });
}

/// The gradient before the clamp, where it passes: NaN included.
template <bool kClamps>
struct GradientBefore {
  V low, high;

  explicit GradientBefore(const ops::Clamp& bounds)
      : low(constant(bounds.least_passing())), high(constant(bounds.high)) {}
  template <class Coefficients>
  HWY_INLINE V operator()(V dy, V distance, const Coefficients& t, int k) const {
    if constexpr (!kClamps) return dy;
    const V n = t.normalized(distance, k);
    return hn::IfThenZeroElse(hn::Or(hn::Lt(n, low), hn::Gt(n, high)), dy);
  }
};

template <class T, bool kClamps>
void grad_sums(const BatchNormShape& shape, const BatchNormPart& part, const void* dy, const void* x,
               const BatchNormCoefficients& c, const ops::Clamp& bounds, float* sums, float* products) {
  const T *up = static_cast<const T*>(dy), *from = static_cast<const T*>(x);
  const GradientBefore<kClamps> before(bounds);
  for_tiles(shape, part, [&](const auto& tile) {
    constexpr int kVectors = std::decay_t<decltype(tile)>::kVectors;
    const TileCoefficients t(tile, c);
    V sum[kSums] = {constant(0), constant(0), constant(0), constant(0)};
    V product[kSums] = {constant(0), constant(0), constant(0), constant(0)};
    tile.walk([&](std::int64_t i, auto count, int s, int k) {
      const V distance = hn::Sub(read(from + i, count), t.mean[k]);
      const V d = before(read(up + i, count), distance, t, k);
      sum[s] = hn::Add(sum[s], d);
      product[s] = hn::MulAdd(d, keep(distance, count), product[s]);  // beyond count d is 0, and the mean may be NaN
    });
    for (int k = 0; k < kVectors; ++k) {
      tile.put(tile.total(sum, k), sums, k);
      tile.put(tile.total(product, k), products, k);
    }
  });
}

template <class T, bool kClamps>
void grad(const BatchNormShape& shape, const BatchNormPart& part, const void* dy, const void* x,
          const BatchNormCoefficients& c, const ops::Clamp& bounds, void* dx) {
  const T *up = static_cast<const T*>(dy), *from = static_cast<const T*>(x);
  T* to = static_cast<T*>(dx);
  const GradientBefore<kClamps> before(bounds);
  for_tiles(shape, part, [&](const auto& tile) {
    constexpr int kVectors = std::decay_t<decltype(tile)>::kVectors;
    const TileCoefficients t(tile, c);
    if (!c.tilt) {
      tile.walk([&](std::int64_t i, auto count, int, int k) {
        const V d = before(read(up + i, count), hn::Sub(read(from + i, count), t.mean[k]), t, k);
        write(hn::Mul(d, t.factor[k]), to + i, count);
      });
      return;
    }
    V tilts[kVectors], offsets[kVectors];
    for (int k = 0; k < kVectors; ++k) {
      tilts[k] = tile.get(c.tilt, k);
      offsets[k] = tile.get(c.offset, k);
    }
    tile.walk([&](std::int64_t i, auto count, int, int k) {
      const V distance = hn::Sub(read(from + i, count), t.mean[k]);
      const V d = before(read(up + i, count), distance, t, k);
      write(hn::Mul(t.factor[k], hn::Add(d, hn::MulAdd(distance, tilts[k], offsets[k]))), to + i, count);
    });
  });
}

template <bool kClamps>
BatchNormFunctions find_typed(DType dtype) {
  BatchNormFunctions functions;
  functions.moments = by_type(dtype, []<class T>() { return &moments<T>; });
  functions.normalize = by_type(dtype, []<class T>() { return &normalize<T, kClamps>; });
  functions.grad_sums = by_type(dtype, []<class T>() { return &grad_sums<T, kClamps>; });
  functions.grad = by_type(dtype, []<class T>() { return &grad<T, kClamps>; });
  return functions;
}

BatchNormFunctions find(DType dtype, bool clamps) {
  return clamps ? find_typed<true>(dtype) : find_typed<false>(dtype);
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
BatchNormFunctions find_batch_norm_functions(DType dtype, bool clamps) {
  return HWY_DYNAMIC_DISPATCH(find)(dtype, clamps);
}
}  // namespace halfstep::simd
#endif
