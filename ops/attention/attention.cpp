// Attention: scaled dot products of queries and keys, softmax over the keys, and the weighted mean of the values.
#include "ops/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "ops/attention/fused_attention.h"
#include "ops/families.h"
#include "ops/family_parts.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Values = std::vector<double>;
constexpr double kNever = -std::numeric_limits<double>::infinity();

[[noreturn]] void refuse(const Node& node, const std::string& required, const std::string& found) {
  throw_input_error(required, fmt::format("{} in Attention '{}'", found, node.name),
                    "check the shapes and attributes of this operator");
}

/// Elements as [N, heads, length, head].
Values by_heads(const Tensor& x, bool packed, std::int64_t heads) {
  Values values = to_doubles(x);
  if (!packed) return values;
  const std::int64_t batch = x.shape()[0], length = x.shape()[1], head = x.shape()[2] / heads;
  Values result(values.size());
  std::size_t to = 0;
  for (std::int64_t n = 0; n < batch; ++n)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t i = 0; i < length; ++i)
        for (std::int64_t d = 0; d < head; ++d) result[to++] = values[((n * length + i) * heads + h) * head + d];
  return result;
}

/// The inverse: back to [N, length, heads * head].
Values packed_heads(const Values& x, std::int64_t batch, std::int64_t heads, std::int64_t length, std::int64_t head) {
  Values result(x.size());
  std::size_t from = 0;
  for (std::int64_t n = 0; n < batch; ++n)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t i = 0; i < length; ++i)
        for (std::int64_t d = 0; d < head; ++d) result[((n * length + i) * heads + h) * head + d] = x[from++];
  return result;
}

/// `past` and `now`, [blocks, length, width] each, concatenated along the length.
Values join_lengths(const Values& past, const Values& now, std::size_t blocks) {
  if (past.empty()) return now;
  Values result;
  result.reserve(past.size() + now.size());
  const auto a = static_cast<std::ptrdiff_t>(past.size() / blocks),
             b = static_cast<std::ptrdiff_t>(now.size() / blocks);
  for (std::size_t i = 0; i < blocks; ++i) {
    const auto block = static_cast<std::ptrdiff_t>(i);
    result.insert(result.end(), past.begin() + block * a, past.begin() + (block + 1) * a);
    result.insert(result.end(), now.begin() + block * b, now.begin() + (block + 1) * b);
  }
  return result;
}

/// The bias of the scores, [N, heads, queries, keys]: the mask, and -infinity where a query may not attend to a key.
Values attention_bias(const KernelCall& call, const AttentionConfig& c) {
  const Shape shape = c.scores();
  Values bias(static_cast<std::size_t>(shape.count()));
  if (call.has_in(kMask)) {
    const Tensor& mask = call.in[kMask];
    Values values = to_doubles(mask);
    if (mask.dtype() == DType::boolean)
      for (double& v : values) v = v != 0 ? 0 : kNever;
    // A mask may be shorter than the keys: it masks out the remaining ones.
    Shape masked = shape;
    if (mask.shape().rank() > 0) masked[3] = std::min(mask.shape().dim(-1), c.keys);
    if (broadcast(mask.shape(), masked) != masked)
      refuse(call.node, "a mask that broadcasts to " + shape.to_string(), mask.shape().to_string());
    const BroadcastOffsets offsets(mask.shape(), masked);
    for (std::int64_t row = 0; row < shape.count(0, 3); ++row)
      for (std::int64_t key = 0; key < c.keys; ++key)
        bias[row * c.keys + key] = key < masked[3] ? values[offsets(row * masked[3] + key)] : kNever;
  }
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(c.batch), c.keys);
  if (call.has_in(kKeyLengths)) {
    lengths = to_int64s(call.in[kKeyLengths]);
    if (static_cast<std::int64_t>(lengths.size()) != c.batch)
      refuse(call.node, fmt::format("{} numbers of keys", c.batch), std::to_string(lengths.size()));
  }
  std::size_t at = 0;
  for (std::int64_t n = 0; n < c.batch; ++n) {
    const std::int64_t length = lengths[n];
    const std::int64_t first = call.has_in(kKeyLengths) ? length - c.queries : c.past;
    for (std::int64_t h = 0; h < c.query_heads; ++h)
      for (std::int64_t i = 0; i < c.queries; ++i)
        for (std::int64_t key = 0; key < c.keys; ++key, ++at)
          if (key >= length || !c.sees(first + i, key)) bias[at] = kNever;
  }
  return bias;
}

/// Softmax of a row; zeros if its bias masks out every key.
void softmax_row(std::span<double> row, std::span<const double> bias) {
  if (std::ranges::all_of(bias, [](double b) { return b == kNever; })) {
    std::ranges::fill(row, 0);
    return;
  }
  const double top = *std::ranges::max_element(row);
  double total = 0;
  for (double& v : row) total += v = std::exp(v - top);
  for (double& v : row) v /= total;
}

void attention(KernelCall& call) {
  std::vector<Shape> shapes;
  for (const Tensor& operand : call.in) shapes.push_back(operand.is_defined() ? operand.shape() : Shape());
  const AttentionConfig c(call.node, shapes);
  const auto blocks = static_cast<std::size_t>(c.batch * c.key_heads);
  auto past = [&](std::size_t i) { return call.has_in(i) ? to_doubles(call.in[i]) : Values(); };
  const Values q = by_heads(call.in[kQuery], c.packed, c.query_heads);
  const Values k = join_lengths(past(kPastKey), by_heads(call.in[kKey], c.packed, c.key_heads), blocks);
  const Values v = join_lengths(past(kPastValue), by_heads(call.in[kValue], c.packed, c.key_heads), blocks);
  const Values bias = attention_bias(call, c);

  Values qk(bias.size()), y(static_cast<std::size_t>(c.batch * c.query_heads * c.queries * c.value_head));
  const auto keys = static_cast<std::size_t>(c.keys), head = static_cast<std::size_t>(c.head);
  const auto value_head = static_cast<std::size_t>(c.value_head);
  for (std::size_t row = 0; row < static_cast<std::size_t>(c.scores().count(0, 3)); ++row) {
    const std::size_t block = row / static_cast<std::size_t>(c.queries) / static_cast<std::size_t>(c.group());
    const std::span<const double> row_bias = std::span(bias).subspan(row * keys, keys);
    const std::span<double> kept = std::span(qk).subspan(row * keys, keys);
    Values scores(keys);
    auto keep = [&](std::int64_t mode) {
      if (c.qk_output_mode == mode) std::ranges::copy(scores, kept.begin());
    };
    for (std::size_t j = 0; j < keys; ++j)
      for (std::size_t d = 0; d < head; ++d)
        scores[j] += c.scale * q[row * head + d] * k[(block * keys + j) * head + d];
    keep(0);
    if (c.softcap > 0)
      for (double& s : scores) s = c.softcap * std::tanh(s / c.softcap);
    keep(1);
    for (std::size_t j = 0; j < keys; ++j) scores[j] = row_bias[j] == kNever ? kNever : scores[j] + row_bias[j];
    keep(2);
    softmax_row(scores, row_bias);
    keep(3);
    for (std::size_t j = 0; j < keys; ++j) {
      if (row_bias[j] == kNever) continue;
      for (std::size_t d = 0; d < value_head; ++d)
        y[row * value_head + d] += scores[j] * v[(block * keys + j) * value_head + d];
    }
  }

  const DType dtype = call.in[kQuery].dtype();
  if (c.packed) y = packed_heads(y, c.batch, c.query_heads, c.queries, c.value_head);
  const Shape y_shape = c.packed ? Shape{c.batch, c.queries, c.query_heads * c.value_head}
                                 : Shape{c.batch, c.query_heads, c.queries, c.value_head};
  store(ensure_out(call, 0, dtype, y_shape), y);
  if (call.has_out(1)) store(ensure_out(call, 1, call.in[kKey].dtype(), {c.batch, c.key_heads, c.keys, c.head}), k);
  if (call.has_out(2))
    store(ensure_out(call, 2, call.in[kValue].dtype(), {c.batch, c.key_heads, c.keys, c.value_head}), v);
  if (call.has_out(3)) store(ensure_out(call, 3, dtype, c.scores()), qk);
}

const std::vector<OpCase> kAttentionCases = {
    {"(float[2,3,4,5] q, float[2,3,6,5] k, float[2,3,6,7] v) => (float[2,3,4,7] y) { y = Attention(q, k, v) }"},
    {"(float[1,1,1,1] q, float[1,1,1,1] k, float[1,1,1,1] v) => (float[1,1,1,1] y) { y = Attention(q, k, v) }"},
    {"(float[2,3,8] q, float[2,5,4] k, float[2,5,6] v) => (float[2,3,12] y) "
     "{ y = Attention<q_num_heads=4, kv_num_heads=2, scale=0.3>(q, k, v) }"},
    {"(float[1,4,3,2] q, float[1,2,5,2] k, float[1,2,5,3] v, float[3,5] m) => (float[1,4,3,3] y) "
     "{ y = Attention<softcap=1.5>(q, k, v, m) }"},
    {"(float[2,2,3,2] q, float[2,2,3,2] k, float[2,2,3,2] v, float[2,1,3,2] m) => (float[2,2,3,2] y) "
     "{ y = Attention<is_causal=1>(q, k, v, m) }"},
    {"(float[1,2,3,2] q, float[1,2,4,2] k, float[1,2,4,2] v) => (float[1,2,3,2] y) "
     "<bool[3,4] m = {1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0}> { y = Attention(q, k, v, m) }"},
    {"(float[2,2,2,3] q, float[2,1,3,3] k, float[2,1,3,2] v, float[2,1,2,3] pk, float[2,1,2,2] pv) => "
     "(float[2,2,2,2] y, float[2,1,5,3] nk, float[2,1,5,2] nv) "
     "{ y, nk, nv = Attention<is_causal=1>(q, k, v, , pk, pv) }"},
    {"(float[2,2,3,2] q, float[2,2,5,2] k, float[2,2,5,2] v) => (float[2,2,3,2] y) <int64[2] n = {5, 2}> "
     "{ y = Attention<is_causal=1>(q, k, v, , , , n) }"},
    {"(float[1,2,5,2] q, float[1,2,5,2] k, float[1,2,5,2] v) => (float[1,2,5,2] y) "
     "{ y = Attention<left_window_size=1, right_window_size=2>(q, k, v) }"},
    {"(float[2,3,4] q, float[2,3,4] k, float[2,3,4] v, float[3] m) => (float[2,3,4] y, float[2,2,3,3] s) "
     "{ y, , , s = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v, m) }"},
    {"(float[1,2,3,2] q, float[1,2,3,2] k, float[1,2,3,2] v) => (float[1,2,3,2] y, float[1,2,3,3] s) "
     "{ y, , , s = Attention<qk_matmul_output_mode=1, softcap=2.0>(q, k, v) }"},
    {"(float[1,2,3,2] q, float[1,2,3,2] k, float[1,2,3,2] v, float[2,3,3] m) => (float[1,2,3,2] y, float[1,2,3,3] s) "
     "{ y, , , s = Attention<qk_matmul_output_mode=2, softcap=2.0>(q, k, v, m) }"},
    {"(float[1,2,3,2] q, float[1,2,3,2] k, float[1,2,3,2] v) => (float[1,2,3,2] y, float[1,2,3,3] s) "
     "{ y, , , s = Attention<qk_matmul_output_mode=3, is_causal=1, softmax_precision=11>(q, k, v) }"},
    {"(float[0,2,3,2] q, float[0,2,3,2] k, float[0,2,3,2] v) => (float[0,2,3,2] y) { y = Attention(q, k, v) }"},
};

}  // namespace

AttentionConfig::AttentionConfig(const Node& node, const std::vector<Shape>& inputs) {
  const Shape &q = inputs.at(kQuery), &k = inputs.at(kKey), &v = inputs.at(kValue);
  if (q.rank() != k.rank() || q.rank() != v.rank() || (q.rank() != 3 && q.rank() != 4))
    refuse(node, "queries, keys and values of three or of four axes",
           fmt::format("{}, {}, {}", q.to_string(), k.to_string(), v.to_string()));
  const Attributes& a = node.attributes;
  packed = q.rank() == 3;
  batch = q[0];
  query_heads = packed ? a.get_int("q_num_heads", 0) : q[1];
  key_heads = packed ? a.get_int("kv_num_heads", 0) : k[1];
  if (query_heads < 1 || key_heads < 1 || query_heads % key_heads != 0)
    refuse(node, "a number of query heads that is a multiple of the key heads",
           fmt::format("{} and {}", query_heads, key_heads));
  auto width = [&](const Shape& x, std::int64_t heads) { return packed ? x[2] / heads : x[3]; };
  auto length = [&](const Shape& x) { return x[packed ? 1 : 2]; };
  queries = length(q);
  head = width(q, query_heads);
  value_head = width(v, key_heads);
  past = inputs.size() > kPastKey && inputs[kPastKey].rank() == 4 ? inputs[kPastKey][2] : 0;
  keys = past + length(k);

  auto shape = [&](std::int64_t heads, std::int64_t steps, std::int64_t wide) {
    return packed ? Shape{batch, steps, heads * wide} : Shape{batch, heads, steps, wide};
  };
  auto demand = [&](std::size_t i, const Shape& wanted, const char* name) {
    if (inputs.size() > i && inputs[i].rank() > 0 && inputs[i] != wanted)
      refuse(node, fmt::format("{} of shape {}", name, wanted.to_string()), inputs[i].to_string());
  };
  demand(kQuery, shape(query_heads, queries, head), "Q");
  demand(kKey, shape(key_heads, keys - past, head), "K");
  demand(kValue, shape(key_heads, keys - past, value_head), "V");
  demand(kPastKey, {batch, key_heads, past, head}, "past_key");
  demand(kPastValue, {batch, key_heads, past, value_head}, "past_value");

  scale = a.has("scale") ? a.get_float("scale", 1) : 1 / std::sqrt(static_cast<double>(head));
  softcap = a.get_float("softcap", 0);
  causal = a.get_int("is_causal", 0) != 0;
  for (auto [bound, name] : {std::pair(&left, "left_window_size"), std::pair(&right, "right_window_size")})
    if (const std::int64_t size = a.get_int(name, -1); size >= 0) *bound = size;
  qk_output_mode = a.get_int("qk_matmul_output_mode", 0);
  if (qk_output_mode < 0 || qk_output_mode > 3)
    refuse(node, "qk_matmul_output_mode from 0 to 3", std::to_string(qk_output_mode));
}

std::span<const OpDef> attention_ops() {
  static const std::vector<OpDef> rows =
      join({{{.name = "Attention",
              .precision = PrecisionClass::half,
              .traits = {.operands = {OperandRole::data, OperandRole::data, OperandRole::data, OperandRole::mask},
                         .one_type = true},
              .reference = attention,
              .gradient = attention_gradient,
              .cases = kAttentionCases,
              .note = "a query that may see no key gives zeros, and no gradient"}},
            fused_attention_rows(),
            rotary_rows()});
  return rows;
}

}  // namespace halfstep::ops
