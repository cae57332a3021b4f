#include "training/label_summary.h"

#include <algorithm>
#include <numeric>

#include "data/row_shape.h"
#include "training/wide.h"
#include <halfstep/base/visit.h>

namespace halfstep {
namespace {

constexpr std::int64_t kMostElements = std::int64_t{1} << 26, kBlockElements = std::int64_t{1} << 16;

template <class T>
void look_at_values(const Tensor& block, std::int64_t ignored, LabelSummary& summary) {
  for (const T element : block.span<T>()) {
    const auto value = static_cast<double>(wide(element));
    const bool zero = value == 0, one = value == 1, is_ignored = value == static_cast<double>(ignored);
    summary.any_zero |= zero;
    summary.any_one |= one;
    summary.zero_or_one &= zero || one;
    summary.from_zero_to_one &= value >= 0 && value <= 1;
    summary.zero_one_or_ignored &= zero || one || is_ignored;
    summary.ignored += is_ignored;
    summary.others += !is_ignored;
  }
}

/// Whether elements of 0 and 1 sum to 1 along `axis` of every row.
template <class T>
bool is_one_hot(const Tensor& block, const Shape& row, std::size_t axis) {
  const std::int64_t inner = row.count(axis + 1, row.rank()), length = row[axis];
  const std::int64_t outer = length * inner == 0 ? 0 : block.count() / (length * inner);
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      const T* first = block.data<T>() + o * length * inner + i;
      std::int64_t ones = 0;
      for (std::int64_t c = 0; c < length; ++c) ones += wide(first[c * inner]) == 1;
      if (ones != 1) return false;
    }
  }
  return true;
}

}  // namespace

LabelSummary summarize_labels(const DataArray& labels, const Shape& row, const std::vector<std::size_t>& axes,
                              std::int64_t ignored) {
  LabelSummary summary;
  summary.one_hot_axes = axes;
  const std::int64_t in_row = std::max<std::int64_t>(row.count(), 1);
  const std::int64_t rows = std::min(labels.rows(), std::max<std::int64_t>(kMostElements / in_row, 1));
  const std::int64_t step = std::min(rows, std::max<std::int64_t>(kBlockElements / in_row, 1));
  Tensor buffer(labels.dtype(), with_rows(step, labels.row_type().shape));
  std::vector<std::int64_t> indices(static_cast<std::size_t>(step));
  std::int64_t begin = 0;
  for (; begin < rows && (axes.empty() || summary.zero_one_or_ignored); begin += step) {
    const std::int64_t count = std::min(step, rows - begin);
    std::iota(indices.begin(), indices.end(), begin);
    const Tensor block = buffer.rows(0, count);
    labels.read_rows(std::span(indices).first(static_cast<std::size_t>(count)), buffer.raw());
    visit_dtype(labels.dtype(), [&]<class T>() {
      look_at_values<T>(block, ignored, summary);
      std::erase_if(summary.one_hot_axes, [&](std::size_t axis) { return !is_one_hot<T>(block, row, axis); });
    });
  }
  summary.complete = begin >= labels.rows();
  if (!summary.zero_or_one) summary.one_hot_axes.clear();
  return summary;
}

}  // namespace halfstep
