// Convolutions with kernels of 3 x 3 or 5 x 5 and stride 1 by Winograd's algorithm, in f32: 16 multiplications for 2 x
// 2 outputs where the sum over windows takes 36, and 36 where it takes 100.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "executors/onednn/simd/gemm_kernels.h"

namespace halfstep::simd {

inline constexpr int kWinogradTile = 2;  ///< outputs of a tile along an axis

/// Images [N, C / T, H, W, T] of channels in blocks of T, which divides both numbers of channels and which vectors
/// divide.
struct WinogradShape {
  using Pair = std::array<std::int64_t, 2>;  ///< of rows, of columns

  std::int64_t images = 0, channels_in = 0, channels_out = 0, together = 0;
  Pair in{}, out{}, pads{};  ///< `pads` at the begin
  std::int64_t kernel = 0;   ///< 3 or 5
  /// Weights are squares of T channels, with the taps around them: element (tap, i, o) of a square is (tap T + i) T +
  /// o. Floats from one block of the channels that are read, or that are written, to the next:
  std::int64_t weights_in_step = 0, weights_out_step = 0;
  bool is_flipped = false;  ///< taps from the last to the first

  Pair tiles() const {
    return {(out[0] + kWinogradTile - 1) / kWinogradTile, (out[1] + kWinogradTile - 1) / kWinogradTile};
  }
  std::int64_t tile_count() const { return images * tiles()[0] * tiles()[1]; }
  std::int64_t taps() const { return kernel * kernel; }
  /// Products of a tile for two channels.
  std::int64_t points() const { return (kernel + kWinogradTile - 1) * (kernel + kWinogradTile - 1); }
  std::int64_t multiplications() const { return points() * tile_count() * channels_in * channels_out; }
};

/// Numbers of some tiles at every point: those of a point, `step` floats apart, are a matrix with a row of channels for
/// each tile.
struct WinogradMatrices {
  float* at = nullptr;
  std::int64_t step = 0, row = 0;
};

struct WinogradOperands {
  const float *x, *weights, *bias, *residual;  ///< the last two may be null
  float* y;
};

/// Functions over tiles [first, first + count).
struct WinogradFunctions {
  using Shape = WinogradShape;
  /// What x gives at the points, and what y does for the gradient of weights.
  void (*data)(const Shape& shape, const float* x, std::int64_t first, std::int64_t count, const WinogradMatrices& to);
  void (*diff)(const Shape& shape, const float* dy, std::int64_t first, std::int64_t count, const WinogradMatrices& to);
  /// The weights of output channels [channel, channel + width), one panel of every point: a row for each channel that
  /// is read, zeros behind the last one that is written.
  void (*weights)(const Shape& shape, const float* weights, std::int64_t channel, std::int64_t width,
                  const WinogradMatrices& to);
  /// Channels [channel, channel + channels) of y, whole vectors, of the tiles, with bias [channels_out] and residual
  /// (like y), which may be null. Elements that come out other than finite are computed again from x and the weights,
  /// window by window.
  void (*result)(const Shape& shape, const WinogradMatrices& from, std::int64_t first, std::int64_t count,
                 std::int64_t channel, std::int64_t channels, const WinogradOperands& operands);
  /// dw of input channels [channel, channel + channels), from the sum over `parts` matrices of every point, a row for
  /// each of these channels, `part_step` floats apart. Elements that come out other than finite are computed again.
  void (*weight_gradient)(const Shape& shape, const WinogradMatrices& from, std::int64_t parts, std::int64_t part_step,
                          std::int64_t channel, std::int64_t channels, const float* x, const float* dy, float* dw);
  /// db of `together` channels from `channel` on.
  void (*bias_gradient)(const Shape& shape, const float* dy, std::int64_t channel, float* db);
};
WinogradFunctions find_winograd(std::int64_t kernel);
/// Whether there are functions for the kernel, and vectors divide blocks of `together` channels.
bool has_winograd(std::int64_t kernel, std::int64_t together);

/// A convolution that is ready to run; results do not depend on the number of threads.
class Winograd {
 public:
  /// For teams of up to `threads`.
  Winograd(const WinogradShape& shape, int threads);

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scratch_floats_) * sizeof(float); }
  /// `scratch` is 64-byte aligned.
  void operator()(const WinogradOperands& operands, float* scratch) const;

 private:
  void run_by_blocks(const WinogradOperands& operands, float* scratch) const;
  void run_by_panels(const WinogradOperands& operands, float* scratch) const;
  /// One tile after the other of sums = data weights, of so many panels.
  void multiply(const WinogradMatrices& data, const float* weights, std::int64_t panels, const WinogradMatrices& sums,
                std::int64_t count) const;
  WinogradMatrices data_at(float* p) const { return {p, data_step_, data_row_}; }
  WinogradMatrices sums_at(float* p) const { return {p, sums_step_, sums_row_}; }

  WinogradShape shape_;
  WinogradFunctions functions_;
  GemmKernels products_;
  /// Either tiles are done block by block with all weights at the points, or weights panel by panel with all tiles:
  /// what is larger is not kept.
  bool by_panels_ = false;
  std::int64_t tiles_ = 0, panels_ = 0, shares_ = 0;  ///< of a block; of all weights; of blocks or panels among threads
  std::int64_t weights_step_ = 0, data_row_ = 0, data_step_ = 0, sums_row_ = 0, sums_step_ = 0, scratch_floats_ = 0;
};

/// The gradient of its weights, and with db that of the bias. A result depends on the number of threads where each adds
/// up the tiles of some images.
class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const WinogradShape& shape, int threads);

  std::size_t scratch_bytes() const { return static_cast<std::size_t>(scratch_floats_) * sizeof(float); }
  void operator()(const float* dy, const float* x, float* dw, float* db, float* scratch) const;

 private:
  void run_by_blocks(const float* dy, const float* x, float* dw, float* scratch) const;
  void run_by_channels(const float* dy, const float* x, float* dw, float* scratch) const;
  /// Of so many input channels; `adds` them to what sums hold.
  void multiply(const WinogradMatrices& data, const WinogradMatrices& diff, std::int64_t count, std::int64_t channels,
                float* sums, bool adds) const;
  WinogradMatrices data_at(float* p) const { return {p, data_step_, data_row_}; }
  WinogradMatrices diff_at(float* p) const { return {p, diff_step_, diff_row_}; }

  WinogradShape shape_;
  WinogradFunctions functions_;
  GemmKernels products_;
  /// Either tiles are done block by block with sums for all weights, or input channels so many at a time with all
  /// tiles.
  bool by_channels_ = false;
  std::int64_t tiles_ = 0, channels_ = 0, shares_ = 0;
  std::int64_t data_row_ = 0, diff_row_ = 0, data_step_ = 0, diff_step_ = 0, sums_step_ = 0, scratch_floats_ = 0;
};

}  // namespace halfstep::simd
