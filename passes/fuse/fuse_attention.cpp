// Attention as exporters write it, and the operator Attention, as FusedAttention, which reads its operands where they
// lie.
#include "passes/fuse/fuse_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>

#include "ops/attention/attention.h"
#include "ops/attention/fused_attention.h"
#include "passes/fuse/attention_scores.h"
#include "passes/fuse/strided_view.h"
#include "passes/matcher.h"
#include <halfstep/ops/builder.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/kernel_util.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

/// Whether the value depends on a state: training may ask for its gradient.
bool is_trained(const Graph& graph, ValueId id) {
  std::set<ValueId> seen;
  std::vector<ValueId> open = {id};
  while (!open.empty()) {
    const ValueId value = open.back();
    open.pop_back();
    if (value == kNoValue || !seen.insert(value).second || !is_float(graph[value].dtype)) continue;
    if (graph.state_of(value) >= 0) return true;
    if (const Node* node = graph.producer(value)) open.insert(open.end(), node->inputs.begin(), node->inputs.end());
  }
  return false;
}

/// An operand of the products on its way back to where it lies: [batch axes..., rows, width].
struct Operand {
  StridedView view;
  double factor = 1;

  StridedAxis batch() const {
    StridedAxis all;
    for (std::size_t i = 0; i + 2 < view.axes.size(); ++i)
      all.insert(all.end(), view.axes[i].begin(), view.axes[i].end());
    return all;
  }
  const StridedAxis& rows() const { return view.axes[view.axes.size() - 2]; }
  /// Rows are elements side by side, and one stride apart.
  bool is_rows() const {
    const StridedAxis& width = view.axes.back();
    return (width.empty() || (width.size() == 1 && width[0].step == 1)) && rows().size() <= 1;
  }
};

/// As far back as it can be read from.
Operand traced(const Graph& graph, Operand operand, bool takes_factor) {
  Operand best = operand;
  for (int i = 0; i < 16; ++i) {
    const auto x = scaled(graph, operand.view.base);
    if (x && takes_factor) {
      operand.view.base = x->first;
      operand.factor *= x->second;
    } else if (!operand.view.step_back(graph)) {
      break;
    }
    if (operand.is_rows()) best = operand;
  }
  return best;
}

Operand operand_of(const Graph& graph, ValueId value, bool transposed = false) {
  Operand operand{.view = StridedView::of(graph, value)};
  if (transposed) std::swap(operand.view.axes.back(), operand.view.axes[operand.view.axes.size() - 2]);
  return operand;
}

/// An attention node that may come to be.
struct Attention {
  Operand q, k, v;
  StridedView y;  ///< its axes as those of an operand
  std::int64_t queries, keys, head, value_head;
  double factor = 1;
  bool causal = false;
  ValueId mask = kNoValue;
  Shape mask_scores;  ///< what it is broadcast to
};

std::int64_t step_of(const StridedAxis& axis) { return axis.empty() ? 0 : axis[0].step; }

/// The mask as rows, its axes broadcast to those of the scores.
StridedView mask_view(const Graph& graph, ValueId mask, const Shape& scores) {
  StridedView view = StridedView::of(graph, mask);
  const Shape& shape = graph[mask].shape;
  std::vector<StridedAxis> axes(scores.rank());
  for (std::size_t i = 0; i < scores.rank(); ++i) {
    const std::size_t missing = scores.rank() - shape.rank();
    const bool spread = i < missing || shape[i - missing] == 1;
    axes[i] = spread ? StridedAxis{{scores[i], 0}} : view.axes[i - missing];
    if (scores[i] == 1) axes[i].clear();
  }
  view.axes = std::move(axes);
  return view;
}

/// The attributes, where the parts' axes fit each other and what is said of the gradients' tensors holds.
std::optional<ops::FusedAttentionConfig> config_of(const Graph& graph, const Attention& a) {
  std::optional<StridedView> mask;
  if (a.mask != kNoValue) {
    mask = mask_view(graph, a.mask, a.mask_scores);
    const StridedAxis &rows = mask->axes[mask->axes.size() - 2], &columns = mask->axes.back();
    if (rows.size() > 1 || columns.size() > 1 || step_of(columns) > 1) return std::nullopt;
  }
  const Operand y{.view = a.y}, m{.view = mask.value_or(StridedView())};
  if (!y.is_rows() || !a.q.is_rows() || !a.k.is_rows() || !a.v.is_rows()) return std::nullopt;
  std::vector<StridedAxis> batch = {a.q.batch(), a.k.batch(), a.v.batch(), y.batch()};
  if (mask) batch.push_back(m.batch());
  batch = split_alike(std::move(batch));
  if (batch.empty()) return std::nullopt;
  // [batch, heads, group]: the last is a group where its queries share keys and values.
  const std::size_t count = batch[0].size();
  const bool grouped = count > 0 && batch[1].back().step == 0 && batch[2].back().step == 0;
  if (count > (grouped ? 3U : 2U)) return std::nullopt;
  ops::FusedAttentionConfig c;
  c.queries = a.queries, c.keys = a.keys, c.head = a.head, c.value_head = a.value_head;
  c.scale = static_cast<float>(a.factor * a.q.factor * a.k.factor);
  c.causal = a.causal;
  c.y_shape = graph[a.y.base].shape.dims();
  const auto place = [&](ops::RowView& view, std::size_t which, std::int64_t offset, const StridedAxis& rows) {
    view.offset = offset;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t axis = i + (grouped ? 3 : 2) - count;
      view.strides[axis] = batch[which][i].step;
      (axis == 0 ? c.batch : axis == 1 ? c.heads : c.group) = batch[which][i].extent;
    }
    view.strides[3] = step_of(rows);
  };
  place(c.q, 0, a.q.view.offset, a.q.rows());
  place(c.k, 1, a.k.view.offset, a.k.rows());
  place(c.v, 2, a.v.view.offset, a.v.rows());
  place(c.y, 3, a.y.offset, y.rows());
  if (mask) {
    place(c.mask, 4, mask->offset, m.rows());
    c.mask_column = step_of(mask->axes.back());
  }
  // Keys that whole heads share have gradients of several heads.
  for (std::size_t i = 0; i < 2; ++i)
    if ((i == 0 ? c.batch : c.heads) > 1 && (c.k.strides[i] == 0 || c.v.strides[i] == 0)) return std::nullopt;
  const std::array<std::int64_t, 3> extents = {c.batch, c.heads, c.group};
  for (std::size_t i = 0; i < 3; ++i)
    if (extents[i] > 1 && (c.q.strides[i] == 0 || c.y.strides[i] == 0)) return std::nullopt;
  return c;
}

/// Which inputs the node gets: a tensor that holds several operands is one of them. Empty where a gradient would be of
/// a part of a tensor only.
std::vector<ValueId> inputs_of(const Graph& graph, const Attention& a, const ops::FusedAttentionConfig& c) {
  const ValueId q = a.q.view.base, k = a.k.view.base, v = a.v.view.base;
  const bool one = q == k && k == v;
  // Operands that overlap, as of one value that is all three, are tensors of their own: their gradients add up.
  for (const auto& tensors : {std::array{q, one ? kNoValue : k, v == k ? kNoValue : v}, std::array{q, k, v}}) {
    const auto sets = gradient_rows(c, tensors[1] != kNoValue, tensors[2] != kNoValue);
    bool whole = true;
    for (std::size_t i = 0; i < 3; ++i) {
      if (sets[i].empty()) continue;
      const ops::Tiling tiling = tiling_of(sets[i], graph[tensors[i]].shape.count());
      whole = whole && tiling.disjoint && tiling.complete;
    }
    if (!whole) continue;
    std::vector<ValueId> inputs = {tensors[0], tensors[1], tensors[2], a.mask};
    while (inputs.back() == kNoValue) inputs.pop_back();
    return inputs;
  }
  return {};
}

/// Puts one node in the place of what gives y; of operands further back where that is possible.
bool replace(Graph& graph, const Attention& plain, ValueId result) {
  const std::string name = graph.producer(result)->name;
  Attention far = plain;
  far.q = traced(graph, plain.q, true);
  far.k = traced(graph, plain.k, true);
  far.v = traced(graph, plain.v, false);
  StridedView y = plain.y;
  for (int i = 0; i < 8 && y.step_forward(graph); ++i)
    if (Operand{.view = y}.is_rows()) far.y = y;
  Attention near = plain;  // without the parts that others have of what the operands are parts of
  near.y = far.y;
  for (const Attention& a : {far, near, plain}) {
    const auto c = config_of(graph, a);
    if (!c) continue;
    const std::vector<ValueId> inputs = inputs_of(graph, a, *c);
    if (inputs.empty()) continue;
    const ValueId out = a.y.base;
    const auto producer = static_cast<std::size_t>(graph.producer_index(out));
    graph.edit(producer)->outputs[0] = kNoValue;
    const ValueId statistics = graph.add_value(graph[out].name + ".statistics");
    const std::size_t n = graph.define({out, statistics}, "FusedAttention", kOwnDomain, inputs, c->attributes(), name);
    infer_node(graph, graph.nodes[n]);
    return true;
  }
  return false;
}

bool fits_scores(const Graph& graph, const Mask& mask) {
  const ValueId id = mask.value != kNoValue ? mask.value : mask.hides;
  return graph[id].shape.is_static() && graph[id].shape.rank() <= mask.rank;
}

/// Softmax(scores) V.
bool fuse_written_out(Graph& graph, const Match& found) {
  const ValueId result = graph.nodes[found.root()].outputs[0], values = graph.nodes[found.root()].inputs[1];
  // The probabilities may be another shape on their way to the product.
  const Node& softmax = *graph.producer(found["probabilities"]);
  const Shape& shape = graph[softmax.inputs[0]].shape;
  if (!shape.is_static() || shape.rank() < 3 ||
      !same_matrices(graph, graph.nodes[found.root()].inputs[0], found["probabilities"]) ||
      normalize_axis(softmax.attributes.get_int("axis", -1), shape.rank()) + 1 != shape.rank())
    return false;
  Scores scores;
  if (graph[result].dtype != DType::f32 || !find_scores(graph, softmax.inputs[0], scores)) return false;
  const Node& product = *graph.producer(scores.product);
  const ValueId queries = product.inputs[0], keys = product.inputs[1];
  const Shape &q = graph[queries].shape, &k = graph[keys].shape, &v = graph[values].shape, &y = graph[result].shape;
  const auto batch = [](const Shape& s) { return std::vector(s.begin(), s.end() - 2); };
  for (const Shape* s : {&q, &k, &v, &y})
    if (!s->is_static() || s->rank() < 3 || s->count() == 0) return false;
  if (batch(q) != batch(k) || batch(v) != batch(y)) return false;
  for (const Mask& mask : scores.masks)
    if (!fits_scores(graph, mask) || is_trained(graph, mask.value)) return false;

  Attention a{.q = operand_of(graph, queries),
              .k = operand_of(graph, keys, true),
              .v = operand_of(graph, values),
              .y = StridedView::of(graph, result),
              .queries = q.dim(-2),
              .keys = k.dim(-1),
              .head = q.dim(-1),
              .value_head = v.dim(-1),
              .factor = scores.factor,
              .mask_scores = shape};
  if (!a.k.is_rows()) a.k = traced(graph, a.k, true);  // a transposed matrix is no rows
  if (!a.k.is_rows()) return false;
  if (std::ranges::any_of(scores.masks, [&](const Mask& mask) { return mask.rank != shape.rank(); })) return false;
  std::vector<Mask> open = scores.masks;
  std::optional<KnownMask> known = known_mask(graph, open);
  // Where replaces scores, and the sum with a mask does the same only where a row shows some key. Known masks tell,
  // unless one that is not may hide what they show.
  const auto replaces = [](const Mask& each) { return each.value == kNoValue; };
  if (std::ranges::any_of(scores.masks, replaces) && !(open.empty() && known && shows_a_key(*known))) return false;
  // Such a mask may hide all that a causal one shows: what a finite one hides takes part then.
  if (known && is_causal(*known, a.queries, a.keys) && (open.empty() || hides_for_good(*known))) {
    a.causal = true;
    known.reset();
  }
  Builder b(graph);
  b.set_context(graph.nodes[found.root()].name + ".");
  Expr mask;
  if (known) {
    Tensor elements(DType::f32, known->shape);
    ops::store(elements, known->elements);
    mask = b.constant(elements, "mask");
  }
  for (const Mask& each : open) {
    const Expr next = b.expr(each.value);
    mask = mask ? mask + next : next;
  }
  if (mask) a.mask = mask.id();
  return replace(graph, a, result);
}

/// Whether a mask leaves a finite score in every row; Attention gives zeros for others.
bool leaves_rows(const Graph& graph, ValueId mask) {
  if (!graph[mask].is_constant() || !is_float(graph[mask].dtype) || graph[mask].shape.rank() == 0) return false;
  const std::vector<double> elements = to_doubles(graph[mask].constant);
  return std::ranges::all_of(elements, [](double e) { return std::isfinite(e); });
}

/// The operator Attention, where it has no past and gives nothing but its first result.
bool fuse_operator(Graph& graph, const Match& found) {
  const Node& node = graph.nodes[found.root()];
  std::vector<Shape> shapes;
  for (const ValueId in : node.inputs) shapes.push_back(in == kNoValue ? Shape() : graph[in].shape);
  const ValueId result = node.outputs[0];
  if (!std::ranges::all_of(shapes, &Shape::is_static) || graph[result].dtype != DType::f32) return false;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] != kNoValue && (i > ops::kMask || graph[node.inputs[i]].dtype != DType::f32)) return false;
  for (std::size_t i = 1; i < node.outputs.size(); ++i)
    if (graph.is_read(node.outputs[i])) return false;
  const ops::AttentionConfig c(node, shapes);
  if (c.softcap > 0 || c.left || c.right || c.scores().count() == 0 || c.head == 0 || c.value_head == 0) return false;
  const ValueId mask = node.input(ops::kMask);
  if (mask != kNoValue && (!leaves_rows(graph, mask) || broadcast(graph[mask].shape, c.scores()) != c.scores()))
    return false;
  if (c.causal && mask != kNoValue) return false;

  // [batch, heads, length, width] as axes, whatever the operand's are.
  const auto view = [&](ValueId value, std::int64_t heads, std::int64_t width) {
    StridedView v = StridedView::of(graph, value);
    if (!c.packed) return v;
    v.axes.insert(v.axes.begin() + 1, StridedAxis{{heads, width}});
    v.axes.back() = {{width, 1}};
    for (StridedAxis& axis : v.axes) std::erase_if(axis, [](const Stride& s) { return s.extent == 1; });
    return v;
  };
  // Groups of query heads as an axis of their own.
  const auto shared = [&](StridedView v) {
    v.axes.insert(v.axes.begin() + 2, c.group() == 1 ? StridedAxis{} : StridedAxis{{c.group(), 0}});
    return v;
  };
  Attention a{.q = {.view = view(node.inputs[ops::kQuery], c.query_heads, c.head)},
              .k = {.view = shared(view(node.inputs[ops::kKey], c.key_heads, c.head))},
              .v = {.view = shared(view(node.inputs[ops::kValue], c.key_heads, c.value_head))},
              .y = view(result, c.query_heads, c.value_head),
              .queries = c.queries,
              .keys = c.keys,
              .head = c.head,
              .value_head = c.value_head,
              .factor = c.scale,
              .causal = c.causal,
              .mask = mask,
              .mask_scores = c.scores()};
  return replace(graph, a, result);
}

}  // namespace

Pass fuse_attention(const std::vector<Fusion>& fusions) {
  const bool has = std::ranges::any_of(fusions, [](const Fusion& f) { return f.fused == "FusedAttention"; });
  const Pattern softmax{.name = "probabilities", .ops = {"Softmax"}, .once = true};
  const Pattern reshaped{.name = "weights", .ops = {"Reshape"}, .once = true, .operands = {softmax}};
  const auto product_with = [](const Pattern& weights) {
    return Rule{{.ops = {"MatMul"}, .operands = {weights}}, fuse_written_out};
  };
  const Rule whole{{.ops = {"Attention"}}, fuse_operator};
  const std::vector<Rule> rules = {product_with(softmax), product_with(reshaped), whole};
  return {"fuse_attention", [rules, has](Graph& graph) {
            if (!has) return;
            rewrite(graph, rules);
            graph.sort();
          }};
}

}  // namespace halfstep
