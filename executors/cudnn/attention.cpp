// Makers of FusedAttention and its gradient by generated kernels.
#include "executors/cudnn/attention.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/attention_text.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {
namespace {

using ops::FusedAttentionConfig;
using ops::RowView;

constexpr unsigned kThreads = 256;
constexpr std::int64_t kWarps = kThreads / 32;
constexpr std::int64_t kSharedBytes = 48 << 10;

/// Rows of a warp for which tiles of rows of these widths fit into shared memory; 0: too wide.
std::int64_t rows_of_warp(std::initializer_list<std::int64_t> widths) {
  constexpr std::int64_t kChunk = 32 * 65, kWeights = 33;
  for (const std::int64_t rows : {4, 2, 1}) {
    std::int64_t floats = kChunk + kWarps * rows * kWeights;
    for (const std::int64_t width : widths) floats += kWarps * rows * (width + 1);
    if (floats * 4 <= kSharedBytes) return rows;
  }
  return 0;
}

/// Elements that can be read at once, where all rows begin at such a place.
std::int64_t vector_of(const FusedAttentionConfig& c, DType dtype) {
  const auto vector = static_cast<std::int64_t>(16 / bytes_of(dtype, 1));
  return c.head % vector == 0 && c.value_head % vector == 0 ? vector : 1;
}
bool is_aligned(const FusedAttentionConfig& c, std::int64_t vector) {
  for (const RowView* view : {&c.q, &c.k, &c.v, &c.y})
    for (const std::int64_t n : view->ints())
      if (n % vector != 0) return false;
  return true;
}

AttentionArguments arguments_of(const FusedAttentionConfig& c, DType dtype) {
  AttentionArguments a{};
  const auto put = [](long long* to, const RowView& view) { std::ranges::copy(view.ints(), to); };
  put(a.q_view, c.q);
  put(a.k_view, c.k);
  put(a.v_view, c.v);
  put(a.y_view, c.y);
  put(a.mask_view, c.mask);
  a.mask_view[5] = c.mask_column;
  a.batch = c.batch;
  a.heads = c.heads;
  a.members = c.group;
  a.queries = static_cast<int>(c.queries);
  a.keys = static_cast<int>(c.keys);
  a.scale = c.scale;
  a.is_causal = c.causal ? 1 : 0;
  a.vectors = is_aligned(c, vector_of(c, dtype)) ? 1 : 0;
  return a;
}

bool all_aligned(std::initializer_list<const void*> addresses) {
  return std::ranges::all_of(addresses, [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; });
}

std::shared_ptr<const LoadedKernel> load(KernelContext& context, const char* name, const FusedAttentionConfig& c,
                                         std::size_t first, std::int64_t rows, std::string_view text) {
  const DType dtype = context.in(first).dtype;
  const std::size_t mask = first + ops::kFusedMask;
  const std::string all = fmt::format("{}{}", kAttentionCommonText, text);
  return load_text(context, name, "AttentionArguments", kAttentionArgumentsText,
                   filled(all, {{"element", float_name(dtype)},
                                {"mask", context.has_input(mask) ? float_name(context.in(mask).dtype) : "float"},
                                {"head", std::to_string(c.head)},
                                {"value_head", std::to_string(c.value_head)},
                                {"rows", std::to_string(rows)},
                                {"vector", std::to_string(vector_of(c, dtype))}}));
}

std::int64_t tiles(std::int64_t count, std::int64_t rows) { return (count + kWarps * rows - 1) / (kWarps * rows); }

}  // namespace

std::string attention_refusal(KernelContext& context, const FusedAttentionConfig& c, std::size_t first) {
  if (std::string reason = c.refusal_of_operands(context.graph(), context.node(), first); !reason.empty())
    return reason;
  if (c.keys > std::numeric_limits<int>::max()) return "2^31 keys or more";
  for (std::size_t i = 0; i < 4; ++i)
    if (context.has_input(first + i) && float_name(context.in(first + i).dtype).empty())
      return "elements that are not f32, f16 or bf16";
  return {};
}

AttentionAddresses attention_addresses(const Launch& l, std::size_t first) {
  AttentionAddresses at;
  at.q = l.in[first];
  at.k = l.input<void>(first + ops::kFusedK) ? l.in[first + ops::kFusedK] : at.q;
  at.v = l.input<void>(first + ops::kFusedV) ? l.in[first + ops::kFusedV] : at.k;
  at.mask = l.input<void>(first + ops::kFusedMask);
  return at;
}

Made make_fused_attention(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const FusedAttentionConfig c(context.node().attributes);
  if (std::string reason = attention_refusal(context, c, 0); !reason.empty()) return refuse(reason);
  const std::int64_t rows = rows_of_warp({c.head});
  if (rows == 0 || c.value_head > 1024) return refuse("heads that are too wide for shared memory");
  const auto kernel = load(context, "attention", c, 0, rows, kAttentionText);
  const AttentionArguments a = arguments_of(c, context.in(0).dtype);
  const unsigned blocks = blocks_for(c.blocks() * tiles(c.queries, rows), 1);
  return on_device(context, {.name = "generated: attention", .launch = [=](const Launch& l) {
                               const AttentionAddresses at = attention_addresses(l, 0);
                               AttentionArguments with = a;
                               with.q = at.q, with.k = at.k, with.v = at.v, with.mask = at.mask;
                               with.y = l.out[0];
                               with.statistics = l.output<float>(1);
                               if (!all_aligned({at.q, at.k, at.v})) with.vectors = 0;
                               kernel->launch(blocks, kThreads, as_argument(with), l.stream);
                             }});
}

Made make_attention_grad(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const FusedAttentionConfig c(context.node().attributes);
  if (std::string reason = attention_refusal(context, c, 1); !reason.empty()) return refuse(reason);
  const AttentionWrites writes = attention_writes(context, c);
  if (!writes.refusal.empty()) return refuse(writes.refusal);
  const std::int64_t rows = rows_of_warp({c.head, c.value_head});
  if (rows == 0) return refuse("heads that are too wide for shared memory");
  const auto queries = load(context, "attention_grad_queries", c, 1, rows, kAttentionGradQueriesText);
  const auto keys = load(context, "attention_grad_keys", c, 1, rows, kAttentionGradKeysText);
  const AttentionArguments a = arguments_of(c, context.in(1).dtype);
  const bool is_exact = context.in(1).dtype == DType::f32;
  const unsigned query_blocks = blocks_for(c.blocks() * tiles(c.queries, rows), 1),
                 key_blocks = blocks_for(c.batch * c.heads * tiles(c.keys, rows), 1);
  const auto launch = [=](const Launch& l) {
    const AttentionAddresses at = attention_addresses(l, 1);
    AttentionArguments with = a;
    with.q = at.q, with.k = at.k, with.v = at.v, with.mask = at.mask;
    with.dy = l.in[0];
    with.statistics = const_cast<float*>(l.input<float>(ops::kGradStatistics));
    with.y = is_exact ? const_cast<void*>(l.input<void>(ops::kGradResult)) : nullptr;
    with.delta = static_cast<float*>(l.scratch);
    with.dq = l.output<void>(0);
    with.dk = l.output<void>(writes.k);
    with.dv = l.output<void>(writes.v);
    if (!all_aligned({at.q, at.k, at.v, with.dy})) with.vectors = 0;
    writes.clear(l);
    queries->launch(query_blocks, kThreads, as_argument(with), l.stream);
    if (with.dk || with.dv) keys->launch(key_blocks, kThreads, as_argument(with), l.stream);
  };
  return on_device(context, {.name = "generated: attention gradient",
                             .launch = launch,
                             .scratch_bytes = static_cast<std::size_t>(c.blocks() * c.queries) * sizeof(float)});
}

AttentionWrites attention_writes(KernelContext& context, const FusedAttentionConfig& c) {
  AttentionWrites writes;
  if (!context.fits(0, Shape(c.y_shape)) || !context.fits(ops::kGradResult, Shape(c.y_shape)) ||
      !context.fits(ops::kGradStatistics, c.statistics()))
    writes.refusal = "operands of different shapes";
  if (!context.has_input(ops::kGradStatistics)) writes.refusal = "the statistics of the forward pass are not given";
  if (!writes.refusal.empty()) return writes;
  std::array<std::int64_t, 3> counts{};
  for (std::size_t i = 0; i < 3; ++i) counts[i] = context.has_input(1 + i) ? context.in(1 + i).shape.count() : -1;
  const ops::GradientRows rows = ops::written_rows(c, counts);
  writes.refusal = rows.refusal;
  writes.k = rows.k;
  writes.v = rows.v;
  for (std::size_t i = 0; i < 3; ++i)
    if (rows.is_partial[i]) writes.cleared[i] = bytes_of(context.in(1 + i).dtype, static_cast<std::size_t>(counts[i]));
  return writes;
}

void AttentionWrites::clear(const Launch& l) const {
  for (std::size_t i = 0; i < cleared.size(); ++i)
    if (cleared[i] && l.output<void>(i)) check(cudaMemsetAsync(l.out[i], 0, cleared[i], l.stream), "cudaMemsetAsync");
}

}  // namespace halfstep::cudnn
