// Batch normalization: moments of pieces that fit the cache, combined in double, and one pass that applies them.
#include "executors/onednn/simd/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {
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

/// Calls body(part, piece) for all parts, as they follow each other in memory within an image: a part alone is too
/// short for the CPU to read ahead.
template <class Body>
void for_parts(const BatchNormShape& shape, std::int64_t bytes, const Body& body) {
  const Cut cut(shape);
  parallel_for(cut.pieces * shape.groups * cut.tiles, bytes, [&](std::int64_t i) {
    const std::int64_t lane = i % cut.tiles * kWidth, piece = i / cut.tiles % cut.pieces;
    const std::int64_t group = i / (cut.tiles * cut.pieces), begin = piece * cut.length;
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
  return BatchNormKernel(find_batch_norm_functions(dtype, clamp.has_value()), shape, epsilon,
                         clamp.value_or(ops::Clamp()), bytes_of(dtype, 1));
}

}  // namespace halfstep::simd
