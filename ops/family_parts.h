// The parts of families whose rows are in more than one file, and their concatenation.
#pragma once

#include <initializer_list>
#include <vector>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::vector<OpDef> comparison_rows();  // Equal Less And BitShift …          (binary family)
std::vector<OpDef> gelu_rows();        // Gelu                              (activation family)
std::vector<OpDef> softmax_rows();     // Softmax LogSoftmax Hardmax         (activation family)
std::vector<OpDef> rotary_rows();      // RotaryEmbedding                    (attention family)
std::vector<OpDef> scan_rows();        // ArgMax CumSum TopK …               (reduction family)
std::vector<OpDef> generator_rows();   // ConstantOfShape Range OneHot …     (shape family, like all below)
std::vector<OpDef> random_rows();      // RandomNormal Bernoulli …
std::vector<OpDef> movement_rows();    // Transpose Concat Expand Tile …
std::vector<OpDef> resize_rows();      // Resize and its gradient
std::vector<OpDef> slicing_rows();     // Split Slice Pad
std::vector<OpDef> indexing_rows();    // Gather* Scatter*

/// All rows of the parts, in order.
inline std::vector<OpDef> join(std::initializer_list<std::vector<OpDef>> parts) {
  std::vector<OpDef> all;
  for (const std::vector<OpDef>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace halfstep::ops
