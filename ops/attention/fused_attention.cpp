// FusedAttention and AttentionGrad of ai.halfstep: reference kernels, gradient rule, table rows.
#include "ops/attention/fused_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/magnitude.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

using Values = std::vector<double>;
constexpr double kNever = -std::numeric_limits<double>::infinity();

/// Queries, keys, values and mask of a call; `first` is the index of input Q.
class Reader {
 public:
  Reader(const KernelCall& call, std::size_t first) : c(call.node.attributes) {
    const auto elements = [&](std::size_t i, const Values& otherwise) {
      return call.has_in(first + i) ? to_doubles(call.in[first + i]) : otherwise;
    };
    q_ = elements(kFusedQ, {});
    k_ = elements(kFusedK, q_);
    v_ = elements(kFusedV, k_);
    mask_ = elements(kFusedMask, {});
    const auto count = [](const Values& values) { return static_cast<std::int64_t>(values.size()); };
    const std::string misfit =
        c.misfit_of_operands(count(q_), count(k_), count(v_), call.has_in(first + kFusedMask) ? count(mask_) : -1);
    if (!misfit.empty())
      throw_input_error("queries, keys and values that lie in their tensors", misfit,
                        "check the attributes of this operator");
  }

  const double* q(std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t i) const {
    return row(q_, c.q, b, h, g, i);
  }
  const double* k(std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t j) const {
    return row(k_, c.k, b, h, g, j);
  }
  const double* v(std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t j) const {
    return row(v_, c.v, b, h, g, j);
  }

  /// The probabilities of a query's keys; returns the logarithm of their normalizing sum.
  double probabilities(std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t i, Values& p) const {
    p.assign(static_cast<std::size_t>(c.keys), kNever);
    for (std::int64_t j = 0; j < c.keys; ++j) {
      if (c.causal && j > i) break;
      double sum = 0;
      for (std::int64_t d = 0; d < c.head; ++d) sum += q(b, h, g, i)[d] * k(b, h, g, j)[d];
      sum *= c.scale;
      if (!mask_.empty()) sum += mask_[c.mask.start(b, h, g, i) + j * c.mask_column];
      p[j] = sum;
    }
    double top = kNever, total = 0;
    for (const double s : p) top = s > top || std::isnan(s) ? s : top;
    for (double& s : p) total += s = std::exp(s - top);
    for (double& s : p) s /= total;
    return top + std::log(total);
  }

  /// f(b, h, g, i) for every query.
  template <class F>
  void for_each_query(const F& f) const {
    for (std::int64_t b = 0; b < c.batch; ++b)
      for (std::int64_t h = 0; h < c.heads; ++h)
        for (std::int64_t g = 0; g < c.group; ++g)
          for (std::int64_t i = 0; i < c.queries; ++i) f(b, h, g, i);
  }

  const FusedAttentionConfig c;

 private:
  static const double* row(const Values& x, const RowView& view, std::int64_t b, std::int64_t h, std::int64_t g,
                           std::int64_t i) {
    return x.data() + view.start(b, h, g, i);
  }

  Values q_, k_, v_, mask_;
};

void fused_attention(KernelCall& call) {
  const Reader in(call, 0);
  const FusedAttentionConfig& c = in.c;
  const Shape shape(c.y_shape);
  Values y(static_cast<std::size_t>(shape.count())), statistics, p;
  in.for_each_query([&](auto b, auto h, auto g, auto i) {
    statistics.push_back(in.probabilities(b, h, g, i, p));
    double* row = y.data() + c.y.start(b, h, g, i);
    for (std::int64_t j = 0; j < (c.causal ? std::min(i + 1, c.keys) : c.keys); ++j)
      for (std::int64_t d = 0; d < c.value_head; ++d) row[d] += p[j] * in.v(b, h, g, j)[d];
  });
  store(ensure_out(call, 0, call.in[kFusedQ].dtype(), shape), y);
  if (call.has_out(1)) store(ensure_out(call, 1, DType::f32, c.statistics()), statistics);
}

void attention_grad(KernelCall& call) {
  const Reader in(call, 1);
  const FusedAttentionConfig& c = in.c;
  const Values dy = to_doubles(call.in[0]);
  if (call.in[0].shape() != Shape(c.y_shape))
    throw_input_error("dY of shape " + Shape(c.y_shape).to_string(), call.in[0].shape().to_string(),
                      "check the shapes of this operator");
  std::array<Values, 3> results;
  for (std::size_t i = 0; i < results.size(); ++i)
    if (call.has_in(1 + i)) results[i].assign(static_cast<std::size_t>(call.in[1 + i].count()), 0);
  const std::size_t k = call.has_in(1 + kFusedK) ? 1 : 0, v = call.has_in(1 + kFusedV) ? 2 : k;

  Values p, dp(static_cast<std::size_t>(c.keys));
  in.for_each_query([&](auto b, auto h, auto g, auto i) {
    in.probabilities(b, h, g, i, p);
    const double* d = dy.data() + c.y.start(b, h, g, i);
    const std::int64_t seen = c.causal ? std::min(i + 1, c.keys) : c.keys;
    double mean = 0;
    for (std::int64_t j = 0; j < seen; ++j) {
      const auto at = static_cast<std::size_t>(j);
      double* dv = results[v].data() + c.v.start(b, h, g, j);
      dp[at] = 0;
      for (std::int64_t e = 0; e < c.value_head; ++e) {
        dp[at] += d[e] * in.v(b, h, g, j)[e];
        dv[e] += p[at] * d[e];
      }
      mean += p[at] * dp[at];
    }
    double* dq = results[0].data() + c.q.start(b, h, g, i);
    for (std::int64_t j = 0; j < seen; ++j) {
      const double ds = p[j] * (dp[j] - mean) * c.scale;
      double* dk = results[k].data() + c.k.start(b, h, g, j);
      for (std::int64_t e = 0; e < c.head; ++e) {
        dq[e] += ds * in.k(b, h, g, j)[e];
        dk[e] += ds * in.q(b, h, g, i)[e];
      }
    }
  });
  for (std::size_t i = 0; i < results.size(); ++i)
    if (call.has_out(i)) store(ensure_out(call, i, call.in[1 + i].dtype(), call.in[1 + i].shape()), results[i]);
}

std::vector<Expr> fused_attention_gradient(GradientContext& g) {
  if (g.dy(1))
    throw_input_error("no gradient of the statistics of a FusedAttention", "one", "let nothing depend on them");
  if (!g.out(1)) throw_failure("statistics of a FusedAttention that is differentiated", "none", "give it both results");
  const std::size_t tensors = g.in(kFusedV) ? 3 : g.in(kFusedK) ? 2 : 1;
  return g.b.multi("AttentionGrad", kOwnDomain,
                   {g.dy(), g.in(kFusedQ), g.in(kFusedK), g.in(kFusedV), g.in(kFusedMask), g.out(1), g.out(0)}, tensors,
                   g.node.attributes);
}

/// Whether the tensors are exactly those described by the attributes: statistics of other tensors are meaningless.
bool fills_tensors(const Graph& graph, const Node& node) {
  const FusedAttentionConfig c(node.attributes);
  const auto sets = gradient_rows(c, node.input(1 + kFusedK) != kNoValue, node.input(1 + kFusedV) != kNoValue);
  for (std::size_t i = 0; i < sets.size(); ++i)
    if (!sets[i].empty() && !tiling_of(sets[i], graph[node.inputs[1 + i]].shape.count()).complete) return false;
  return true;
}

/// The magnitude of a mean of values.
double magnitude_of_values(const MagnitudeCall& in) {
  return in.square_or(kFusedV, in.square_or(kFusedK, in.square(kFusedQ)));
}

// Two heads of four queries and five keys; one tensor with all three; grouped heads with a mask.
#define APART                                                                                               \
  "<extents = [2, 2, 1, 4, 5, 3, 2], q = [0, 24, 12, 0, 3], k = [0, 30, 15, 0, 3], v = [0, 20, 10, 0, 2], " \
  "y = [0, 16, 2, 0, 4], scale = 0.5, y_shape = [2, 4, 4]>"
#define PACKED                                                                                               \
  "<extents = [2, 2, 1, 4, 4, 3, 3], q = [0, 72, 3, 0, 18], k = [6, 72, 3, 0, 18], v = [12, 72, 3, 0, 18], " \
  "y = [0, 24, 3, 0, 6], scale = 0.7, causal = 1, y_shape = [2, 4, 6]>"
#define GROUPED                                                                                        \
  "<extents = [2, 1, 2, 3, 3, 2, 2], q = [0, 12, 0, 2, 4], k = [0, 6, 0, 0, 2], v = [0, 6, 0, 0, 2], " \
  "y = [0, 12, 0, 6, 2], mask = [0, 3, 0, 0, 0, 1], scale = 1.0, y_shape = [2, 2, 3, 2]>"

const std::vector<OpCase> kCases = {
    {"(float[2,2,4,3] q, float[2,2,5,3] k, float[2,2,5,2] v) => (float[2,4,4] y) "
     "{ y, s = ai.halfstep.FusedAttention" APART "(q, k, v) }"},
    {"(float[2,4,18] x) => (float[2,4,6] y) { y, s = ai.halfstep.FusedAttention" PACKED "(x) }"},
    {"(float[2,3,4] q, float[2,3,2] k, float[2,3,2] v, float[2,1,1,3] m) => (float[2,2,3,2] y) "
     "{ y, s = ai.halfstep.FusedAttention" GROUPED "(q, k, v, m) }",
     -2, 2, false},
};
const std::vector<OpCase> kGradientCases = {
    {"(float[1,1,3,2] dy, float[1,1,3,2] q, float[1,1,4,2] k, float[1,1,4,2] v, float[3,4] m) => "
     "(float[1,1,3,2] dq, float[1,1,4,2] dk, float[1,1,4,2] dv) <int64[1] last = {-1}, int64[4] n = {1, 1, 1, 3}> "
     "{ f = Cast<to = 1>(q) g = Cast<to = 1>(k) h = Cast<to = 1>(m) t = Transpose<perm = [0, 1, 3, 2]>(g) "
     "a = MatMul(f, t) b = Add(a, h) l = ReduceLogSumExp<keepdims = 0>(b, last) s = Reshape(l, n) "
     "dq, dk, dv = ai.halfstep.AttentionGrad<extents = [1, 1, 1, 3, 4, 2, 2], q = [0, 0, 0, 0, 2], "
     "k = [0, 0, 0, 0, 2], v = [0, 0, 0, 0, 2], y = [0, 0, 0, 0, 2], mask = [0, 0, 0, 0, 4, 1], scale = 1.0, y_shape = "
     "[1, 1, 3, 2]>"
     "(dy, q, k, v, m, s) }"},
    {"(float[2,4,4] dy, float[2,2,4,3] q, float[2,2,5,3] k, float[2,2,5,2] v) => "
     "(float[2,2,4,3] dq, float[2,2,5,3] dk, float[2,2,5,2] dv) { y, s = ai.halfstep.FusedAttention" APART "(q, k, v) "
     "dq, dk, dv = ai.halfstep.AttentionGrad" APART "(dy, q, k, v, , s, y) }"},
    {"(float[2,4,6] dy, float[2,4,18] x) => (float[2,4,18] dx) { y, s = ai.halfstep.FusedAttention" PACKED "(x) "
     "dx = ai.halfstep.AttentionGrad" PACKED "(dy, x, , , , s, y) }"},
    {"(float[2,2,3,2] dy, float[2,3,4] q, float[2,3,2] k, float[2,3,2] v, float[2,1,1,3] m) => "
     "(float[2,3,4] dq, float[2,3,2] dk, float[2,3,2] dv) { y, s = ai.halfstep.FusedAttention" GROUPED "(q, k, v, m) "
     "dq, dk, dv = ai.halfstep.AttentionGrad" GROUPED "(dy, q, k, v, m, s, y) }"},
};
#undef APART
#undef PACKED
#undef GROUPED

}  // namespace

std::vector<OpDef> fused_attention_rows() {
  using enum OperandRole;
  constexpr OpenNaN kHidden{true, true, "what a causal mask hides may be multiplied by 0"};
  return {{.name = "FusedAttention",
           .domain = kOwnDomain,
           .precision = PrecisionClass::half,
           .traits = {.operands = {data, data, data, mask}, .magnitude = magnitude_of_values},
           .reference = fused_attention,
           .gradient = fused_attention_gradient,
           .cases = kCases,
           .open_nan = kHidden,
           .schema = fused_attention_schema,
           .note = "of the mask there is no gradient"},
          {.name = "AttentionGrad",
           .domain = kOwnDomain,
           .precision = PrecisionClass::half,
           .reference = attention_grad,
           .cases = kGradientCases,
           .variations = {.fits = fills_tensors},
           .open_nan = kHidden,
           .schema = attention_grad_schema}};
}

}  // namespace halfstep::ops
