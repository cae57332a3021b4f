#include "executors/onednn/kernels/attention_plan.h"

#include <fmt/format.h>

namespace halfstep::onednn::attention {
namespace {

/// Scores of a block: about half of a second-level cache.
constexpr std::int64_t kBlockScores = 48 * 1024;

}  // namespace

std::vector<Block> blocks_of(const FusedAttentionConfig& c) {
  std::int64_t queries = std::max<std::int64_t>(16, kBlockScores / std::max<std::int64_t>(c.keys, 1) / 16 * 16);
  if (c.causal) queries = std::min(queries, std::max<std::int64_t>(64, (c.queries / 8 + 15) / 16 * 16));
  // Numbers of keys for which products are made: not one for each block of a long sequence.
  const std::int64_t step = std::max(queries, (c.keys / 8 + 15) / 16 * 16);
  std::vector<Block> result;
  for (std::int64_t first = 0; first < c.queries; first += queries) {
    const std::int64_t n = std::min(queries, c.queries - first);
    const std::int64_t seen = (first + n + step - 1) / step * step;
    // The last block comes first in the backward pass, where it makes the gradient of every key.
    const bool all = !c.causal || first + n == c.queries;
    result.push_back({first, n, all ? c.keys : std::min(seen, c.keys)});
  }
  return result;
}

// Of one row no stride is asked.
ThreadMatrix matrix(const Source& s, std::int64_t rows, DType type) {
  return {rows, s.width, rows == 1 ? s.width : s.row(), 1, type};
}
ThreadMatrix matrix(const Target& t, std::int64_t rows) {
  return {rows, t.width, rows == 1 ? t.width : t.row(), 1, DType::f32};
}
ThreadMatrix score_matrix(const Block& b, DType type) { return {b.queries, b.keys, b.keys, 1, type}; }

simd::ScoreRows score_rows(const FusedAttentionConfig& c, const Block& block, float* scores, const float* mask,
                           std::int64_t b, std::int64_t h, std::int64_t g) {
  return {.scores = scores,
          .rows = block.queries,
          .keys = block.keys,
          .scale = c.scale,
          .mask = mask ? mask + c.mask.start(b, h, g, block.first) : nullptr,
          .mask_row = c.mask.strides[3],
          .mask_column = c.mask_column,
          .first = c.causal ? block.first + 1 : -1};
}

std::string refusal(KernelContext& context, const FusedAttentionConfig& c, std::size_t first) {
  if (std::string reason = c.refusal_of_operands(context.graph(), context.node(), first); !reason.empty())
    return reason;
  for (const ops::RowSet& rows : {rows_of_q(c), rows_of_k(c), rows_of_v(c), rows_of_y(c)})
    if (rows.extents[3] > 1 && rows.view->strides[3] < rows.width) return "rows that overlap";
  if (context.has_input(first + ops::kFusedMask) && c.mask_column > 1) return "a mask whose keys lie apart";
  const DType type = context.in(first).dtype;
  if (type != DType::f32 && !is_half(type)) return fmt::format("no kernel for {}", name_of(type));
  return {};
}

std::vector<DType> product_types(DType stored) {
  return stored == DType::f32 ? std::vector{DType::f32} : std::vector{stored, DType::f32};
}

}  // namespace halfstep::onednn::attention
