#include "executors/onednn/simd/chain.h"

#include <algorithm>
#include <utility>

#include "executors/onednn/simd/parallel.h"

namespace halfstep::simd {
namespace {

/// Tiles together take less than the first-level cache, which operands and results pass through as well.
constexpr std::size_t kTileBytes = 16 * 1024;
constexpr std::int64_t kMaxElements = 2048, kMaxRows = 64;

using Kind = ChainValue::Kind;

}  // namespace

ChainKernel::ChainKernel(const Broadcast& walk, std::vector<ChainValue> values, std::vector<ChainStep> steps)
    : walk_(walk), values_(std::move(values)), steps_(std::move(steps)) {
  for (const ChainStep& step : steps_) {
    const auto first = step.operands.begin(), last = first + step.function.operands;
    by_rows_.push_back(std::any_of(first, last, [&](std::uint8_t v) { return values_[v].kind == Kind::spread; }));
  }
  for (const ChainValue& value : values_)
    if (value.kind == Kind::whole) bytes_ += walk_.size() * value.bytes;
  plan_tiles();
}

// Tiles whose values are not read any more are used again, by values as wide.
void ChainKernel::plan_tiles() {
  std::vector<std::size_t> last_read(values_.size(), 0);
  for (std::size_t s = 0; s < steps_.size(); ++s)
    for (int i = 0; i < steps_[s].function.operands; ++i) last_read[steps_[s].operands[i]] = s;
  tile_offsets_.assign(values_.size(), 0);
  std::size_t bytes = 0;  // for each element
  std::vector<std::pair<std::size_t, std::uint8_t>> free;
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    const ChainStep& step = steps_[s];
    std::vector<std::uint8_t> read(step.operands.begin(), step.operands.begin() + step.function.operands);
    std::sort(read.begin(), read.end());
    read.erase(std::unique(read.begin(), read.end()), read.end());
    for (const std::uint8_t v : read)
      if (values_[v].kind == Kind::tile && last_read[v] == s) free.emplace_back(tile_offsets_[v], values_[v].bytes);
    const ChainValue& result = values_[step.result];
    if (result.kind != Kind::tile) continue;
    const auto fits = std::find_if(free.rbegin(), free.rend(), [&](const auto& t) { return t.second == result.bytes; });
    if (fits == free.rend()) {
      tile_offsets_[step.result] = bytes;
      bytes += result.bytes;
    } else {
      tile_offsets_[step.result] = fits->first;
      free.erase(std::next(fits).base());
    }
  }
  // Of 64 elements tiles begin at cache lines; of 16 as many as there can be have their place.
  constexpr std::int64_t kWhole = 64, kLeast = 16;
  static_assert(kMaxValues * sizeof(double) * kLeast <= kTileBytes);
  const auto most = static_cast<std::int64_t>(kTileBytes / std::max<std::size_t>(bytes, 1));
  const std::int64_t multiple = most >= kWhole ? kWhole : kLeast;
  tile_ = std::min(most / multiple * multiple, kMaxElements);
}

void ChainKernel::operator()(const std::vector<void*>& memory) const {
  const std::int64_t inner = walk_.inner(), rows = walk_.rows();
  if (inner >= tile_) {  // several pieces a row
    const std::int64_t pieces = blocks_of(inner, tile_);
    parallel_for(rows * pieces, bytes_, [&](std::int64_t i) {
      const std::int64_t begin = i % pieces * tile_;
      run(memory, {i / pieces, 1, begin, std::min(tile_, inner - begin)});
    });
    return;
  }
  const std::int64_t group = std::min(kMaxRows, tile_ / inner);  // several rows a piece
  parallel_for(blocks_of(rows, group), bytes_, [&](std::int64_t i) {
    run(memory, {i * group, std::min(group, rows - i * group), 0, inner});
  });
}

void ChainKernel::run(const std::vector<void*>& memory, const Piece& piece) const {
  alignas(64) std::byte tiles[kTileBytes];
  std::byte* at[kMaxValues];
  const std::int64_t first = piece.row * walk_.inner() + piece.begin;
  for (std::size_t v = 0; v < values_.size(); ++v) {
    const ChainValue& value = values_[v];
    at[v] = value.kind == Kind::tile
                ? tiles + tile_offsets_[v] * static_cast<std::size_t>(tile_)
                : static_cast<std::byte*>(memory[v]) + (value.kind == Kind::whole ? first * value.bytes : 0);
  }
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    const ChainStep& step = steps_[s];
    if (by_rows_[s]) {
      run_by_rows(step, at, piece);
      continue;
    }
    const void* in[3];
    std::int64_t moves[3];
    for (std::size_t i = 0; i < static_cast<std::size_t>(step.function.operands); ++i) {
      in[i] = at[step.operands[i]];
      moves[i] = values_[step.operands[i]].kind == Kind::single ? 0 : 1;
    }
    step.function(in, moves, at[step.result], piece.rows * piece.count);
  }
}

void ChainKernel::run_by_rows(const ChainStep& step, std::byte* const* at, const Piece& piece) const {
  for (std::int64_t row = 0; row < piece.rows; ++row) {
    const auto offsets = walk_.row_offsets(piece.row + row);
    const void* in[3];
    std::int64_t moves[3];
    for (std::size_t i = 0; i < static_cast<std::size_t>(step.function.operands); ++i) {
      const ChainValue& value = values_[step.operands[i]];
      std::int64_t offset = row * piece.count;
      moves[i] = value.kind == Kind::single ? 0 : 1;
      if (value.kind == Kind::single) offset = 0;
      if (value.kind == Kind::spread) {
        moves[i] = walk_.moves(value.walk);
        offset = offsets[value.walk] + moves[i] * piece.begin;
      }
      in[i] = at[step.operands[i]] + offset * value.bytes;
    }
    step.function(in, moves, at[step.result] + row * piece.count * values_[step.result].bytes, piece.count);
  }
}

}  // namespace halfstep::simd
