// Parsing of the attributes of FusedAttention and AttentionGrad.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "ops/attention/fused_attention.h"
#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

constexpr std::int64_t kLargest = std::int64_t{1} << 46;  // limit of products of extents and strides: no overflow

[[noreturn]] void refuse(const char* name, const char* wanted, std::size_t count) {
  throw_input_error(fmt::format("{} for the attribute {}", wanted, name), fmt::format("{} numbers", count),
                    "check the attributes of this FusedAttention");
}

std::vector<std::int64_t> numbers(const Attributes& a, const char* name, std::size_t count) {
  std::vector<std::int64_t> found = a.get_ints(name);
  if (found.size() != count) refuse(name, fmt::format("{} numbers", count).c_str(), found.size());
  for (const std::int64_t x : found)
    if (x < 0 || x > std::int64_t{1} << 40) refuse(name, "numbers of at least 0", found.size());
  return found;
}

RowView view(const std::vector<std::int64_t>& ints) { return {ints[0], {ints[1], ints[2], ints[3], ints[4]}}; }

/// The index of the last element of the rows, or -1 if there is none.
std::int64_t last_element(const RowSet& rows) {
  std::int64_t last = rows.view->offset;
  for (std::size_t i = 0; i < 4; ++i) {
    if (rows.extents[i] == 0 || rows.width == 0) return -1;
    const std::int64_t steps = rows.extents[i] - 1, stride = rows.view->strides[i];
    if (stride > 0 && steps > kLargest / stride) return kLargest;
    last += steps * stride;
  }
  return last + rows.width - 1;
}

}  // namespace

FusedAttentionConfig::FusedAttentionConfig(const Attributes& a) {
  const std::vector<std::int64_t> e = numbers(a, "extents", 7);
  batch = e[0], heads = e[1], group = e[2], queries = e[3], keys = e[4], head = e[5], value_head = e[6];
  double product = 1;
  for (const std::int64_t extent : e) product *= static_cast<double>(std::max<std::int64_t>(extent, 1));
  if (product > 1e18) refuse("extents", "smaller extents", e.size());
  q = view(numbers(a, "q", 5));
  k = view(numbers(a, "k", 5));
  v = view(numbers(a, "v", 5));
  y = view(numbers(a, "y", 5));
  const std::vector<std::int64_t> m = a.has("mask") ? numbers(a, "mask", 6) : std::vector<std::int64_t>(6);
  mask = view(m);
  mask_column = m[5];
  scale = a.get_float("scale", 1);
  causal = a.get_int("causal", 0) != 0;
  y_shape = a.get_ints("y_shape");
}

Attributes FusedAttentionConfig::attributes() const {
  std::vector<std::int64_t> m = mask.ints();
  m.push_back(mask_column);
  return {{"extents", std::vector<std::int64_t>{batch, heads, group, queries, keys, head, value_head}},
          {"q", q.ints()},
          {"k", k.ints()},
          {"v", v.ints()},
          {"y", y.ints()},
          {"mask", m},
          {"scale", scale},
          {"causal", std::int64_t{causal}},
          {"y_shape", y_shape}};
}

double FusedAttentionConfig::scores() const {
  return static_cast<double>(blocks()) * static_cast<double>(queries) * static_cast<double>(keys);
}

std::string FusedAttentionConfig::misfit_of_operands(std::int64_t q_count, std::int64_t k_count, std::int64_t v_count,
                                                     std::int64_t mask_count) const {
  if (mask_column < 0 || (keys > 1 && mask_column > kLargest / keys)) return "a mask whose keys lie that far apart";
  constexpr double kMostRows = 1 << 28;
  if (static_cast<double>(batch) * static_cast<double>(heads) * static_cast<double>(group) *
          static_cast<double>(queries) >
      kMostRows)
    return "more queries than 2^28";
  // A mask row is `keys` elements with stride mask_column.
  const RowSet mask_rows{&mask, {batch, heads, group, queries}, keys == 0 ? 0 : (keys - 1) * mask_column + 1};
  std::int64_t y_count = 1;
  for (const std::int64_t extent : y_shape) {
    if (extent < 0 || (extent > 0 && y_count > kLargest / extent)) return "the shape of Y";
    y_count *= extent;
  }
  const std::pair<RowSet, std::int64_t> sets[] = {{rows_of_q(*this), q_count},
                                                  {rows_of_k(*this), k_count},
                                                  {rows_of_v(*this), v_count},
                                                  {rows_of_y(*this), y_count},
                                                  {mask_rows, mask_count < 0 ? kLargest + 1 : mask_count}};
  const char* names[] = {"queries", "keys", "values", "results", "mask"};
  for (std::size_t i = 0; i < std::size(sets); ++i)
    if (last_element(sets[i].first) >= sets[i].second)
      return fmt::format("{} that reach element {} of {}", names[i], last_element(sets[i].first), sets[i].second);
  const RowSet results[] = {rows_of_y(*this)};
  const Tiling tiling = tiling_of(results, y_count);
  if (!tiling.disjoint || !tiling.complete) return "results that do not fill Y";
  return {};
}

std::string FusedAttentionConfig::refusal_of_operands(const Graph& graph, const Node& node, std::size_t first) const {
  const auto count = [&](std::size_t i, std::int64_t otherwise) {
    const ValueId id = node.input(first + i);
    return id == kNoValue ? otherwise : graph[id].shape.count();
  };
  const std::int64_t q_count = count(kFusedQ, -1), k_count = count(kFusedK, q_count);
  if (!misfit_of_operands(q_count, k_count, count(kFusedV, k_count), count(kFusedMask, -1)).empty())
    return "operands that do not fit";
  if (queries == 0 || keys == 0 || head == 0 || value_head == 0 || blocks() == 0) return "no elements";
  return {};
}

RowSet rows_of_q(const FusedAttentionConfig& c) { return {&c.q, {c.batch, c.heads, c.group, c.queries}, c.head}; }
RowSet rows_of_k(const FusedAttentionConfig& c) { return {&c.k, {c.batch, c.heads, c.group, c.keys}, c.head}; }
RowSet rows_of_v(const FusedAttentionConfig& c) { return {&c.v, {c.batch, c.heads, c.group, c.keys}, c.value_head}; }
RowSet rows_of_y(const FusedAttentionConfig& c) { return {&c.y, {c.batch, c.heads, c.group, c.queries}, c.value_head}; }

Tiling tiling_of(std::span<const RowSet> sets, std::int64_t count) {
  std::vector<std::pair<std::int64_t, std::int64_t>> rows;  // start, width
  std::int64_t covered = 0;
  for (const RowSet& set : sets) {
    std::array<std::int64_t, 4> e = set.extents;
    for (std::size_t i = 0; i < 4; ++i)
      if (set.view->strides[i] == 0) e[i] = std::min<std::int64_t>(e[i], 1);
    if (set.width == 0) continue;
    for (std::int64_t b = 0; b < e[0]; ++b)
      for (std::int64_t h = 0; h < e[1]; ++h)
        for (std::int64_t g = 0; g < e[2]; ++g)
          for (std::int64_t r = 0; r < e[3]; ++r) rows.emplace_back(set.view->start(b, h, g, r), set.width);
    covered += e[0] * e[1] * e[2] * e[3] * set.width;
  }
  if (!std::ranges::is_sorted(rows)) std::ranges::sort(rows);
  for (std::size_t i = 1; i < rows.size(); ++i)
    if (rows[i - 1].first + rows[i - 1].second > rows[i].first) return {};
  return {.disjoint = true, .complete = covered == count};
}

std::array<std::vector<RowSet>, 3> gradient_rows(const FusedAttentionConfig& c, bool has_k, bool has_v) {
  std::array<std::vector<RowSet>, 3> result;
  const std::size_t k = has_k ? 1 : 0, v = has_v ? 2 : k;
  result[0].push_back(rows_of_q(c));
  result[k].push_back(rows_of_k(c));
  result[v].push_back(rows_of_v(c));
  return result;
}

GradientRows written_rows(const FusedAttentionConfig& c, const std::array<std::int64_t, 3>& counts) {
  const auto refused = [](const char* reason) { return GradientRows{.refusal = reason}; };
  const bool has_k = counts[1] >= 0, has_v = counts[2] >= 0;
  if (has_v && !has_k) return refused("values beside queries that hold the keys");
  GradientRows rows;
  rows.k = has_k ? 1 : 0;
  rows.v = has_v ? 2 : rows.k;
  const auto sets = gradient_rows(c, has_k, has_v);
  for (std::size_t i = 0; i < sets.size(); ++i) {
    if (sets[i].empty()) continue;
    const Tiling tiling = tiling_of(sets[i], counts[i]);
    if (!tiling.disjoint) return refused("rows that overlap");
    rows.is_partial[i] = !tiling.complete;
  }
  for (const RowView* view : {&c.k, &c.v})
    if (c.group > 1 && view->strides[2] != 0) return refused("keys that a group does not share");
  if ((c.heads > 1 && (c.k.strides[1] == 0 || c.v.strides[1] == 0)) ||
      (c.batch > 1 && (c.k.strides[0] == 0 || c.v.strides[0] == 0)))
    return refused("keys that heads share");
  const std::array<std::int64_t, 3> extents = {c.batch, c.heads, c.group};
  for (std::size_t i = 0; i < 3; ++i)
    if (extents[i] > 1 && (c.q.strides[i] == 0 || c.y.strides[i] == 0)) return refused("queries that heads share");
  return rows;
}

}  // namespace halfstep::ops
