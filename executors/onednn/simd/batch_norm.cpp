// Batch normalization: moments of pieces that fit the cache, combined in double, and one pass that applies them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/batch_norm.cpp"
#include "executors/onednn/simd/batch_norm.h"

#include <algorithm>
#include <cmath>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

constexpr int kSums = 4;  // accumulators side by side, which hide the latency of an addition

/// Offset of the part's first channel at position p.
HWY_INLINE std::int64_t offset_of(const BatchNormShape& shape, const BatchNormPart& part, std::int64_t p) {
  const std::int64_t image = p / shape.positions, position = p % shape.positions;
  return ((image * shape.groups + part.group) * shape.positions + position) * shape.lanes + part.lane;
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

namespace {

constexpr std::int64_t kPositions = 4096;  // of a channel in a part, when its elements lie together
constexpr std::int64_t kRows = 128;        // of as many channels as a part has, when these lie together
constexpr std::int64_t kWidth = 64;        // channels of a part

/// How a tensor is cut into parts; of those with the same positions ("a piece") every channel is in one.
struct Cut {
  std::int64_t length, pieces, tiles;

  explicit Cut(const BatchNormShape& shape)
      : length(shape.lanes == 1 ? kPositions : kRows),
        pieces(blocks_of(shape.per_channel(), length)),
        tiles(blocks_of(shape.lanes, kWidth)) {}
  std::int64_t piece_length(const BatchNormShape& shape, std::int64_t piece) const {
    return std::min(length, shape.per_channel() - piece * length);
  }
};

/// Calls body(part, piece) for all parts.
template <class Body>
void for_parts(const BatchNormShape& shape, std::int64_t bytes, const Body& body) {
  const Cut cut(shape);
  parallel_for(cut.pieces * shape.groups * cut.tiles, bytes, [&](std::int64_t i) {
    const std::int64_t lane = i % cut.tiles * kWidth, group = i / cut.tiles % shape.groups;
    const std::int64_t piece = i / (cut.tiles * shape.groups), begin = piece * cut.length;
    body(
        BatchNormPart{group, lane, std::min(kWidth, shape.lanes - lane), begin, begin + cut.piece_length(shape, piece)},
        piece);
  });
}

/// Arrays of one f32 for every stored channel, one behind the other, each aligned to 64 bytes.
struct ChannelArrays {
  float* memory;
  std::int64_t stride;

  ChannelArrays(const BatchNormShape& shape, void* scratch)
      : memory(static_cast<float*>(scratch)), stride(blocks_of(shape.stored_channels(), 16) * 16) {}
  float* operator[](std::int64_t i) const { return memory + i * stride; }
};

constexpr std::int64_t kCoefficients = 5;  // arrays in front of those of the pieces, of which each has two

}  // namespace

std::size_t BatchNormKernel::scratch_bytes() const {
  const std::int64_t arrays = kCoefficients + 2 * Cut(shape_).pieces;
  return static_cast<std::size_t>(arrays * ChannelArrays(shape_, nullptr).stride) * sizeof(float);
}

void BatchNormKernel::statistics(const void* x, float* mean, float* variance, void* scratch) const {
  const ChannelArrays arrays(shape_, scratch);
  for_parts(shape_, shape_.stored() * static_cast<std::int64_t>(element_bytes_),
            [&](const BatchNormPart& part, std::int64_t piece) {
              functions_.moments(shape_, part, x, arrays[kCoefficients + 2 * piece],
                                 arrays[kCoefficients + 2 * piece + 1]);
            });
  // The pieces' moments combined as Chan, Golub and LeVeque (1983) do it.
  const Cut cut(shape_);
  const auto count = static_cast<double>(shape_.per_channel());
  for (std::int64_t c = 0; c < shape_.stored_channels(); ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t p = 0; p < cut.pieces; ++p)
      sum += static_cast<double>(cut.piece_length(shape_, p)) * arrays[kCoefficients + 2 * p][c];
    const double center = sum / count;
    for (std::int64_t p = 0; p < cut.pieces; ++p) {
      const double distance = arrays[kCoefficients + 2 * p][c] - center;
      squares +=
          arrays[kCoefficients + 2 * p + 1][c] + static_cast<double>(cut.piece_length(shape_, p)) * distance * distance;
    }
    mean[c] = static_cast<float>(center);
    variance[c] = static_cast<float>(squares / count);
  }
}

BatchNormCoefficients BatchNormKernel::coefficients(const float* mean, const float* variance, const float* scale,
                                                    const float* shift, void* scratch) const {
  const ChannelArrays arrays(shape_, scratch);
  std::fill_n(arrays[0], kCoefficients * arrays.stride, 0.0F);
  std::copy_n(mean, shape_.channels, arrays[0]);
  for (std::int64_t c = 0; c < shape_.channels; ++c) arrays[1][c] = scale[c] / std::sqrt(variance[c] + epsilon_);
  if (shift) std::copy_n(shift, shape_.channels, arrays[2]);
  return {arrays[0], arrays[1], arrays[2], arrays[3], arrays[4]};
}

void BatchNormKernel::normalize(const void* x, const float* mean, const float* variance, const float* scale,
                                const float* shift, void* y, void* scratch) const {
  const BatchNormCoefficients c = coefficients(mean, variance, scale, shift, scratch);
  for_parts(shape_, 2 * shape_.stored() * static_cast<std::int64_t>(element_bytes_),
            [&](const BatchNormPart& part, std::int64_t) { functions_.normalize(shape_, part, x, c, clamp_, y); });
}

void BatchNormKernel::gradient(const void* dy, const void* x, const float* mean, const float* variance,
                               const float* scale, const float* shift, bool own_statistics, void* dx, float* dscale,
                               float* dshift, void* scratch) const {
  BatchNormCoefficients coefficients = this->coefficients(mean, variance, scale, shift, scratch);
  if (!own_statistics) coefficients.tilt = nullptr;
  const ChannelArrays arrays(shape_, scratch);
  const std::int64_t bytes = 2 * shape_.stored() * static_cast<std::int64_t>(element_bytes_);
  for_parts(shape_, bytes, [&](const BatchNormPart& part, std::int64_t piece) {
    functions_.grad_sums(shape_, part, dy, x, coefficients, clamp_, arrays[kCoefficients + 2 * piece],
                         arrays[kCoefficients + 2 * piece + 1]);
  });
  const Cut cut(shape_);
  const auto count = static_cast<double>(shape_.per_channel());
  for (std::int64_t c = 0; c < shape_.channels; ++c) {
    double sum = 0, product = 0;
    for (std::int64_t p = 0; p < cut.pieces; ++p) {
      sum += arrays[kCoefficients + 2 * p][c];
      product += arrays[kCoefficients + 2 * p + 1][c];
    }
    const double inverse = 1 / std::sqrt(static_cast<double>(variance[c]) + epsilon_);
    if (dscale) dscale[c] = static_cast<float>(product * inverse);
    if (dshift) dshift[c] = static_cast<float>(sum);
    if (!own_statistics) continue;  // which move with x
    arrays[3][c] = static_cast<float>(-inverse * inverse * product / count);
    arrays[4][c] = static_cast<float>(-sum / count);
  }
  if (!dx) return;
  for_parts(shape_, bytes + bytes / 2, [&](const BatchNormPart& part, std::int64_t) {
    functions_.grad(shape_, part, dy, x, coefficients, clamp_, dx);
  });
}

BatchNormKernel find_batch_norm(const BatchNormShape& shape, float epsilon, const std::optional<ops::Clamp>& clamp,
                                DType dtype) {
  return BatchNormKernel(HWY_DYNAMIC_DISPATCH(find)(dtype, clamp.has_value()), shape, epsilon,
                         clamp.value_or(ops::Clamp()), bytes_of(dtype, 1));
}

}  // namespace halfstep::simd
#endif
