// Makers of FusedAttention and its gradient in half precision by plans of cuDNN's graph API. The operations are those
// by which cuDNN knows attention: it computes them as one kernel that keeps no scores.
#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executors/cudnn/attention.h"
#include "executors/cudnn/descriptors.h"
#include "executors/cudnn/plan_run.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

using ops::FusedAttentionConfig;
using ops::RowView;
using Tensor = OperationGraph::Tensor;
using Strides = std::array<std::int64_t, 4>;

/// A tensor of four axes that lies in an operand: batch, heads, rows, columns.
struct Part {
  Shape shape;
  Strides strides{};
  std::int64_t offset = 0;

  /// Its last two axes exchanged.
  Part transposed() const {
    Part t = *this;
    std::swap(t.strides[2], t.strides[3]);
    t.shape = {shape[0], shape[1], shape[3], shape[2]};
    return t;
  }
  std::string text() const { return fmt::format("{} {}", shape.to_string(), fmt::join(strides, ",")); }
};

/// An axis of heads and one of a group's members as one axis' stride.
std::optional<std::int64_t> joined(const FusedAttentionConfig& c, const RowView& view) {
  if (c.group == 1) return view.strides[1];
  if (c.heads == 1 || view.strides[1] == c.group * view.strides[2]) return view.strides[2];
  return std::nullopt;
}

/// `width` columns that are next to each other; an axis of extent 1 steps over all that is inside of it.
Part part_of(const RowView& view, std::int64_t heads_stride, Shape shape) {
  Part part{std::move(shape), {view.strides[0], heads_stride, view.strides[3], 1}, view.offset};
  for (std::size_t axis = 3; axis-- > 0;)
    if (part.shape[axis] == 1) part.strides[axis] = part.shape[axis + 1] * part.strides[axis + 1];
  return part;
}

/// All that the graphs speak of.
struct Problem {
  DType dtype = DType::f16, mask_dtype = DType::f32;
  bool causal = false, has_mask = false;
  Part q, k, v, y, mask, statistics, scores;

  std::string key(std::string_view direction) const {
    std::string key =
        fmt::format("attention {} {} {} {} {}", direction, name_of(dtype), name_of(mask_dtype), causal, has_mask);
    for (const Part* part : {&q, &k, &v, &y, &mask, &statistics}) key += fmt::format(" | {}", part->text());
    return key;
  }
};

Part row_major(Shape shape) {
  Part part{std::move(shape)};
  std::ranges::copy(part.shape.strides(), part.strides.begin());
  return part;
}

/// The problem of a node whose queries are input `first`, or why it is none of cuDNN's.
std::string make_problem(KernelContext& context, const FusedAttentionConfig& c, std::size_t first, Problem& p) {
  if (std::string reason = attention_refusal(context, c, first); !reason.empty()) return reason;
  p.dtype = context.in(first).dtype;
  if (p.dtype != DType::f16 && p.dtype != DType::bf16) return "cuDNN's attention is for f16 and bf16";
  if (libraries(context).capability < 80) return "cuDNN's attention needs compute capability 8.0";
  // Older ones are wrong for some extents and not deterministic on some devices, as cudnn-frontend has it.
  if (cudnnGetVersion() < 91800) return "cuDNN's attention before version 9.18 has known faults";
  if (c.queries == 1 && c.keys == 1) return "attention of one query to one key";
  const std::int64_t all = c.heads * c.group;
  const std::optional<std::int64_t> q = joined(c, c.q), y = joined(c, c.y), mask = joined(c, c.mask);
  if (!q || !y || !mask) return "heads of queries that lie in two steps";
  if (c.group > 1 && (c.k.strides[2] != 0 || c.v.strides[2] != 0)) return "keys that a group does not share";
  p.q = part_of(c.q, *q, {c.batch, all, c.queries, c.head});
  p.k = part_of(c.k, c.k.strides[1], {c.batch, c.heads, c.keys, c.head});
  p.v = part_of(c.v, c.v.strides[1], {c.batch, c.heads, c.keys, c.value_head});
  p.y = part_of(c.y, *y, {c.batch, all, c.queries, c.value_head});
  for (const Part* part : {&p.q, &p.k, &p.v, &p.y}) {
    if (part->offset % 8 != 0 || part->strides[2] % 8 != 0) return "rows that do not begin at whole 16 bytes";
    for (const std::int64_t stride : part->strides)
      if (stride == 0) return "rows that several heads or images share";
    if (part->strides[0] % 8 != 0 || part->strides[1] % 8 != 0) return "rows that do not begin at whole 16 bytes";
  }
  p.causal = c.causal;
  p.statistics = row_major({c.batch, all, c.queries, 1});
  p.scores = row_major({c.batch, all, c.queries, c.keys});
  p.has_mask = context.has_input(first + ops::kFusedMask);
  if (!p.has_mask) return {};
  p.mask_dtype = context.in(first + ops::kFusedMask).dtype;
  if (bytes_of(p.mask_dtype, static_cast<std::size_t>(c.mask.offset)) % 16 != 0)
    return "a mask that does not begin at whole 16 bytes";
  const std::array<std::int64_t, 4> steps{c.mask.strides[0], *mask, c.mask.strides[3], c.mask_column};
  std::vector<std::int64_t> extents = p.scores.shape.dims();
  for (std::size_t axis = 0; axis < 4; ++axis)
    if (steps[axis] == 0) extents[axis] = 1;
  p.mask = {Shape(extents), steps, c.mask.offset};
  for (std::size_t axis = 4; axis-- > 0;)
    if (extents[axis] == 1) p.mask.strides[axis] = axis == 3 ? 1 : p.mask.shape[axis + 1] * p.mask.strides[axis + 1];
  return {};
}

/// A graph, with the tensors that a run gives addresses of by what they are.
class AttentionGraph {
 public:
  enum Role : std::size_t { kQ, kK, kV, kY, kMask, kStatistics, kDy, kDelta, kDq, kDk, kDv, kScale, kHidden, kOne };
  static constexpr std::size_t kRoles = kOne + 1;
  /// The number of each tensor; OperationGraph::kNone where there is none.
  using Tensors = std::array<Tensor, kRoles>;

  AttentionGraph(const PlanTarget& target, const Problem& p) : graph_(target, TensorOrder::row_major), p_(p) {
    tensors_.fill(OperationGraph::kNone);
    half_ = data_type(p.dtype).value();
  }

  void forward() {
    const Tensor s = shown(scores());
    const Tensor top = between(p_.statistics);
    graph_.reduce(CUDNN_REDUCE_TENSOR_MAX, s, top);
    const Tensor e = apply(CUDNN_POINTWISE_EXP, apply(CUDNN_POINTWISE_SUB, s, top, p_.scores), kNone, p_.scores);
    const Tensor total = between(p_.statistics);
    graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, e, total);
    const Tensor logarithm = apply(CUDNN_POINTWISE_LOG, total, kNone, p_.statistics);
    graph_.pointwise({CUDNN_POINTWISE_ADD}, top, logarithm, real(kStatistics, DType::f32, p_.statistics));
    const Tensor p = graph_.between(half_, p_.scores.shape, p_.scores.strides);
    graph_.pointwise({CUDNN_POINTWISE_DIV}, e, total, p);
    graph_.matmul(p, real(kV, p_.dtype, p_.v), real(kY, p_.dtype, p_.y));
  }

  /// Gradients of queries are one product of scores in memory, which gives the same bits on every run.
  void backward() {
    const Tensor dy = real(kDy, p_.dtype, p_.y);
    const Tensor shares = apply(CUDNN_POINTWISE_MUL, dy, real(kY, p_.dtype, p_.y), row_major(p_.y.shape));
    const Tensor sum = between(p_.statistics);
    graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, shares, sum);
    const Tensor delta = real(kDelta, DType::f32, p_.statistics);
    graph_.pointwise({CUDNN_POINTWISE_MUL}, sum, number(kOne), delta);

    const Tensor s = scores();
    const Tensor relative = apply(CUDNN_POINTWISE_SUB, s, real(kStatistics, DType::f32, p_.statistics), p_.scores);
    const Tensor p = apply(CUDNN_POINTWISE_EXP, shown(relative), kNone, p_.scores);
    product_of_keys(p, dy, kDv, p_.v);

    const Tensor dp = between(p_.scores);
    graph_.matmul(dy, real(kV, p_.dtype, p_.v.transposed()), dp);
    const Tensor centred = apply(CUDNN_POINTWISE_SUB, dp, delta, p_.scores);
    const Tensor plain = apply(CUDNN_POINTWISE_MUL, centred, p, p_.scores);
    const Tensor ds = graph_.between(half_, p_.scores.shape, p_.scores.strides);
    graph_.pointwise({CUDNN_POINTWISE_MUL}, plain, tensors_[kScale], ds);
    product_of_keys(ds, tensors_[kQ], kDk, p_.k);
    const Tensor k = graph_.between(half_, p_.k.shape, p_.k.strides);
    graph_.reshape(tensors_[kK], k);
    graph_.matmul(ds, k, real(kDq, p_.dtype, p_.q));
  }

  std::vector<ExecutionPlan> plan() { return graph_.plan({.tensor_cores = true}, kPlans); }
  const Tensors& tensors() const { return tensors_; }

 private:
  static constexpr Tensor kNone = OperationGraph::kNone;

  Tensor real(Role role, DType dtype, const Part& part) {
    return tensors_[role] = graph_.tensor(dtype, part.shape, part.strides);
  }
  Tensor number(Role role) { return tensors_[role] = graph_.number(); }
  Tensor between(const Part& part, cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    return graph_.between(type, part.shape, part.strides);
  }
  Tensor apply(cudnnPointwiseMode_t mode, Tensor x, Tensor b, const Part& like) {
    const Tensor y = between(like);
    graph_.pointwise({mode}, x, b, y);
    return y;
  }

  /// scale Q K' + mask
  Tensor scores() {
    const Tensor product = between(p_.scores);
    graph_.matmul(real(kQ, p_.dtype, p_.q), real(kK, p_.dtype, p_.k.transposed()), product);
    const Tensor scaled = apply(CUDNN_POINTWISE_MUL, product, number(kScale), p_.scores);
    if (!p_.has_mask) return scaled;
    return apply(CUDNN_POINTWISE_ADD, scaled, real(kMask, p_.mask_dtype, p_.mask), p_.scores);
  }
  /// Scores where query i sees key j.
  Tensor shown(Tensor s) {
    if (!p_.causal) return s;
    const auto index = [&](std::int64_t axis) {
      const Tensor y = between(p_.scores, CUDNN_DATA_INT32);
      graph_.pointwise({CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, axis}, s, kNone, y);
      return y;
    };
    const Tensor row = index(2), column = index(3), is_seen = between(p_.scores, CUDNN_DATA_BOOLEAN);
    graph_.pointwise({CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN}, row, column, is_seen);
    const Tensor y = between(p_.scores);
    graph_.pointwise({CUDNN_POINTWISE_BINARY_SELECT}, s, number(kHidden), y, is_seen);
    return y;
  }
  /// scores' rows, summed over the heads that share keys.
  void product_of_keys(Tensor scores, Tensor rows, Role role, const Part& result) {
    const Part exchanged = p_.scores.transposed();
    const Tensor left = between(exchanged, half_);
    graph_.reshape(scores, left);
    const std::int64_t heads = p_.scores.shape[1];
    if (heads == result.shape[1]) return graph_.matmul(left, rows, real(role, p_.dtype, result));
    const Tensor whole = between(row_major({result.shape[0], heads, result.shape[2], result.shape[3]}), half_);
    graph_.matmul(left, rows, whole);
    graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, whole, real(role, p_.dtype, result));
  }

  OperationGraph graph_;
  const Problem& p_;
  cudnnDataType_t half_;
  Tensors tensors_;
};

/// Tensors are numbered as they are made, which follows from the problem.
AttentionGraph::Tensors numbers_of(const Problem& p, bool is_gradient) {
  AttentionGraph graph({}, p);
  is_gradient ? graph.backward() : graph.forward();
  return graph.tensors();
}

/// Numbers in the host's memory that a plan reads.
struct Numbers {
  float scale = 1, hidden = -std::numeric_limits<float>::infinity(), one = 1;
};

using Addresses = std::array<void*, AttentionGraph::kRoles>;

/// Runs the plans on what `find` finds in a launch.
Made run(KernelContext& context, std::string_view what, const Plans& plans, const AttentionGraph::Tensors& numbers,
         float scale, std::size_t own_scratch, std::function<Addresses(const Launch&)> find,
         std::function<void(const Launch&)> before = {}) {
  const auto tensors = [=, given = Numbers{.scale = scale}](const Launch& l) {
    Addresses at = find(l);
    at[AttentionGraph::kScale] = const_cast<float*>(&given.scale);
    at[AttentionGraph::kHidden] = const_cast<float*>(&given.hidden);
    at[AttentionGraph::kOne] = const_cast<float*>(&given.one);
    PlanTensors all;
    for (std::size_t role = 0; role < at.size(); ++role)
      if (numbers[role] != OperationGraph::kNone) all.add(numbers[role], at[role]);
    return all;
  };
  // All of cuDNN's engines for attention are compiled, for a second each; a network's layers are alike.
  constexpr std::size_t kCompilations = 3;
  return run_plans(context, plans,
                   {.what = std::string(what),
                    .find = tensors,
                    .before = std::move(before),
                    .scratch_bytes = own_scratch,
                    .compilations = kCompilations});
}

const Plans& plans_of(KernelContext& context, const Problem& p, bool is_gradient) {
  return libraries(context).plans->get(p.key(is_gradient ? "gradient" : "forward"), [&] {
    AttentionGraph graph(plan_target(libraries(context)), p);
    is_gradient ? graph.backward() : graph.forward();
    return graph.plan();
  });
}

/// The first row of a part in its operand.
void* row(const void* operand, const Part& part, DType dtype) {
  return static_cast<std::byte*>(const_cast<void*>(operand)) +
         static_cast<std::size_t>(part.offset) * bytes_of(dtype, 1);
}

/// Those of both directions.
void put_operands(Addresses& at, const Launch& l, std::size_t first, const Problem& p) {
  const AttentionAddresses in = attention_addresses(l, first);
  at[AttentionGraph::kQ] = row(in.q, p.q, p.dtype);
  at[AttentionGraph::kK] = row(in.k, p.k, p.dtype);
  at[AttentionGraph::kV] = row(in.v, p.v, p.dtype);
  if (in.mask) at[AttentionGraph::kMask] = row(in.mask, p.mask, p.mask_dtype);
}

}  // namespace

Made make_fused_attention_planned(KernelContext& context) {
  const FusedAttentionConfig c(context.node().attributes);
  Problem p;
  if (std::string reason = make_problem(context, c, 0, p); !reason.empty()) return refuse(reason);
  const Plans& plans = plans_of(context, p, false);
  if (plans.list.empty()) return refuse_without(plans, "attention");
  const std::size_t logs = padded_bytes(static_cast<std::size_t>(p.statistics.shape.count()) * sizeof(float));
  const auto find = [=](const Launch& l) {
    Addresses at{};
    put_operands(at, l, 0, p);
    at[AttentionGraph::kY] = row(l.out[0], p.y, p.dtype);
    at[AttentionGraph::kStatistics] = l.output<float>(1) ? l.out[1] : l.scratch;
    return at;
  };
  return run(context, "attention", plans, numbers_of(p, false), c.scale, logs, find);
}

Made make_attention_grad_planned(KernelContext& context) {
  const FusedAttentionConfig c(context.node().attributes);
  Problem p;
  if (std::string reason = make_problem(context, c, 1, p); !reason.empty()) return refuse(reason);
  const AttentionWrites writes = attention_writes(context, c);
  if (!writes.refusal.empty()) return refuse(writes.refusal);
  if (!context.has_input(ops::kGradResult)) return refuse("the result of the forward pass is not given");
  const Plans& plans = plans_of(context, p, true);
  if (plans.list.empty()) return refuse_without(plans, "attention");
  // Delta, and the results that nobody reads.
  std::array<std::size_t, 3> at_scratch{};
  std::size_t scratch = padded_bytes(static_cast<std::size_t>(p.statistics.shape.count()) * sizeof(float));
  for (const std::size_t i : {std::size_t{0}, writes.k, writes.v}) {
    if (context.has_output(i) || at_scratch[i]) continue;
    at_scratch[i] = scratch;
    scratch += padded_bytes(bytes_of(p.dtype, context.in(1 + i).shape));
  }
  const auto find = [=](const Launch& l) {
    Addresses at{};
    put_operands(at, l, 1, p);
    at[AttentionGraph::kDy] = row(l.in[0], p.y, p.dtype);
    at[AttentionGraph::kY] = row(l.in[ops::kGradResult], p.y, p.dtype);
    at[AttentionGraph::kStatistics] = const_cast<void*>(l.in[ops::kGradStatistics]);
    at[AttentionGraph::kDelta] = l.scratch;
    const auto result = [&](std::size_t i) -> const void* {
      return at_scratch[i] ? static_cast<std::byte*>(l.scratch) + at_scratch[i] : l.out[i];
    };
    at[AttentionGraph::kDq] = row(result(0), p.q, p.dtype);
    at[AttentionGraph::kDk] = row(result(writes.k), p.k, p.dtype);
    at[AttentionGraph::kDv] = row(result(writes.v), p.v, p.dtype);
    return at;
  };
  return run(context, "attention gradient", plans, numbers_of(p, true), c.scale, scratch, find,
             [=](const Launch& l) { writes.clear(l); });
}

}  // namespace halfstep::cudnn
