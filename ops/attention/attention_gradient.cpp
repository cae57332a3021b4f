// The gradient of Attention in standard operators. It recomputes the probabilities instead of storing them.
#include <limits>

#include "ops/attention/attention.h"
#include <halfstep/ops/gradient_util.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

class Rule {
 public:
  explicit Rule(GradientContext& g) : g_(g), b_(g.b), c_(g.node, shapes(g)), dtype_(g.in(kQuery).dtype()) {
    // The mask may have a wider type than the scores, such as f32 with f16: its elements must not overflow.
    soft_ = static_cast<DType>(g.node.attributes.get_int("softmax_precision", static_cast<std::int64_t>(dtype_)));
    const Expr mask = g.in(kMask);
    if (mask && is_float(mask.dtype()) && bits_of(mask.dtype()) > bits_of(soft_)) soft_ = mask.dtype();
  }

  std::vector<Expr> run() {
    // Query heads that share a key head are rows of one matrix, so the products sum over the group.
    q_ = by_key_head(by_heads(g_.in(kQuery), c_.query_heads, c_.head), c_.head) * c_.scale;
    k_ = with_past(g_.in(kPastKey), by_heads(g_.in(kKey), c_.key_heads, c_.head));
    v_ = b_.cast(with_past(g_.in(kPastValue), by_heads(g_.in(kValue), c_.key_heads, c_.value_head)), dtype_);
    if (c_.softcap > 0) tanh_ = b_.op("Tanh", {scores() / c_.softcap});

    Expr dv = g_.dy(2), d = qk_gradient(3);
    if (g_.dy(0) || d) probabilities_ = probabilities();
    if (Expr dy = g_.dy(0)) {
      dy = by_key_head(by_heads(dy, c_.query_heads, c_.value_head), c_.value_head);
      dv = sum(dv, product(transposed(by_key_head(b_.cast(probabilities_, dtype_), c_.keys)), dy));
      d = sum(d, b_.reshape(product(dy, transposed(v_)), c_.scores()));
    }
    if (d) d = b_.own("SoftmaxGrad", {b_.cast(d, soft_), probabilities_}, {{"axis", std::int64_t{-1}}});
    if (const Expr dqk = qk_gradient(2)) d = sum(d, b_.cast(dqk, soft_));
    const Expr dmask = d;
    if (d) d = b_.cast(d, dtype_);
    d = sum(d, qk_gradient(1));
    if (d && tanh_) d = d * (1 - tanh_ * tanh_);
    d = sum(d, qk_gradient(0));

    Expr dq, dk = g_.dy(1);
    if (d) {
      d = by_key_head(d, c_.keys);
      dq = b_.reshape(product(d, k_) * c_.scale, {c_.batch, c_.query_heads, c_.queries, c_.head});
      dk = sum(dk, product(transposed(d), q_));
    }
    std::vector<Expr> result(7);
    result[kQuery] = packed(dq);
    result[kMask] = mask_gradient(dmask);
    split(dk, result[kPastKey], result[kKey]);
    split(dv, result[kPastValue], result[kValue]);
    return result;
  }

 private:
  static std::vector<Shape> shapes(const GradientContext& g) {
    std::vector<Shape> result;
    for (std::size_t i = 0; i < g.node.inputs.size(); ++i) result.push_back(g.in(i) ? g.in(i).shape() : Shape());
    return result;
  }

  Expr product(Expr x, Expr y) { return b_.op("MatMul", {x, y}); }
  Expr transposed(Expr x) { return b_.transpose(x, {0, 1, 3, 2}); }
  static Expr sum(Expr x, Expr y) { return x && y ? x + y : x ? x : y; }

  /// [N, heads, length, head], from the same or [N, length, heads * head].
  Expr by_heads(Expr x, std::int64_t heads, std::int64_t head) {
    if (!c_.packed) return x;
    return b_.transpose(b_.reshape(x, {c_.batch, x.shape()[1], heads, head}), {0, 2, 1, 3});
  }
  /// Its inverse.
  Expr packed(Expr x) {
    if (!x || !c_.packed) return x;
    const Shape shape = x.shape();
    return b_.reshape(b_.transpose(x, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
  }
  /// [N, query heads, queries, width] reshaped to [N, key heads, group * queries, width].
  Expr by_key_head(Expr x, std::int64_t width) {
    return b_.reshape(x, {c_.batch, c_.key_heads, c_.group() * c_.queries, width});
  }
  Expr with_past(Expr past, Expr now) { return past ? b_.op("Concat", {past, now}, {{"axis", std::int64_t{2}}}) : now; }
  void split(Expr d, Expr& past, Expr& now) {
    if (!d) return;
    if (!g_.in(kPastKey)) {
      now = packed(d);
      return;
    }
    const std::vector<Expr> parts =
        b_.multi("Split", kOnnxDomain, {d, b_.ints({c_.past, c_.keys - c_.past})}, 2, {{"axis", std::int64_t{2}}});
    past = parts[0];
    now = packed(parts[1]);
  }

  Expr qk_gradient(std::int64_t mode) { return c_.qk_output_mode == mode ? g_.dy(3) : Expr(); }
  Expr scores() { return b_.reshape(product(q_, transposed(k_)), c_.scores()); }

  Expr probabilities() {
    Expr biased = b_.cast(tanh_ ? tanh_ * c_.softcap : scores(), soft_);
    const Expr bias = this->bias();
    if (bias) biased = biased + bias;
    const Expr result = b_.op("Softmax", {biased}, {{"axis", std::int64_t{-1}}});
    if (!bias) return result;
    const Expr highest = bias.rank() == 0 ? bias : b_.op("ReduceMax", {bias, b_.ints({-1})});
    return select(b_.op("Equal", {highest, never()}), b_.scalar(0, soft_), result);
  }

  Expr never() { return b_.scalar(-std::numeric_limits<double>::infinity(), soft_); }

  /// The bias of the scores, broadcast to them; empty if there is none.
  Expr bias() {
    Expr result;
    if (const Expr mask = g_.in(kMask)) {
      result = mask.dtype() == DType::boolean ? select(mask, b_.scalar(0, soft_), never()) : b_.cast(mask, soft_);
      if (const std::int64_t missing = hidden_by_short_mask(); missing > 0) {
        std::vector<std::int64_t> pads(2 * result.rank(), 0);
        pads.back() = missing;
        result = b_.op("Pad", {result, b_.ints(pads), never()});
      }
    }
    const Expr lengths = g_.in(kKeyLengths);
    if (!lengths && !c_.bounds_position()) return result;

    // Positions of keys minus those of queries in their block, and the offsets of the blocks.
    const Expr keys = iota({c_.keys}), distance = keys - iota({c_.queries, 1});
    Expr start = b_.ints({c_.past}), visible;
    auto require = [&](Expr condition) { visible = visible ? b_.op("And", {visible, condition}) : condition; };
    if (lengths) {
      const Expr end = b_.reshape(lengths, {c_.batch, 1, 1, 1});
      require(b_.op("Less", {keys, end}));
      start = end - b_.ints({c_.queries});
    }
    if (c_.causal) require(b_.op("LessOrEqual", {distance, start}));
    if (c_.left) require(b_.op("GreaterOrEqual", {distance, start - b_.ints({*c_.left})}));
    if (c_.right) require(b_.op("LessOrEqual", {distance, start + b_.ints({*c_.right})}));
    return select(visible, result ? result : b_.scalar(0, soft_), never());
  }

  /// The constant 0, 1, 2, ... of that shape.
  Expr iota(const Shape& shape) {
    Tensor numbers(DType::i64, shape);
    for (std::int64_t i = 0; i < numbers.count(); ++i) numbers.data<std::int64_t>()[i] = i;
    return b_.constant(numbers, "positions");
  }

  std::int64_t hidden_by_short_mask() const {
    const Shape mask = g_.in(kMask).shape();
    return mask.rank() == 0 ? 0 : c_.keys - mask.dim(-1);
  }
  Expr mask_gradient(Expr d) {
    if (!d || !g_.wants(kMask)) return {};
    const std::int64_t hidden = hidden_by_short_mask();
    return hidden == 0 ? d : b_.op("Slice", {d, b_.ints({0}), b_.ints({c_.keys - hidden}), b_.ints({-1})});
  }

  GradientContext& g_;
  Builder& b_;
  AttentionConfig c_;
  DType dtype_, soft_;
  Expr q_, k_, v_, tanh_, probabilities_;
};

}  // namespace

std::vector<Expr> attention_gradient(GradientContext& g) { return Rule(g).run(); }

}  // namespace halfstep::ops
