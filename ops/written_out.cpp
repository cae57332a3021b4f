#include "ops/written_out.h"

#include <algorithm>
#include <iterator>

namespace halfstep::ops {
namespace {

constexpr WrittenOut kRows[] = {
    {"Einsum", einsum_by_products, /*before_gradient=*/true},
    {"LpNormalization", lp_normalization_by_norm},
    {"MeanVarianceNormalization", mean_variance_normalization_by_means},
    {"LRN", lrn_by_pooling},
    {"LpPool", lp_pool_by_average},
    {"GlobalLpPool", global_lp_pool_by_sum},
    {"ReverseSequence", reverse_sequence_by_gather},
};

}  // namespace

const WrittenOut* written_out(const Node& node) {
  const auto row = std::ranges::find_if(kRows, [&](const WrittenOut& each) { return node.is(each.op); });
  return row == std::end(kRows) ? nullptr : row;
}

}  // namespace halfstep::ops
