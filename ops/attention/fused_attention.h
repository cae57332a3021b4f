// FusedAttention and AttentionGrad of ai.halfstep: attention as one operator, which reads queries, keys and values in
// place through strides.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {
namespace ops {

/// Rows of contiguous elements in a tensor, one for each index [batch, heads, group, row].
struct RowView {
  std::int64_t offset = 0;
  std::array<std::int64_t, 4> strides{};

  std::int64_t start(std::int64_t batch, std::int64_t head, std::int64_t member, std::int64_t row = 0) const {
    return offset + batch * strides[0] + head * strides[1] + member * strides[2] + row * strides[3];
  }
  /// As an attribute: the offset, followed by the strides.
  std::vector<std::int64_t> ints() const { return {offset, strides[0], strides[1], strides[2], strides[3]}; }
};

/// The attributes of a FusedAttention or AttentionGrad. The query heads are `heads` groups of `group` heads that share
/// a key and value head.
struct FusedAttentionConfig {
  std::int64_t batch = 1, heads = 1, group = 1, queries = 1, keys = 1, head = 1, value_head = 1;
  RowView q, k, v, y, mask;
  std::int64_t mask_column = 0;  ///< stride of the mask along the keys
  float scale = 1;
  bool causal = false;  ///< query i attends to keys 0 to i
  std::vector<std::int64_t> y_shape;

  FusedAttentionConfig() = default;
  /// Throws Error if the attributes are not such numbers.
  explicit FusedAttentionConfig(const Attributes& attributes);
  Attributes attributes() const;

  std::int64_t blocks() const { return batch * heads * group; }
  Shape statistics() const { return {batch, heads, group, queries}; }
  double scores() const;  ///< total number of scores

  /// Why a view exceeds a tensor of this number of elements, or empty.
  std::string misfit_of_operands(std::int64_t q_count, std::int64_t k_count, std::int64_t v_count,
                                 std::int64_t mask_count) const;
  /// Why no kernel takes the operands of a node, Q being its input `first`; empty where one may.
  std::string refusal_of_operands(const Graph& graph, const Node& node, std::size_t first) const;
};

/// The rows of a part of a tensor: its view, their number and width.
struct RowSet {
  const RowView* view;
  std::array<std::int64_t, 4> extents;
  std::int64_t width;
};
RowSet rows_of_q(const FusedAttentionConfig& c);
RowSet rows_of_k(const FusedAttentionConfig& c);
RowSet rows_of_v(const FusedAttentionConfig& c);
RowSet rows_of_y(const FusedAttentionConfig& c);

/// Whether no two rows overlap, where rows repeated by a stride of 0 count once; and whether they cover a tensor of
/// `count` elements.
struct Tiling {
  bool disjoint = false, complete = false;
};
Tiling tiling_of(std::span<const RowSet> sets, std::int64_t count);

/// Inputs of FusedAttention; AttentionGrad has dY before them, and its results, the statistics first, behind them. K
/// that is left out lies in the tensor Q, V that is left out where K lies.
enum FusedAttentionInput : std::size_t { kFusedQ, kFusedK, kFusedV, kFusedMask };
inline constexpr std::size_t kGradStatistics = 5, kGradResult = 6;

/// For each result of AttentionGrad, the sets of rows whose gradients it holds, depending on whether K and V are given.
std::array<std::vector<RowSet>, 3> gradient_rows(const FusedAttentionConfig& c, bool has_k, bool has_v);

/// What a kernel writes that computes gradients head by head: every row of queries, and every one of keys and values
/// for its group, once. `k` and `v`: the results that hold their gradients. `is_partial`: a result has other elements,
/// too.
struct GradientRows {
  std::string refusal;  ///< why rows would be written more than once; nothing else is set then
  std::size_t k = 0, v = 0;
  std::array<bool, 3> is_partial{};
};
/// `counts`: the elements of Q, K and V; -1 for one that is not given.
GradientRows written_rows(const FusedAttentionConfig& c, const std::array<std::int64_t, 3>& counts);

/// Rows of the operator table.
std::vector<OpDef> fused_attention_rows();
void fused_attention_schema(onnx::OpSchema& schema);
void attention_grad_schema(onnx::OpSchema& schema);

}  // namespace ops
}  // namespace halfstep
