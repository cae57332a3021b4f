#include "executors/onednn/reorder.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <string_view>
#include <utility>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/elementwise.h"

namespace halfstep::onednn {
namespace {

using core::Dims;
using core::Layout;

/// `extent` elements of an axis, `step` apart.
struct Part {
  std::int64_t extent, step;
};

/// How a layout walks an axis: in blocks, which may be cut again.
struct Walk {
  std::vector<Part> blocks;     ///< from the innermost
  std::int64_t block = 1;       ///< elements of a whole block
  std::int64_t block_step = 1;  ///< from one to the next
  std::int64_t element_step() const { return blocks.empty() ? block_step : blocks[0].step; }

  std::int64_t offset(std::int64_t index) const { return index / block * block_step + index % block * element_step(); }
};

Walk walk_of(const Layout& layout, const Dims& dims, std::size_t axis) {
  if (layout.is_row_major()) return {{}, 1, core::row_major_strides(dims)[axis]};
  const Layout::Order& order = layout.order();
  Walk walk{{}, 1, order.strides[axis]};
  std::int64_t step = 1;
  for (std::size_t i = order.blocks.size(); i-- > 0;) {
    if (order.block_axes[i] == static_cast<std::int64_t>(axis)) {
      walk.blocks.push_back({order.blocks[i], step});
      walk.block *= order.blocks[i];
    }
    step *= order.blocks[i];
  }
  return walk;
}

/// A part of a box: the same extent on both sides.
struct Axis {
  std::int64_t extent, from, to;
};

/// A range of an axis that both sides walk evenly, cut into axes.
struct Range {
  std::int64_t from = 0, to = 0;  ///< where it begins
  std::vector<Axis> axes;
};

/// `count` elements, whole blocks of both sides. False where parts do not fit into each other.
bool cut(const Walk& from, const Walk& to, std::int64_t count, std::vector<Axis>& axes) {
  const auto parts_of = [&](const Walk& walk) {
    std::vector<Part> parts = walk.blocks;
    parts.push_back({count / walk.block, walk.block_step});
    return parts;
  };
  std::vector<Part> a = parts_of(from), b = parts_of(to);
  std::size_t i = 0, k = 0;
  while (i < a.size() && k < b.size()) {
    const std::int64_t extent = std::min(a[i].extent, b[k].extent);
    if (a[i].extent % extent != 0 || b[k].extent % extent != 0) return false;
    if (extent > 1) axes.push_back({extent, a[i].step, b[k].step});
    const auto advance = [&](Part& part, std::size_t& position) {
      part = {part.extent / extent, part.step * extent};
      if (part.extent == 1) ++position;
    };
    advance(a[i], i);
    advance(b[k], k);
  }
  return true;
}

/// Nothing where the sides do not fit together.
std::optional<std::vector<Range>> ranges_of(const Walk& from, const Walk& to, std::int64_t extent) {
  const std::int64_t both = std::max(from.block, to.block);
  if (both % from.block != 0 || both % to.block != 0) return std::nullopt;
  std::vector<Range> ranges;
  for (std::int64_t at = 0; at < extent;) {
    Range range{from.offset(at), to.offset(at), {}};
    std::int64_t count = (extent - at) / both * both;
    if (count > 0) {
      if (!cut(from, to, count, range.axes)) return std::nullopt;
    } else {  // within one block of each side
      if (from.blocks.size() > 1 || to.blocks.size() > 1) return std::nullopt;
      count = std::min({extent - at, from.block - at % from.block, to.block - at % to.block});
      // Elements that are blocks of their own run on.
      if (from.block == 1) count = std::min(extent - at, to.block - at % to.block);
      if (to.block == 1) count = std::min(extent - at, from.block - at % from.block);
      range.axes.push_back({count, from.element_step(), to.element_step()});
    }
    ranges.push_back(std::move(range));
    at += count;
  }
  return ranges;
}

/// Elements of a block along each axis.
Dims block_of(const Layout::Order& order) {
  Dims block(order.dims.size(), 1);
  for (std::size_t i = 0; i < order.blocks.size(); ++i) block[order.block_axes[i]] *= order.blocks[i];
  return block;
}

/// For each element of a block of the one order its place in a block of the other.
Dims places_of(const Layout::Order& to, const Layout::Order& from, std::int64_t count) {
  Dims places;
  for (std::int64_t element = 0; element < count; ++element) {
    Dims at(to.dims.size(), 0), below(to.dims.size(), 1);
    std::int64_t rest = element, place = 0, step = 1;
    for (std::size_t i = to.blocks.size(); i-- > 0; rest /= to.blocks[i]) {
      const std::int64_t axis = to.block_axes[i];
      at[axis] += rest % to.blocks[i] * below[axis];
      below[axis] *= to.blocks[i];
    }
    for (std::size_t i = from.blocks.size(); i-- > 0; step *= from.blocks[i]) {
      std::int64_t& along = at[from.block_axes[i]];
      place += along % from.blocks[i] * step;
      along /= from.blocks[i];
    }
    places.push_back(place);
  }
  return places;
}

/// oneDNN's primitive for anything, which is slow.
bool is_generic(const dnnl::reorder::primitive_desc& pd) {
  const std::string_view kernel = pd.impl_info_str();
  return kernel.starts_with("simple") || kernel.starts_with("ref");
}

Made make_primitive(const dnnl::reorder::primitive_desc& pd, const Place& from, const Place& to,
                    const core::TakeScratch& take_scratch) {
  const BufferId scratch = take_scratch(pd.scratchpad_desc().get_size());
  return {kernel_name(pd),
          {},
          bind_primitive(dnnl::reorder(pd), {{DNNL_ARG_FROM, from.desc, from.buffer},
                                             {DNNL_ARG_TO, to.desc, to.buffer},
                                             {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), scratch}})};
}

DType dtype_of(const Desc& desc) {
  for (DType dtype : {DType::f32, DType::f16, DType::bf16})
    if (data_type(dtype) == desc.get_data_type()) return dtype;
  return DType::undefined;
}

std::size_t begin_of(const Desc& desc) {
  return bytes_of(dtype_of(desc), static_cast<std::size_t>(desc.get_submemory_offset()));
}

/// Whether a descriptor is of all of its memory: no offset, no gaps.
bool is_whole(const Desc& desc) {
  const Dims& padded = desc.get_padded_dims();
  const std::int64_t count = std::accumulate(padded.begin(), padded.end(), std::int64_t{1}, std::multiplies<>());
  return desc.get_submemory_offset() == 0 &&
         desc.get_size() == bytes_of(dtype_of(desc), static_cast<std::size_t>(count));
}

bool is_padded(const Desc& desc) { return desc.get_padded_dims() != desc.get_dims(); }

/// The elements move in the smaller type, which lies packed between.
Made make_move_and_cast(const Place& from, const Place& to, const core::TakeScratch& take_scratch) {
  const DType before = dtype_of(from.desc), after = dtype_of(to.desc);
  const bool widens = bytes_of(before, 1) < bytes_of(after, 1);
  const Desc middle =
      desc_of(layout_of(widens ? to.desc : from.desc), Shape(from.desc.get_dims()), widens ? before : after);
  const auto count = static_cast<std::int64_t>(middle.get_size() / bytes_of(dtype_of(middle), 1));
  const Place between{middle, take_scratch(middle.get_size())};
  Made move = widens ? make_move(from, between, take_scratch) : make_move(between, to, take_scratch);
  const auto cast = [=](BufferId source, BufferId target) -> Bind {
    return [=, convert = simd::find_cast(before, after)](const Memory& memory) -> Run {
      return [=, x = memory.at(source), y = memory.at(target)] { convert(x, y, count); };
    };
  };
  Bind all = widens ? core::in_sequence(std::move(move.bind), cast(between.buffer, to.buffer))
                    : core::in_sequence(cast(from.buffer, between.buffer), std::move(move.bind));
  return {std::move(move.kernel), {}, std::move(all)};
}

}  // namespace

std::optional<simd::BlockShuffle> find_shuffle(const Layout& from, const Layout& to, std::size_t element_bytes) {
  if (from.is_row_major() || to.is_row_major()) return std::nullopt;
  const Layout::Order &a = from.order(), &b = to.order();
  const Dims block = block_of(a);
  const std::int64_t count = std::accumulate(block.begin(), block.end(), std::int64_t{1}, std::multiplies<>());
  constexpr std::int64_t kMost = 1024;
  if (a.dims != b.dims || a.padded != b.padded || block_of(b) != block || count == 1 || count > kMost)
    return std::nullopt;
  std::vector<simd::BlockShuffle::Axis> axes;
  for (std::size_t i = 0; i < block.size(); ++i) axes.push_back({a.padded[i] / block[i], a.strides[i], b.strides[i]});
  return simd::BlockShuffle::find(places_of(b, a, count), axes, element_bytes);
}

Made make_move(const Place& from, const Place& to, const core::TakeScratch& take_scratch) {
  if (from.desc.get_data_type() == to.desc.get_data_type() && is_whole(from.desc) && is_whole(to.desc)) {
    if (auto shuffle = find_shuffle(layout_of(from.desc), layout_of(to.desc), bytes_of(dtype_of(from.desc), 1)))
      return {
          "simd", {}, [=, shuffle = std::move(*shuffle), a = from.buffer, b = to.buffer](const Memory& memory) -> Run {
            return [shuffle, x = memory.at(a), y = memory.at(b)] { shuffle(x, y); };
          }};
  }
  const dnnl::reorder::primitive_desc pd(engine(), from.desc, engine(), to.desc, user_scratchpad());
  if (!is_generic(pd)) return make_primitive(pd, from, to, take_scratch);
  const std::size_t source = begin_of(from.desc), target = begin_of(to.desc);
  const bool is_part = !is_whole(from.desc) || !is_whole(to.desc);
  // The padding of a part is the whole's.
  if (is_part && (is_padded(from.desc) || is_padded(to.desc) || from.desc.get_data_type() != to.desc.get_data_type()))
    return make_primitive(pd, from, to, take_scratch);
  const auto reorder =
      Reorder::find(from.desc.get_dims(), layout_of(from.desc), layout_of(to.desc), bytes_of(dtype_of(from.desc), 1));
  if (!reorder) return make_primitive(pd, from, to, take_scratch);
  if (from.desc.get_data_type() != to.desc.get_data_type()) return make_move_and_cast(from, to, take_scratch);
  return {"simd", {}, [=, a = from.buffer, b = to.buffer](const Memory& memory) -> Run {
            return [reorder = *reorder, x = memory.as<std::byte>(a) + source, y = memory.as<std::byte>(b) + target] {
              reorder(x, y);
            };
          }};
}

std::optional<Reorder> Reorder::find(const Dims& dims, const Layout& from, const Layout& to,
                                     std::size_t element_bytes) {
  std::vector<Range> boxes = {{}};  // grown axis by axis
  for (std::size_t axis = 0; axis < dims.size(); ++axis) {
    const auto ranges = ranges_of(walk_of(from, dims, axis), walk_of(to, dims, axis), dims[axis]);
    if (!ranges) return std::nullopt;
    std::vector<Range> grown;
    for (const Range& box : boxes)
      for (const Range& range : *ranges) {
        grown.push_back({box.from + range.from, box.to + range.to, box.axes});
        grown.back().axes.insert(grown.back().axes.end(), range.axes.begin(), range.axes.end());
      }
    boxes = std::move(grown);
  }

  Reorder reorder;
  if (to.is_padded()) reorder.cleared_ = element_bytes * static_cast<std::size_t>(to.stored(Shape(dims).count()));
  for (Range& box : boxes) {
    if (box.axes.size() > simd::StridedCopy::kMaxRank) return std::nullopt;
    std::stable_sort(box.axes.begin(), box.axes.end(), [](const Axis& a, const Axis& b) { return a.to > b.to; });
    Dims extents, from_steps, to_steps;
    for (const Axis& axis : box.axes) {
      extents.push_back(axis.extent);
      from_steps.push_back(axis.from);
      to_steps.push_back(axis.to);
    }
    reorder.boxes_.push_back({element_bytes * static_cast<std::size_t>(box.from),
                              element_bytes * static_cast<std::size_t>(box.to),
                              simd::StridedCopy(extents, from_steps, to_steps, element_bytes)});
  }
  return reorder;
}

void Reorder::operator()(const void* from, void* to) const {
  if (cleared_ > 0) std::memset(to, 0, cleared_);
  for (const Box& box : boxes_)
    box.copy(static_cast<const std::byte*>(from) + box.from, static_cast<std::byte*>(to) + box.to);
}

}  // namespace halfstep::onednn
