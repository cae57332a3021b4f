// Batch normalization: moments of pieces that fit the cache, combined in double, and one pass that applies them.
#include "executors/onednn/simd/batch_norm.h"

#include <algorithm>
#include <cmath>

#include <omp.h>

#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {
namespace {

constexpr std::int64_t kPositions = 4096;         // of a channel in a part, when its elements lie together
constexpr std::int64_t kRows = 128;               // of as many channels as a part has, when these lie together
constexpr std::int64_t kWidth = 64;               // channels of a part
constexpr std::int64_t kTogether = 16;            // channels whose pieces are added up together
constexpr std::int64_t kCacheBytes = 512 * 1024;  // of what is read twice; the second-level cache holds more
constexpr std::int64_t kManyRanges = 4;           // of channels for each thread: then uneven shares cost little

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

/// Groups of channels [begin, end).
struct Groups {
  std::int64_t begin, end;
};

/// Calls body(groups) for ranges that make up all groups, whose channels no other range has. `bytes` are those of the
/// tensors that are read twice: the second time a range of them still lies in the second-level cache, unless a single
/// group is larger. Each thread has ranges of its own if they are as many for each, or all share one after the other.
template <class Body>
void for_ranges(const BatchNormShape& shape, std::int64_t bytes, const Body& body) {
  const std::int64_t threads = omp_get_max_threads();
  const auto count_of = [&](std::int64_t size) {
    return std::max<std::int64_t>(std::min(bytes / size, shape.groups), 1);
  };
  const auto run = [&](std::int64_t i, std::int64_t count) {
    body(Groups{shape.groups * i / count, shape.groups * (i + 1) / count});
  };
  std::int64_t count = count_of(kCacheBytes);
  if (count % threads == 0 || count >= kManyRanges * threads)
    return parallel_for(count, bytes, [&](std::int64_t i) { run(i, count); });
  count = count_of(kCacheBytes * threads);
  for (std::int64_t i = 0; i < count; ++i) run(i, count);
}

/// Calls body(part, piece) for all parts of these groups, as they follow each other in memory within an image: a part
/// alone is too short for the CPU to read ahead.
template <class Body>
void for_parts(const BatchNormShape& shape, Groups groups, std::int64_t bytes, const Body& body) {
  const Cut cut(shape);
  parallel_for(cut.pieces * (groups.end - groups.begin) * cut.tiles, bytes, [&](std::int64_t i) {
    const std::int64_t lane = i % cut.tiles * kWidth, piece = i / cut.tiles % cut.pieces;
    const std::int64_t group = groups.begin + i / (cut.tiles * cut.pieces), begin = piece * cut.length;
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

/// Calls body(first, n) for n <= kTogether channels at a time of those of these groups, padding included.
template <class Body>
void for_channels(const BatchNormShape& shape, Groups groups, const Body& body) {
  for (std::int64_t first = groups.begin * shape.lanes, end = groups.end * shape.lanes; first < end; first += kTogether)
    body(first, std::min(kTogether, end - first));
}

constexpr std::int64_t kCoefficients = 5;  // arrays in front of those of the pieces, of which each has two

}  // namespace

std::size_t BatchNormKernel::scratch_bytes() const {
  const std::int64_t arrays = kCoefficients + 2 * Cut(shape_).pieces;
  return static_cast<std::size_t>(arrays * ChannelArrays(shape_, nullptr).stride) * sizeof(float);
}

/// What the body of a function below works on: some groups of channels, and where it keeps what it computes of them.
struct BatchNormKernel::Range {
  Groups groups;
  ChannelArrays arrays;
  std::int64_t bytes;  ///< of a tensor's elements of these groups
};

template <class Body>
void BatchNormKernel::for_ranges_of(std::int64_t tensors, void* scratch, const Body& body) const {
  const std::int64_t each = shape_.per_channel() * shape_.lanes * static_cast<std::int64_t>(element_bytes_);
  for_ranges(shape_, tensors * shape_.groups * each, [&](Groups groups) {
    body(Range{groups, ChannelArrays(shape_, scratch), (groups.end - groups.begin) * each});
  });
}

void BatchNormKernel::statistics(const Range& range, const void* x, float* mean, float* variance) const {
  const ChannelArrays& arrays = range.arrays;
  for_parts(shape_, range.groups, range.bytes, [&](const BatchNormPart& part, std::int64_t piece) {
    functions_.moments(shape_, part, x, arrays[kCoefficients + 2 * piece], arrays[kCoefficients + 2 * piece + 1]);
  });
  // The pieces' moments combined as Chan, Golub and LeVeque (1983) do it.
  const Cut cut(shape_);
  const auto count = static_cast<double>(shape_.per_channel());
  const auto length_of = [&](std::int64_t p) { return static_cast<double>(cut.piece_length(shape_, p)); };
  for_channels(shape_, range.groups, [&](std::int64_t first, std::int64_t n) {
    double center[kTogether] = {}, squares[kTogether] = {};
    for (std::int64_t p = 0; p < cut.pieces; ++p) {
      const float* means = arrays[kCoefficients + 2 * p] + first;
      const double length = length_of(p);
      for (std::int64_t i = 0; i < n; ++i) center[i] += length * means[i];
    }
    for (std::int64_t i = 0; i < n; ++i) center[i] /= count;
    for (std::int64_t p = 0; p < cut.pieces; ++p) {
      const float *means = arrays[kCoefficients + 2 * p] + first, *within = arrays[kCoefficients + 2 * p + 1] + first;
      const double length = length_of(p);
      for (std::int64_t i = 0; i < n; ++i) {
        const double distance = means[i] - center[i];
        squares[i] += within[i] + length * distance * distance;
      }
    }
    for (std::int64_t i = 0; i < n; ++i) {
      mean[first + i] = static_cast<float>(center[i]);
      variance[first + i] = static_cast<float>(squares[i] / count);
    }
  });
}

BatchNormCoefficients BatchNormKernel::coefficients(const Range& range, const float* mean, const float* variance,
                                                    const float* scale, const float* shift) const {
  const ChannelArrays& arrays = range.arrays;
  const std::int64_t begin = range.groups.begin * shape_.lanes, stored_end = range.groups.end * shape_.lanes;
  const std::int64_t end = std::min(stored_end, shape_.channels);
  for (std::int64_t i = 0; i < kCoefficients; ++i) std::fill(arrays[i] + begin, arrays[i] + stored_end, 0.0F);
  std::copy(mean + begin, mean + end, arrays[0] + begin);
  for (std::int64_t c = begin; c < end; ++c) arrays[1][c] = scale[c] / std::sqrt(variance[c] + epsilon_);
  if (shift) std::copy(shift + begin, shift + end, arrays[2] + begin);
  return {arrays[0], arrays[1], arrays[2], arrays[3], arrays[4]};
}

void BatchNormKernel::normalize(const Range& range, const void* x, const float* mean, const float* variance,
                                const float* scale, const float* shift, void* y) const {
  const BatchNormCoefficients c = coefficients(range, mean, variance, scale, shift);
  for_parts(shape_, range.groups, 2 * range.bytes,
            [&](const BatchNormPart& part, std::int64_t) { functions_.normalize(shape_, part, x, c, clamp_, y); });
}

void BatchNormKernel::gradient(const Range& range, const void* dy, const void* x, const float* mean,
                               const float* variance, const float* scale, const float* shift, bool own_statistics,
                               void* dx, float* dscale, float* dshift) const {
  BatchNormCoefficients coefficients = this->coefficients(range, mean, variance, scale, shift);
  if (!own_statistics) coefficients.tilt = nullptr;
  const ChannelArrays& arrays = range.arrays;
  for_parts(shape_, range.groups, 2 * range.bytes, [&](const BatchNormPart& part, std::int64_t piece) {
    functions_.grad_sums(shape_, part, dy, x, coefficients, clamp_, arrays[kCoefficients + 2 * piece],
                         arrays[kCoefficients + 2 * piece + 1]);
  });
  const Cut cut(shape_);
  const auto count = static_cast<double>(shape_.per_channel());
  for_channels(shape_, range.groups, [&](std::int64_t first, std::int64_t n) {
    double sum[kTogether] = {}, product[kTogether] = {};
    for (std::int64_t p = 0; p < cut.pieces; ++p) {
      const float *sums = arrays[kCoefficients + 2 * p] + first, *products = arrays[kCoefficients + 2 * p + 1] + first;
      for (std::int64_t i = 0; i < n; ++i) {
        sum[i] += sums[i];
        product[i] += products[i];
      }
    }
    for (std::int64_t i = 0; i < n && first + i < shape_.channels; ++i) {
      const std::int64_t c = first + i;
      const double inverse = 1 / std::sqrt(static_cast<double>(variance[c]) + epsilon_);
      if (dscale) dscale[c] = static_cast<float>(product[i] * inverse);
      if (dshift) dshift[c] = static_cast<float>(sum[i]);
      if (!own_statistics) continue;  // which move with x
      arrays[3][c] = static_cast<float>(-inverse * inverse * product[i] / count);
      arrays[4][c] = static_cast<float>(-sum[i] / count);
    }
  });
  if (!dx) return;
  for_parts(shape_, range.groups, 3 * range.bytes, [&](const BatchNormPart& part, std::int64_t) {
    functions_.grad(shape_, part, dy, x, coefficients, clamp_, dx);
  });
}

void BatchNormKernel::statistics(const void* x, float* mean, float* variance, void* scratch) const {
  for_ranges_of(1, scratch, [&](const Range& range) { statistics(range, x, mean, variance); });
}

void BatchNormKernel::normalize(const void* x, const float* mean, const float* variance, const float* scale,
                                const float* shift, void* y, void* scratch) const {
  for_ranges_of(1, scratch, [&](const Range& range) { normalize(range, x, mean, variance, scale, shift, y); });
}

void BatchNormKernel::normalize_by_own(const void* x, const float* scale, const float* shift, float* mean,
                                       float* variance, void* y, void* scratch) const {
  for_ranges_of(1, scratch, [&](const Range& range) {
    statistics(range, x, mean, variance);
    normalize(range, x, mean, variance, scale, shift, y);
  });
}

void BatchNormKernel::gradient(const void* dy, const void* x, const float* mean, const float* variance,
                               const float* scale, const float* shift, bool own_statistics, void* dx, float* dscale,
                               float* dshift, void* scratch) const {
  for_ranges_of(2, scratch, [&](const Range& range) {
    gradient(range, dy, x, mean, variance, scale, shift, own_statistics, dx, dscale, dshift);
  });
}

BatchNormKernel find_batch_norm(const BatchNormShape& shape, float epsilon, const std::optional<ops::Clamp>& clamp,
                                DType dtype) {
  return BatchNormKernel(find_batch_norm_functions(dtype, clamp.has_value()), shape, epsilon,
                         clamp.value_or(ops::Clamp()), bytes_of(dtype, 1));
}

}  // namespace halfstep::simd
