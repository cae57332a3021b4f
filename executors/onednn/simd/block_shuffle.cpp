#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/block_shuffle.cpp"
#include "executors/onednn/simd/block_shuffle.h"

#include <algorithm>
#include <functional>
#include <iterator>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before the other headers
#include <hwy/highway.h>

#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR
void pick(const ShuffleStep& step, const std::byte* from, std::byte* to) {
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t side = 0; side < 2; ++side)
      if (const std::uint8_t at = step.picked[side][i]; at < 16) to[i] = from[step.from[side] + at];
}

template <int kBlocks>
void pick_all(const ShuffleStep& step, const std::byte* from, std::int64_t from_step, std::byte* to,
              std::int64_t to_step) {
  for (int b = 0; b < kBlocks; ++b) pick(step, from + b * from_step, to + b * to_step);
}
#else
/// The same 16 bytes of several blocks.
template <int kBlocks>
HWY_INLINE void pick_all(const ShuffleStep& step, const std::byte* from, std::int64_t from_step, std::byte* to,
                         std::int64_t to_step) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::Full128<std::uint8_t> d;
  const auto first = hn::LoadU(d, step.picked[0]), second = hn::LoadU(d, step.picked[1]);
  const auto* a = reinterpret_cast<const std::uint8_t*>(from + step.from[0]);
  const auto* b = reinterpret_cast<const std::uint8_t*>(from + step.from[1]);
  auto* y = reinterpret_cast<std::uint8_t*>(to);
  for (int i = 0; i < kBlocks; ++i)
    hn::StoreU(hn::Or(hn::TableLookupBytesOr0(hn::LoadU(d, a + i * from_step), first),
                      hn::TableLookupBytesOr0(hn::LoadU(d, b + i * from_step), second)),
               d, y + i * to_step);
}
#endif

template <int kBlocks>
HWY_INLINE void shuffle_blocks(const std::vector<ShuffleStep>& steps, const std::byte* from, std::int64_t from_step,
                               std::byte* to, std::int64_t to_step) {
  constexpr std::size_t kLine = 64;
  for (std::size_t i = 0; i < steps.size(); ++i, to += 16) {
    // The blocks that follow: as many streams as there are here keep a CPU from loading ahead by itself.
    for (int b = kBlocks; b < 2 * kBlocks && i * 16 % kLine == 0; ++b) {
      hwy::Prefetch(from + b * from_step + static_cast<std::int64_t>(i * 16));
      hwy::Prefetch(to + b * to_step);
    }
    pick_all<kBlocks>(steps[i], from, from_step, to, to_step);
  }
}

void shuffle(const std::vector<ShuffleStep>& steps, const std::byte* from, std::int64_t from_step, std::byte* to,
             std::int64_t to_step, std::int64_t count) {
  constexpr int kTogether = 4;
  std::int64_t i = 0;
  for (; i + kTogether <= count; i += kTogether)
    shuffle_blocks<kTogether>(steps, from + i * from_step, from_step, to + i * to_step, to_step);
  for (; i < count; ++i) shuffle_blocks<1>(steps, from + i * from_step, from_step, to + i * to_step, to_step);
}

ShuffleFn find() { return &shuffle; }

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);

namespace {

constexpr std::int64_t kBytes = 16;
constexpr std::uint8_t kNone = 0x80;

/// Nothing where these elements lie in more than two parts of the source.
std::optional<ShuffleStep> step_of(std::span<const std::int64_t> sources, std::int64_t element_bytes) {
  ShuffleStep step{};
  std::size_t parts = 0;
  for (auto& picked : step.picked) std::ranges::fill(picked, kNone);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::int64_t byte = sources[i] * element_bytes, part = byte / kBytes * kBytes;
    std::size_t side = 0;
    while (side < parts && step.from[side] != part) ++side;
    if (side == std::size(step.from)) return std::nullopt;
    if (side == parts) step.from[parts++] = static_cast<std::int32_t>(part);
    for (std::int64_t k = 0; k < element_bytes; ++k)
      step.picked[side][static_cast<std::int64_t>(i) * element_bytes + k] = static_cast<std::uint8_t>(byte - part + k);
  }
  return step;
}

}  // namespace

std::optional<BlockShuffle> BlockShuffle::find(std::span<const std::int64_t> sources, std::span<const Axis> axes,
                                               std::size_t element_bytes) {
  const auto size = static_cast<std::int64_t>(element_bytes);
  const auto together = static_cast<std::size_t>(kBytes / size);
  if (kBytes % size != 0 || sources.empty() || sources.size() % together != 0) return std::nullopt;
  BlockShuffle shuffle;
  for (std::size_t i = 0; i < sources.size(); i += together) {
    const auto step = step_of(sources.subspan(i, together), size);
    if (!step) return std::nullopt;
    shuffle.steps_.push_back(*step);
  }
  // In the target's order; neighbours that both sides walk alike become one.
  std::vector<Axis> sorted(axes.begin(), axes.end());
  std::ranges::stable_sort(sorted, std::greater(), &Axis::to);
  for (const Axis& axis : sorted) {
    if (axis.extent == 1) continue;
    Axis* outer = shuffle.axes_.empty() ? nullptr : &shuffle.axes_.back();
    const Axis own{axis.extent, axis.from * size, axis.to * size};
    if (outer && outer->from == own.from * own.extent && outer->to == own.to * own.extent)
      *outer = {outer->extent * own.extent, own.from, own.to};
    else
      shuffle.axes_.push_back(own);
  }
  if (shuffle.axes_.empty()) shuffle.axes_.push_back({1, 0, 0});
  for (std::size_t i = 0; i + 1 < shuffle.axes_.size(); ++i) shuffle.rows_ *= shuffle.axes_[i].extent;
  shuffle.function_ = HWY_DYNAMIC_DISPATCH(find)();
  return shuffle;
}

void BlockShuffle::operator()(const void* from, void* to) const {
  constexpr std::int64_t kBlocks = 16;  // of a share of work
  const Axis& inner = axes_.back();
  const std::int64_t shares = blocks_of(inner.extent, kBlocks);
  const std::int64_t block_bytes = static_cast<std::int64_t>(steps_.size()) * kBytes;
  parallel_for(rows_ * shares, 2 * rows_ * inner.extent * block_bytes, [&](std::int64_t i) {
    const std::int64_t first = i % shares * kBlocks;
    std::int64_t source = first * inner.from, target = first * inner.to;
    for (std::int64_t axis = static_cast<std::int64_t>(axes_.size()) - 1, rest = i / shares; axis-- > 0;) {
      const Axis& outer = axes_[static_cast<std::size_t>(axis)];
      source += rest % outer.extent * outer.from;
      target += rest % outer.extent * outer.to;
      rest /= outer.extent;
    }
    function_(steps_, static_cast<const std::byte*>(from) + source, inner.from, static_cast<std::byte*>(to) + target,
              inner.to, std::min(kBlocks, inner.extent - first));
  });
}

}  // namespace halfstep::simd
#endif
