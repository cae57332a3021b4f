// RotaryEmbedding: pairs of elements of each head, rotated by an angle that depends on the position.

#include <fmt/format.h>

#include "ops/family_parts.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

enum Input : std::size_t { kX, kCos, kSin, kPositions };

/// Extents and attributes of one node.
struct Rotation {
  std::int64_t batch, heads, steps, head;
  std::int64_t pairs;  ///< rotated pairs of each head; the elements after them are unchanged
  bool packed;         ///< X is [N, steps, heads * head], not [N, heads, steps, head]
  bool interleaved;    ///< a pair is two adjacent elements, not elements `pairs` apart

  Rotation(const Node& node, const Shape& x) {
    const Attributes& a = node.attributes;
    packed = x.rank() == 3;
    interleaved = a.get_int("interleaved", 0) != 0;
    heads = packed ? a.get_int("num_heads", 0) : x.rank() == 4 ? x[1] : 0;
    if (heads < 1 || (packed && x[2] % heads != 0)) refuse(node, "X of four axes, or of three and num_heads", x);
    batch = x[0];
    steps = x[packed ? 1 : 2];
    head = packed ? x[2] / heads : x[3];
    const std::int64_t turned = a.get_int("rotary_embedding_dim", 0);
    if (turned < 0 || turned > head || (turned == 0 ? head : turned) % 2 != 0)
      refuse(node, "an even rotary_embedding_dim of at most the size of a head", x);
    pairs = (turned == 0 ? head : turned) / 2;
  }

  [[noreturn]] static void refuse(const Node& node, const std::string& required, const Shape& found) {
    throw_input_error(required, fmt::format("{} in RotaryEmbedding '{}'", found.to_string(), node.name),
                      "check the shapes and attributes of this operator");
  }

  /// Offset in X of the first element of a head.
  std::int64_t offset(std::int64_t n, std::int64_t h, std::int64_t t) const {
    return (packed ? (n * steps + t) * heads + h : (n * heads + h) * steps + t) * head;
  }
  std::int64_t first(std::int64_t pair) const { return interleaved ? 2 * pair : pair; }
  std::int64_t second(std::int64_t pair) const { return interleaved ? 2 * pair + 1 : pair + pairs; }
};

/// Row of the caches for each step of each sequence.
std::vector<std::int64_t> cache_rows(const KernelCall& call, const Rotation& r) {
  const Shape& cache = call.in[kCos].shape();
  const bool indexed = call.has_in(kPositions);
  const Shape wanted = indexed ? Shape{cache.rank() > 0 ? cache[0] : 0, r.pairs} : Shape{r.batch, r.steps, r.pairs};
  if (cache != wanted || call.in[kSin].shape() != wanted)
    Rotation::refuse(call.node, "caches of shape " + wanted.to_string(), cache);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(r.batch * r.steps));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i);
  if (!indexed) return rows;
  const Shape positions{r.batch, r.steps};
  if (call.in[kPositions].shape() != positions)
    Rotation::refuse(call.node, "position_ids of shape " + positions.to_string(), call.in[kPositions].shape());
  rows = to_int64s(call.in[kPositions]);
  for (std::int64_t& row : rows) {
    if (row < -cache[0] || row >= cache[0])
      throw_input_error(fmt::format("positions below {}, the rows of the caches", cache[0]), std::to_string(row),
                        "check the data fed to this operator");
    if (row < 0) row += cache[0];
  }
  return rows;
}

void rotary_embedding(KernelCall& call) {
  const Rotation r(call.node, call.in[kX].shape());
  const std::vector<double> x = to_doubles(call.in[kX]), cos = to_doubles(call.in[kCos]),
                            sin = to_doubles(call.in[kSin]);
  const std::vector<std::int64_t> rows = cache_rows(call, r);
  std::vector<double> y = x;
  for (std::int64_t n = 0; n < r.batch; ++n) {
    for (std::int64_t t = 0; t < r.steps; ++t) {
      const std::int64_t row = rows[n * r.steps + t];
      for (std::int64_t h = 0; h < r.heads; ++h) {
        const std::int64_t start = r.offset(n, h, t);
        for (std::int64_t pair = 0; pair < r.pairs; ++pair) {
          const auto angle = static_cast<std::size_t>(row * r.pairs + pair);
          const auto a = static_cast<std::size_t>(start + r.first(pair)),
                     b = static_cast<std::size_t>(start + r.second(pair));
          y[a] = cos[angle] * x[a] - sin[angle] * x[b];
          y[b] = sin[angle] * x[a] + cos[angle] * x[b];
        }
      }
    }
  }
  store(ensure_out(call, 0, call.in[kX].dtype(), call.in[kX].shape()), y);
}

/// The first and the second elements of all pairs, [N, heads, steps, pairs] each.
std::pair<Expr, Expr> pairs_of(Builder& b, const Rotation& r, Expr x) {
  if (r.packed) x = b.transpose(b.reshape(x, {r.batch, r.steps, r.heads, r.head}), {0, 2, 1, 3});
  if (2 * r.pairs < r.head) x = b.op("Slice", {x, b.ints({0}), b.ints({2 * r.pairs}), b.ints({3})});
  const std::int64_t inner = r.interleaved ? 2 : r.pairs, outer = r.interleaved ? r.pairs : 2;
  x = b.reshape(x, {r.batch, r.heads, r.steps, outer, inner});
  auto take = [&](std::int64_t i) {
    return b.op("Gather", {x, b.constant(Tensor::scalar(i))}, {{"axis", std::int64_t{r.interleaved ? 4 : 3}}});
  };
  return {take(0), take(1)};
}

// A pair is a complex number, multiplied by cos + i sin: its gradient is multiplied by the conjugate, and that of cos +
// i sin is the gradient of the product times the pair's conjugate, summed over the heads.
std::vector<Expr> rotary_embedding_gradient(GradientContext& g) {
  Builder& b = g.b;
  std::vector<Expr> result = {
      b.op("RotaryEmbedding", {g.dy(), g.in(kCos), -g.in(kSin), g.in(kPositions)}, g.node.attributes)};
  if (!g.wants(kCos) && !g.wants(kSin)) return result;

  const Rotation r(g.node, g.in(kX).shape());
  const auto [x_first, x_second] = pairs_of(b, r, g.in(kX));
  const auto [d_first, d_second] = pairs_of(b, r, g.dy());
  auto to_cache = [&](Expr d) {
    d = b.reduce_sum(d, {1}, false);
    if (!g.in(kPositions)) return d;
    return b.own("GatherGrad", {d, g.in(kPositions)},
                 {{"axis", std::int64_t{0}}, {"input_shape", g.in(kCos).shape().dims()}});
  };
  result.push_back(to_cache(d_first * x_first + d_second * x_second));
  result.push_back(to_cache(d_second * x_first - d_first * x_second));
  return result;
}

const std::vector<OpCase> kCases = {
    {"(float[2,3,4,6] x, float[5,3] c, float[5,3] s) => (float[2,3,4,6] y) "
     "<int64[2,4] p = {0, 1, 2, 3, 4, 4, 0, 2}> { y = RotaryEmbedding(x, c, s, p) }"},
    {"(float[2,3,4,6] x, float[5,3] c, float[5,3] s) => (float[2,3,4,6] y) "
     "<int64[2,4] p = {0, 1, 2, 3, 4, 4, 0, 2}> { y = RotaryEmbedding<interleaved=1>(x, c, s, p) }"},
    {"(float[2,3,8] x, float[2,3,2] c, float[2,3,2] s) => (float[2,3,8] y) "
     "{ y = RotaryEmbedding<num_heads=2>(x, c, s) }"},
    {"(float[2,3,12] x, float[4,2] c, float[4,2] s) => (float[2,3,12] y) <int64[2,3] p = {3, 1, 2, 0, 0, 1}> "
     "{ y = RotaryEmbedding<num_heads=2, rotary_embedding_dim=4, interleaved=1>(x, c, s, p) }"},
    {"(float[1,2,1,6] x, float[1,1,2] c, float[1,1,2] s) => (float[1,2,1,6] y) "
     "{ y = RotaryEmbedding<rotary_embedding_dim=4>(x, c, s) }"},
    {"(float[0,2,3,4] x, float[0,3,2] c, float[0,3,2] s) => (float[0,2,3,4] y) { y = RotaryEmbedding(x, c, s) }"},
};

}  // namespace

std::vector<OpDef> rotary_rows() {
  return {{.name = "RotaryEmbedding",
           .precision = PrecisionClass::follow,
           .reference = rotary_embedding,
           .gradient = rotary_embedding_gradient,
           .cases = kCases}};
}

}  // namespace halfstep::ops
