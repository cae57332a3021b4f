// Shared by the kernel and the gradient rule of Attention.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// Inputs of Attention.
enum AttentionInput : std::size_t { kQuery, kKey, kValue, kMask, kPastKey, kPastValue, kKeyLengths };

/// Extents and attributes of one Attention node.
struct AttentionConfig {
  std::int64_t batch, query_heads, key_heads;
  std::int64_t queries, keys;  ///< lengths of the sequences; `keys` includes the past
  std::int64_t past;           ///< number of keys in past_key, 0 without one
  std::int64_t head, value_head;
  bool packed;                              ///< operands are [N, length, heads * head], not [N, heads, length, head]
  double scale, softcap;                    ///< softcap 0: none
  bool causal;                              ///< a query attends to no key after its own position
  std::optional<std::int64_t> left, right;  ///< number of keys before and after it that a query attends to
  std::int64_t qk_output_mode;              ///< contents of output 3: 0 scores, 1 capped, 2 biased, 3 probabilities

  /// From the shapes of the inputs, empty for absent ones. Throws Error if they are inconsistent.
  AttentionConfig(const Node& node, const std::vector<Shape>& inputs);

  std::int64_t group() const { return query_heads / key_heads; }
  Shape scores() const { return {batch, query_heads, queries, keys}; }
  bool bounds_position() const { return causal || left || right; }
  /// Whether a query at position `query` (in the numbering of keys) may attend to a key, apart from masks.
  bool sees(std::int64_t query, std::int64_t key) const {
    return (!causal || key <= query) && (!left || key >= query - *left) && (!right || key <= query + *right);
  }
};

std::vector<Expr> attention_gradient(GradientContext& g);

}  // namespace halfstep::ops
