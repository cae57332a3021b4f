#include "executors/cudnn/row_text.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernels/device_text.h"

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kMostChunks = 1024;

std::uint32_t size_of(DType t) { return static_cast<std::uint32_t>(bytes_of(t, 1)); }

/// How the threads of a block share rows.
struct Sharing {
  bool by_columns = false;  ///< rows next to each other by the threads of a warp
  int lanes = 32;           ///< threads of a row
  std::int64_t vector = 1;  ///< elements that a thread takes at once

  std::int64_t rows_per_block() const { return by_columns ? 32 : kThreads / lanes; }
};

Sharing sharing_of(const RowFunction& f, const RowShape& shape) {
  Sharing sharing;
  const bool rows_touch = !shape.row_steps.empty() && shape.row_steps.back() == 1;
  const bool is_contiguous = shape.steps.empty() || (shape.steps.size() == 1 && shape.steps[0] == 1);
  if (rows_touch && !is_contiguous) {
    sharing.by_columns = true;
    sharing.lanes = 8;
    return sharing;
  }
  if (is_contiguous && !f.elements.empty()) {
    std::uint32_t narrowest = 16;
    for (const DType t : f.elements) narrowest = std::min(narrowest, size_of(t));
    if (!f.value.empty()) narrowest = std::min(narrowest, size_of(f.result));
    const std::int64_t most = std::min(8u, 16 / narrowest);
    const auto fits = [&](std::int64_t n) { return n % most == 0; };
    if (fits(shape.length) && std::ranges::all_of(shape.row_steps, fits)) sharing.vector = most;
  }
  const std::int64_t pieces = shape.length / sharing.vector;
  sharing.lanes = pieces <= 16 ? 8 : pieces <= 512 ? 32 : 256;
  return sharing;
}

/// The loop over a thread's elements, with `inside` for each.
std::string loop(const RowFunction& f, const Sharing& sharing, std::size_t axes, const std::string& inside,
                 bool writes) {
  std::string vectors, singles, stored;
  for (std::size_t k = 0; k < f.elements.size(); ++k) {
    const std::string_view element = element_name(f.elements[k]), value = value_name(f.elements[k]);
    vectors += fmt::format("        const Vector<{0}, V> p{1} = read<{0}, V>(a.in[{1}], base + v);\n", element, k);
    stored += fmt::format("          const {} x{} = load(p{}.at[k]);\n", value, k, k);
    singles +=
        fmt::format("        const {} x{} = load(static_cast<const {}*>(a.in[{}])[at]);\n", value, k, element, k);
  }
  const std::string_view result = writes ? element_name(f.result) : "";
  std::string text;
  if (sharing.vector > 1)
    text += fmt::format(
        "    if (a.vectors) {{\n      for (i64 v = first + lane * V; v < last; v += L * V) {{\n{vectors}{declared}"
        "#pragma unroll\n        for (int k = 0; k < V; ++k) {{\n          const i64 j = v + k;\n{stored}          "
        "{inside}{put}\n        }}\n{written}      }}\n    }} else\n",
        fmt::arg("vectors", vectors), fmt::arg("stored", stored), fmt::arg("inside", inside),
        fmt::arg("declared", writes ? fmt::format("        Vector<{}, V> r;\n", result) : ""),
        fmt::arg("put", writes ? fmt::format(" r.at[k] = round_to<{}>({});", result, f.value) : ""),
        fmt::arg("written", writes ? fmt::format("        write<{}, V>(a.out[0], base + v, r);\n", result) : ""));
  return text + fmt::format(
                    "      for (i64 j = first + lane; j < last; j += L) {{\n        const i64 at = base + "
                    "place<{axes}>(j, a.extents, a.steps);\n{singles}        {inside}{put}\n      }}\n",
                    fmt::arg("axes", axes), fmt::arg("singles", singles), fmt::arg("inside", inside),
                    fmt::arg("put", writes ? fmt::format(" static_cast<{0}*>(a.out[0])[at] = round_to<{0}>({1});",
                                                         result, f.value)
                                           : ""));
}

std::string beginning(const RowFunction& f, bool is_narrow) {
  return fmt::format("{}{}\ntypedef {} Position;\n{}{}\n{}\n", kDeviceText, kRowArgumentsText,
                     is_narrow ? "u32" : "u64", kPlacesText, f.functions, f.accumulator);
}

std::string main_text(const RowFunction& f, const RowShape& shape, const Sharing& sharing, bool is_split) {
  const bool gathers = !f.accumulator.empty();
  std::string body;
  if (gathers) {
    body += "    Accumulator acc = identity();\n" + loop(f, sharing, shape.extents.size(), f.gather, false);
    body += sharing.by_columns ? "    acc = join_warps(acc);\n" : "    acc = join_lanes<L>(acc);\n";
  }
  if (!f.value.empty() || !f.each.empty())
    body += fmt::format("    if (is_row) {{\n{}{}    }}\n", f.before.empty() ? "" : "    " + f.before + "\n",
                        loop(f, sharing, shape.extents.size(), f.each, !f.value.empty()));
  if (is_split)
    body += "    if (is_row && lane == 0) static_cast<Accumulator*>(a.partial)[row * a.chunks + chunk] = acc;\n";
  else if (!f.finish.empty())
    body += fmt::format("    if (is_row && lane == 0) {{\n      {}\n    }}\n", f.finish);
  return fmt::format(
      R"(extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ RowArguments a) {{
  constexpr int L = {lanes}, V = {vector}, R = {rows};
  const int lane = {lane};
  const i64 groups = (a.rows + R - 1) / R;
  for (i64 b = blockIdx.x; b < groups * a.chunks; b += gridDim.x) {{
    const i64 group = {group}, chunk = b - group * a.chunks, row = group * R + {within};
    const bool is_row = row < a.rows;
    const i64 first = chunk * a.chunk, end = first + a.chunk < a.length ? first + a.chunk : a.length;
    const i64 last = is_row ? end : first, base = is_row ? place<{axes}>(row, a.row_extents, a.row_steps) : 0;
{body}  }}
}}
)",
      fmt::arg("name", f.name), fmt::arg("lanes", sharing.lanes), fmt::arg("vector", sharing.vector),
      fmt::arg("rows", sharing.rows_per_block()),
      fmt::arg("group", is_split ? "(i64)((Position)b / (Position)a.chunks)" : "b"),
      fmt::arg("lane", sharing.by_columns ? "threadIdx.x / 32" : "threadIdx.x % L"),
      fmt::arg("within", sharing.by_columns ? "threadIdx.x % 32" : "threadIdx.x / L"),
      fmt::arg("axes", shape.row_extents.size()), fmt::arg("body", body));
}

/// A warp for every row.
std::string join_text(const RowFunction& f, const RowShape& shape) {
  return fmt::format(
      R"(extern "C" __global__ void __launch_bounds__(256) {name}_join(const __grid_constant__ RowArguments a) {{
  const i64 groups = (a.rows + 7) / 8;
  for (i64 group = blockIdx.x; group < groups; group += gridDim.x) {{
    const i64 row = group * 8 + threadIdx.x / 32;
    const bool is_row = row < a.rows;
    const i64 base = is_row ? place<{axes}>(row, a.row_extents, a.row_steps) : 0;
    Accumulator acc = identity();
    if (is_row)
      for (i64 c = threadIdx.x % 32; c < a.chunks; c += 32)
        acc = join(acc, static_cast<const Accumulator*>(a.partial)[row * a.chunks + c]);
    acc = join_lanes<32>(acc);
    if (is_row && threadIdx.x % 32 == 0) {{
      {finish}
    }}
  }}
}}
)",
      fmt::arg("name", f.name), fmt::arg("axes", shape.row_extents.size()), fmt::arg("finish", f.finish));
}

}  // namespace

std::optional<RowShape> rows_along(const Shape& shape, const std::vector<bool>& is_reduced) {
  const std::vector<std::int64_t> strides = shape.strides();
  std::vector<std::int64_t> extents[2], steps[2];
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
    extents[is_reduced[axis]].push_back(shape[axis]);
    steps[is_reduced[axis]].push_back(strides[axis]);
  }
  const std::vector<Index> kept = collapse(extents[0], {&steps[0], 1}), reduced = collapse(extents[1], {&steps[1], 1});
  if (kept.empty() || reduced.empty()) return std::nullopt;
  const auto of = [](const std::int64_t* values, int rank) { return std::vector(values, values + rank); };
  return RowShape{.rows = Shape(extents[0]).count(),
                  .length = Shape(extents[1]).count(),
                  .row_extents = of(kept[0].extents, kept[0].rank),
                  .row_steps = of(kept[0].steps, kept[0].rank),
                  .extents = of(reduced[0].extents, reduced[0].rank),
                  .steps = of(reduced[0].steps, reduced[0].rank)};
}

std::optional<RowShape> rows_along(const Shape& shape, std::size_t axis) {
  std::vector<bool> is_reduced(shape.rank(), false);
  is_reduced[axis] = true;
  return rows_along(shape, is_reduced);
}

RowKernelText row_text(const RowFunction& f, const RowShape& shape) {
  const Sharing sharing = sharing_of(f, shape);
  RowKernelText made;
  RowArguments& a = made.arguments;
  a.rows = shape.rows;
  a.length = shape.length;
  std::ranges::copy(shape.row_extents, a.row_extents);
  std::ranges::copy(shape.row_steps, a.row_steps);
  std::ranges::copy(shape.extents, a.extents);
  std::ranges::copy(shape.steps, a.steps);
  a.vectors = sharing.vector > 1;
  made.rows_per_block = static_cast<unsigned>(sharing.rows_per_block());

  // What is gathered of long rows, where there are few, by several blocks: by the shape alone, so that no device gives
  // other bits.
  const std::int64_t groups = (shape.rows + sharing.rows_per_block() - 1) / sharing.rows_per_block();
  const std::int64_t least = sharing.by_columns ? 256 : 4096;
  std::int64_t chunks = f.value.empty() && !f.accumulator.empty()
                            ? std::clamp<std::int64_t>(std::min(1024 / groups, shape.length / least), 1, kMostChunks)
                            : 1;
  a.chunk = (shape.length + chunks * 8 - 1) / (chunks * 8) * 8;  // a multiple of every vector
  a.chunks = std::max<std::int64_t>((shape.length + a.chunk - 1) / a.chunk, 1);

  for (const DType t : f.elements)
    made.alignment = std::max(made.alignment, static_cast<std::uint32_t>(sharing.vector) * size_of(t));
  if (!f.value.empty())
    made.alignment = std::max(made.alignment, static_cast<std::uint32_t>(sharing.vector) * size_of(f.result));
  const bool is_split = a.chunks > 1;
  const bool is_narrow = shape.rows <= std::numeric_limits<std::int32_t>::max() &&
                         shape.length <= std::numeric_limits<std::int32_t>::max();
  const std::string start = beginning(f, is_narrow);
  const std::string joins = f.accumulator.empty() ? "" : std::string(sharing.by_columns ? kJoinColumnsText : kJoinText);
  made.kernel = {f.name, "RowArguments", start + joins + main_text(f, shape, sharing, is_split)};
  if (is_split) {
    made.join = {f.name + "_join", "RowArguments", start + std::string(kJoinText) + join_text(f, shape)};
    made.partial_bytes = static_cast<std::size_t>(shape.rows * a.chunks) * f.accumulator_bytes;
  }
  return made;
}

RowKernel::RowKernel(KernelContext& context, const RowFunction& function, const RowShape& shape)
    : text_(row_text(function, shape)), elements_(function.elements.size()), writes_(!function.value.empty()) {
  const int capability = libraries(context).capability;
  kernel_ = load_kernel(text_.kernel, capability);
  if (!text_.join.text.empty()) join_ = load_kernel(text_.join, capability);
}

void RowKernel::launch(std::initializer_list<const void*> in, std::initializer_list<void*> out, void* scratch,
                       cudaStream_t stream) const {
  RowArguments a = text_.arguments;
  std::ranges::copy(in, a.in);
  std::ranges::copy(out, a.out);
  a.partial = scratch;
  const auto is_aligned = [&](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % text_.alignment == 0; };
  if (!std::all_of(a.in, a.in + elements_, is_aligned) || (writes_ && !is_aligned(a.out[0]))) a.vectors = 0;
  const std::int64_t groups = (a.rows + text_.rows_per_block - 1) / text_.rows_per_block;
  kernel_->launch(blocks_for(groups * a.chunks, 1), kThreads, as_argument(a), stream);
  if (join_) join_->launch(blocks_for(a.rows, 8), kThreads, as_argument(a), stream);
}

}  // namespace halfstep::cudnn
