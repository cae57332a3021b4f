#include "executors/onednn/simd/winograd.h"

#include <algorithm>

#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {
namespace {

constexpr std::int64_t kLine = 16;      // floats of a cache line
constexpr std::int64_t kTiles = 60;     // of a block
constexpr std::int64_t kChannels = 96;  // read, whose weights' gradients are summed up together; whole blocks

/// Matrices lie an odd number of lines apart, so that the points of an element are in different sets of a cache.
std::int64_t apart(std::int64_t floats) { return (blocks_of(floats, kLine) | 1) * kLine; }
std::int64_t round_up(std::int64_t n, std::int64_t size) { return blocks_of(n, size) * size; }
std::int64_t bytes(std::int64_t floats) { return floats * static_cast<std::int64_t>(sizeof(float)); }

/// body(first, count) for the parts of at most `size` that [0, n) is cut into, of one of `shares`.
template <class Body>
void for_share(std::int64_t share, std::int64_t shares, std::int64_t n, std::int64_t size, const Body& body) {
  const std::int64_t parts = blocks_of(n, size);
  for (std::int64_t part = parts * share / shares; part < parts * (share + 1) / shares; ++part)
    body(part * size, std::min(size, n - part * size));
}

/// body(first, count) for parts of all tiles, shared among threads.
template <class Body>
void for_all_tiles(const WinogradShape& shape, std::int64_t floats, const Body& body) {
  constexpr std::int64_t kSlice = 16;
  const std::int64_t parts = blocks_of(shape.tile_count(), kSlice);
  parallel_for(parts, bytes(floats),
               [&](std::int64_t part) { for_share(part, parts, shape.tile_count(), kSlice, body); });
}

WinogradMatrices rows_of(const WinogradMatrices& m, std::int64_t first) {
  return {m.at + first * m.row, m.step, m.row};
}

}  // namespace

Winograd::Winograd(const WinogradShape& shape, int threads)
    : shape_(shape), functions_(find_winograd(shape.kernel)), products_(find_gemm_kernels(DType::f32)) {
  const std::int64_t width = products_.columns, tiles = shape.tile_count();
  panels_ = blocks_of(shape.channels_out, width);
  by_panels_ = tiles < shape.channels_out;
  tiles_ = by_panels_ ? tiles : std::min(kTiles, tiles);
  shares_ = std::min<std::int64_t>(threads, by_panels_ ? panels_ : blocks_of(tiles, tiles_));
  const std::int64_t together = by_panels_ ? 1 : panels_;
  weights_step_ = apart(together * shape.channels_in * width);
  data_row_ = shape.channels_in + kLine;
  data_step_ = apart(tiles_ * data_row_);
  sums_row_ = together * width + kLine;
  sums_step_ = apart(tiles_ * sums_row_);
  const std::int64_t once = by_panels_ ? data_step_ : weights_step_;
  const std::int64_t each = (by_panels_ ? weights_step_ : data_step_) + sums_step_;
  scratch_floats_ = shape.points() * (once + shares_ * each);
}

void Winograd::operator()(const WinogradOperands& operands, float* scratch) const {
  if (by_panels_)
    run_by_panels(operands, scratch);
  else
    run_by_blocks(operands, scratch);
}

void Winograd::multiply(const WinogradMatrices& data, const float* weights, std::int64_t panels,
                        const WinogradMatrices& sums, std::int64_t count) const {
  const std::int64_t rows = products_.rows, width = products_.columns;
  GemmTile tile{};
  tile.a_row = data.row;
  tile.a_step = 1;
  tile.b_step = width;
  tile.depth = shape_.channels_in;
  tile.y_row = sums.row;
  for (std::int64_t point = 0; point < shape_.points(); ++point) {
    tile.b = weights + point * weights_step_;
    for (std::int64_t panel = 0; panel < panels; ++panel, tile.b += tile.depth * width) {
      for (std::int64_t row = 0; row < count; row += rows) {
        tile.a = data.at + point * data.step + row * data.row;
        tile.y = sums.at + point * sums.step + row * sums.row + panel * width;
        products_.tile(tile, std::min(rows, count - row), width);
      }
    }
  }
}

void Winograd::run_by_blocks(const WinogradOperands& operands, float* scratch) const {
  const std::int64_t width = products_.columns, points = shape_.points();
  parallel_for(panels_, bytes(points * weights_step_), [&](std::int64_t panel) {
    functions_.weights(shape_, operands.weights, panel * width, width,
                       {scratch + panel * shape_.channels_in * width, weights_step_, width});
  });
  parallel_for(shares_, shape_.multiplications(), [&](std::int64_t share) {
    const WinogradMatrices data = data_at(scratch + points * (weights_step_ + share * (data_step_ + sums_step_)));
    const WinogradMatrices sums = sums_at(data.at + points * data_step_);
    for_share(share, shares_, shape_.tile_count(), tiles_, [&](std::int64_t first, std::int64_t count) {
      functions_.data(shape_, operands.x, first, count, data);
      multiply(data, scratch, panels_, sums, count);
      functions_.result(shape_, sums, first, count, 0, shape_.channels_out, operands);
    });
  });
}

void Winograd::run_by_panels(const WinogradOperands& operands, float* scratch) const {
  const std::int64_t width = products_.columns, points = shape_.points();
  const WinogradMatrices data = data_at(scratch);
  for_all_tiles(shape_, points * data_step_, [&](std::int64_t first, std::int64_t count) {
    functions_.data(shape_, operands.x, first, count, rows_of(data, first));
  });
  parallel_for(shares_, shape_.multiplications(), [&](std::int64_t share) {
    float* weights = scratch + points * (data_step_ + share * (weights_step_ + sums_step_));
    const WinogradMatrices sums = sums_at(weights + points * weights_step_);
    for_share(share, shares_, shape_.channels_out, width, [&](std::int64_t channel, std::int64_t channels) {
      functions_.weights(shape_, operands.weights, channel, width, {weights, weights_step_, width});
      multiply(data, weights, 1, sums, tiles_);
      functions_.result(shape_, sums, 0, tiles_, channel, channels, operands);
    });
  });
}

WinogradWeightGradient::WinogradWeightGradient(const WinogradShape& shape, int threads)
    : shape_(shape), functions_(find_winograd(shape.kernel)), products_(find_gemm_kernels(DType::f32)) {
  const std::int64_t tiles = shape.tile_count(), all = shape.channels_in;
  by_channels_ = tiles < shape.channels_out;
  tiles_ = by_channels_ ? tiles : std::min(kTiles, tiles);
  channels_ = by_channels_ ? std::min(kChannels, all) : all;
  shares_ = std::min(std::int64_t{threads}, by_channels_ ? blocks_of(all, channels_) : blocks_of(tiles, tiles_));
  data_row_ = all + kLine;
  data_step_ = apart(tiles_ * data_row_);
  diff_row_ = round_up(shape.channels_out, products_.columns) + kLine;  // sums have the same
  diff_step_ = apart(tiles_ * diff_row_);
  sums_step_ = apart(channels_ * diff_row_);
  scratch_floats_ = shape.points() * ((by_channels_ ? 1 : shares_) * (data_step_ + diff_step_) + shares_ * sums_step_);
}

void WinogradWeightGradient::operator()(const float* dy, const float* x, float* dw, float* db, float* scratch) const {
  if (by_channels_)
    run_by_channels(dy, x, dw, scratch);
  else
    run_by_blocks(dy, x, dw, scratch);
  if (!db) return;
  const std::int64_t size = shape_.images * shape_.channels_out * shape_.out[0] * shape_.out[1];
  parallel_for(shape_.channels_out / shape_.together, bytes(size),
               [&](std::int64_t block) { functions_.bias_gradient(shape_, dy, block * shape_.together, db); });
}

void WinogradWeightGradient::multiply(const WinogradMatrices& data, const WinogradMatrices& diff, std::int64_t count,
                                      std::int64_t channels, float* sums, bool adds) const {
  const std::int64_t rows = products_.rows, width = products_.columns;
  GemmTile tile{};
  tile.a_row = 1;
  tile.a_step = data.row;
  tile.b_step = diff.row;
  tile.depth = count;
  tile.y_row = tile.plus_row = diff_row_;
  tile.plus_column = 1;
  for (std::int64_t point = 0; point < shape_.points(); ++point) {
    for (std::int64_t column = 0; column < shape_.channels_out; column += width) {
      tile.b = diff.at + point * diff.step + column;
      for (std::int64_t row = 0; row < channels; row += rows) {
        float* to = sums + point * sums_step_ + row * diff_row_ + column;
        tile.a = data.at + point * data.step + row;
        tile.plus = adds ? to : nullptr;
        tile.y = to;
        products_.tile(tile, std::min(rows, channels - row), std::min(width, shape_.channels_out - column));
      }
    }
  }
}

void WinogradWeightGradient::run_by_blocks(const float* dy, const float* x, float* dw, float* scratch) const {
  const std::int64_t points = shape_.points();
  float* all_sums = scratch + points * shares_ * (data_step_ + diff_step_);
  parallel_for(shares_, shape_.multiplications(), [&](std::int64_t share) {
    const WinogradMatrices data = data_at(scratch + points * share * (data_step_ + diff_step_));
    const WinogradMatrices diff = diff_at(data.at + points * data_step_);
    bool adds = false;
    for_share(share, shares_, shape_.tile_count(), tiles_, [&](std::int64_t first, std::int64_t count) {
      functions_.data(shape_, x, first, count, data);
      functions_.diff(shape_, dy, first, count, diff);
      multiply(data, diff, count, channels_, all_sums + points * share * sums_step_, adds);
      adds = true;
    });
  });
  const std::int64_t together = shape_.together;
  parallel_for(channels_ / together, bytes(points * shares_ * sums_step_), [&](std::int64_t block) {
    const float* first = all_sums + block * together * diff_row_;
    functions_.weight_gradient(shape_, {const_cast<float*>(first), sums_step_, diff_row_}, shares_, points * sums_step_,
                               block * together, together, x, dy, dw);
  });
}

void WinogradWeightGradient::run_by_channels(const float* dy, const float* x, float* dw, float* scratch) const {
  const std::int64_t points = shape_.points();
  const WinogradMatrices data = data_at(scratch), diff = diff_at(scratch + points * data_step_);
  for_all_tiles(shape_, points * (data_step_ + diff_step_), [&](std::int64_t first, std::int64_t count) {
    functions_.data(shape_, x, first, count, rows_of(data, first));
    functions_.diff(shape_, dy, first, count, rows_of(diff, first));
  });
  parallel_for(shares_, shape_.multiplications(), [&](std::int64_t share) {
    float* sums = scratch + points * (data_step_ + diff_step_ + share * sums_step_);
    for_share(share, shares_, shape_.channels_in, channels_, [&](std::int64_t channel, std::int64_t channels) {
      multiply({data.at + channel, data.step, data.row}, diff, tiles_, channels, sums, false);
      functions_.weight_gradient(shape_, {sums, sums_step_, diff_row_}, 1, 0, channel, channels, x, dy, dw);
    });
  });
}

}  // namespace halfstep::simd
