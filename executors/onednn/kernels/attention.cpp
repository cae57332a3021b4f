// FusedAttention and its gradient: each thread takes heads, and of a head blocks of queries whose scores stay in its
// cache. Products are oneDNN's, for one thread each, so that results do not depend on how many there are.
#include "executors/onednn/kernels/attention.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include <fmt/format.h>
#include <omp.h>

#include "executors/onednn/kernels/attention_product.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/attention.h"
#include "executors/onednn/simd/parallel.h"
#include "ops/attention/fused_attention.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {
namespace {

using ops::FusedAttentionConfig;
using ops::RowView;

/// Scores of a block: about half of a second-level cache.
constexpr std::int64_t kBlockScores = 48 * 1024;

/// Queries of a block, and how many keys they see at most.
struct Block {
  std::int64_t first, queries, keys;
};

std::vector<Block> blocks_of(const FusedAttentionConfig& c) {
  std::int64_t queries = std::max<std::int64_t>(16, kBlockScores / std::max<std::int64_t>(c.keys, 1) / 16 * 16);
  if (c.causal) queries = std::min(queries, std::max<std::int64_t>(64, (c.queries / 8 + 15) / 16 * 16));
  // Numbers of keys for which products are made: not one for each block of a long sequence.
  const std::int64_t step = std::max(queries, (c.keys / 8 + 15) / 16 * 16);
  std::vector<Block> result;
  for (std::int64_t first = 0; first < c.queries; first += queries) {
    const std::int64_t n = std::min(queries, c.queries - first);
    const std::int64_t seen = (first + n + step - 1) / step * step;
    // The last block comes first in the backward pass, where it makes the gradient of every key.
    const bool all = !c.causal || first + n == c.queries;
    result.push_back({first, n, all ? c.keys : std::min(seen, c.keys)});
  }
  return result;
}

/// An operand of products: rows where they lie, or, of a type that is not multiplied, a copy of a head's.
struct Source {
  RowView view;
  std::int64_t rows = 0, width = 0;
  DType type = DType::f32;
  simd::RowCastFn widen = nullptr;  ///< set where it is copied

  Source() = default;
  Source(const ops::RowSet& set, DType stored, DType computed)
      : view(*set.view), rows(set.extents[3]), width(set.width), type(stored) {
    if (stored != computed) widen = simd::find_row_widen(stored);
  }
  std::int64_t row() const { return widen ? width : view.strides[3]; }
  std::size_t copy_bytes() const { return widen ? static_cast<std::size_t>(rows * width) * sizeof(float) : 0; }
  const char* at(const void* tensor, std::int64_t b, std::int64_t h, std::int64_t g) const {
    return static_cast<const char*>(tensor) + static_cast<std::size_t>(view.start(b, h, g)) * bytes_of(type, 1);
  }
  /// The first row of a head, copied where it has to be.
  const char* read(const void* tensor, void* copy, std::int64_t b, std::int64_t h, std::int64_t g) const {
    const char* from = at(tensor, b, h, g);
    if (!widen) return from;
    widen(from, view.strides[3], copy, width, rows, width);
    return static_cast<const char*>(copy);
  }
};

/// A result of products: f32 where it lies, or rounded from an f32 copy of `rows` rows.
struct Target {
  RowView view;
  std::int64_t rows = 0, width = 0;
  DType type = DType::f32;
  simd::RowCastFn narrow = nullptr;

  Target() = default;
  Target(const ops::RowSet& set, DType stored, std::int64_t at_a_time)
      : view(*set.view), rows(at_a_time), width(set.width), type(stored) {
    if (stored != DType::f32) narrow = simd::find_row_narrow(stored);
  }
  std::int64_t row() const { return narrow ? width : view.strides[3]; }
  std::size_t copy_bytes() const { return narrow ? static_cast<std::size_t>(rows * width) * sizeof(float) : 0; }
  char* at(void* tensor, std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t row) const {
    return static_cast<char*>(tensor) + static_cast<std::size_t>(view.start(b, h, g, row)) * bytes_of(type, 1);
  }
  void* open(void* tensor, void* copy, std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t row = 0) const {
    return narrow ? copy : at(tensor, b, h, g, row);
  }
  void close(void* tensor, const void* copy, std::int64_t n, std::int64_t b, std::int64_t h, std::int64_t g,
             std::int64_t row = 0) const {
    if (narrow) narrow(copy, width, at(tensor, b, h, g, row), view.strides[3], n, width);
  }
};

/// Pieces of the memory that a thread has for itself.
class Pieces {
 public:
  std::size_t add(std::size_t bytes) {
    const std::size_t at = size_;
    size_ += (bytes + 63) / 64 * 64;
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

/// What forward and backward kernels have in common.
struct Plan {
  FusedAttentionConfig c;
  DType stored, computed;  ///< the tensors' type, and that of the products' operands
  std::vector<Block> blocks;
  std::vector<ThreadProduct> products;
  struct Operands {
    ThreadMatrix a, b, y;
    bool adds;
    bool operator==(const Operands&) const = default;
  };
  std::vector<Operands> made;  ///< of each product

  /// The index of a product. Blocks of the same extents have the same.
  std::size_t add(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds = false) {
    const Operands operands{a, b, y, adds};
    const auto known = std::ranges::find(made, operands);
    if (known != made.end()) return static_cast<std::size_t>(known - made.begin());
    made.push_back(operands);
    products.push_back(ThreadProduct::make(a, b, y, adds));
    return products.size() - 1;
  }
  bool complete() const {
    return std::ranges::all_of(products, [](const ThreadProduct& p) { return static_cast<bool>(p); });
  }
  std::size_t product_scratch() const {
    std::size_t most = 0;
    for (const ThreadProduct& p : products) most = std::max(most, p.scratch_bytes());
    return most;
  }
  std::int64_t most_queries() const {
    std::int64_t most = 0;
    for (const Block& b : blocks) most = std::max(most, b.queries);
    return most;
  }
  std::size_t score_bytes(DType type) const {
    return bytes_of(type, static_cast<std::size_t>(most_queries() * c.keys));
  }
};

ThreadMatrix transposed(ThreadMatrix m) {
  std::swap(m.rows, m.columns);
  std::swap(m.row, m.column);
  return m;
}
// Of one row no stride is asked.
ThreadMatrix matrix(const Source& s, std::int64_t rows, DType type) {
  return {rows, s.width, rows == 1 ? s.width : s.row(), 1, type};
}
ThreadMatrix matrix(const Target& t, std::int64_t rows) {
  return {rows, t.width, rows == 1 ? t.width : t.row(), 1, DType::f32};
}
ThreadMatrix score_matrix(const Block& b, DType type) { return {b.queries, b.keys, b.keys, 1, type}; }

simd::ScoreRows score_rows(const FusedAttentionConfig& c, const Block& block, float* scores, const float* mask,
                           std::int64_t b, std::int64_t h, std::int64_t g) {
  return {.scores = scores,
          .rows = block.queries,
          .keys = block.keys,
          .scale = c.scale,
          .mask = mask ? mask + c.mask.start(b, h, g, block.first) : nullptr,
          .mask_row = c.mask.strides[3],
          .mask_column = c.mask_column,
          .first = c.causal ? block.first + 1 : -1};
}

/// Calls body(thread, block) for all blocks; at most `threads` threads.
template <class Body>
void for_heads(std::int64_t blocks, int threads, const Body& body) {
  if (omp_in_parallel() || threads == 1) {
    for (std::int64_t i = 0; i < blocks; ++i) body(0, i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t i = 0; i < blocks; ++i) body(omp_get_thread_num(), i);
}

/// What keeps a node from having a kernel here, or empty.
std::string refusal(KernelContext& context, const FusedAttentionConfig& c, std::size_t first) {
  const auto count = [&](std::size_t i, std::int64_t otherwise) {
    return context.has_input(first + i) ? context.in(first + i).shape.count() : otherwise;
  };
  const std::int64_t q = count(ops::kFusedQ, -1), k = count(ops::kFusedK, q), v = count(ops::kFusedV, k);
  if (!c.misfit_of_operands(q, k, v, count(ops::kFusedMask, -1)).empty()) return "operands that do not fit";
  if (c.queries == 0 || c.keys == 0 || c.head == 0 || c.value_head == 0 || c.blocks() == 0) return "no elements";
  for (const ops::RowSet& rows : {rows_of_q(c), rows_of_k(c), rows_of_v(c), rows_of_y(c)})
    if (rows.extents[3] > 1 && rows.view->strides[3] < rows.width) return "rows that overlap";
  if (context.has_input(first + ops::kFusedMask) && c.mask_column > 1) return "a mask whose keys lie apart";
  const DType type = context.in(first).dtype;
  if (type != DType::f32 && !is_half(type)) return fmt::format("no kernel for {}", name_of(type));
  return {};
}

/// Types to multiply in, best first.
std::vector<DType> product_types(DType stored) {
  return stored == DType::f32 ? std::vector{DType::f32} : std::vector{stored, DType::f32};
}

}  // namespace

Made make_fused_attention(KernelContext& context) {
  const FusedAttentionConfig c(context.node().attributes);
  if (std::string reason = refusal(context, c, 0); !reason.empty()) return refuse(std::move(reason));
  const DType stored = context.in(0).dtype;

  struct Forward : Plan {
    Source q, k, v;
    Target y;
    std::vector<std::array<std::size_t, 2>> steps;  // products of a block
  };
  auto plan = std::make_shared<Forward>();
  for (const DType type : product_types(stored)) {
    *plan = Forward{};
    plan->c = c, plan->stored = stored, plan->computed = type, plan->blocks = blocks_of(c);
    plan->q = Source(rows_of_q(c), stored, type);
    plan->k = Source(rows_of_k(c), stored, type);
    plan->v = Source(rows_of_v(c), stored, type);
    plan->y = Target(rows_of_y(c), stored, plan->most_queries());
    for (const Block& b : plan->blocks)
      plan->steps.push_back(
          {plan->add(matrix(plan->q, b.queries, type), transposed(matrix(plan->k, b.keys, type)),
                     score_matrix(b, DType::f32)),
           plan->add(score_matrix(b, type), matrix(plan->v, b.keys, type), matrix(plan->y, b.queries))});
    if (plan->complete()) break;
  }
  if (!plan->complete()) return refuse("oneDNN has no fast product of this form");

  Pieces pieces;
  const std::size_t scores_at = pieces.add(plan->score_bytes(DType::f32));
  const std::size_t p_at = plan->computed == DType::f32 ? scores_at : pieces.add(plan->score_bytes(plan->computed));
  const std::size_t q_at = pieces.add(plan->q.copy_bytes()), k_at = pieces.add(plan->k.copy_bytes()),
                    v_at = pieces.add(plan->v.copy_bytes()), y_at = pieces.add(plan->y.copy_bytes()),
                    statistics_at = pieces.add(static_cast<std::size_t>(plan->most_queries()) * sizeof(float)),
                    scratch_at = pieces.add(plan->product_scratch());
  const int threads = std::max(1, omp_get_max_threads());
  const std::size_t bytes = pieces.size();

  const Operand q = context.read(0, Layout());
  const Operand k = context.has_input(1) ? context.read(1, Layout()) : q;
  const Operand v = context.has_input(2) ? context.read(2, Layout()) : k;
  const Operand mask = context.has_input(3) ? context.read(3, Layout(), DType::f32) : Operand();
  const Operand y = context.write(0, Layout());
  const Operand statistics = context.has_output(1) ? context.write(1, Layout()) : Operand();
  const BufferId scratch = context.scratch(bytes * static_cast<std::size_t>(threads));
  const simd::ScoreSoftmaxFn softmax = simd::find_score_softmax(plan->computed);

  return {plan->products[0].kernel(), conversion_remark(stored, plan->computed), [=](const Memory& memory) -> Run {
            auto* own = static_cast<char*>(memory.at(scratch));
            auto runs = std::make_shared<std::vector<ThreadRun>>();
            for (int t = 0; t < threads; ++t)
              runs->emplace_back(plan->products, own + static_cast<std::size_t>(t) * bytes + scratch_at);
            const void *qs = memory.at(q), *ks = memory.at(k), *vs = memory.at(v);
            const float* masks = memory.as<const float>(mask);
            void* ys = memory.at(y);
            float* logs = memory.as<float>(statistics);
            return [=] {
              const Forward& f = *plan;
              for_heads(f.c.blocks(), threads, [&](int thread, std::int64_t index) {
                const std::int64_t g = index % f.c.group, h = index / f.c.group % f.c.heads,
                                   b = index / f.c.group / f.c.heads;
                char* mine = own + static_cast<std::size_t>(thread) * bytes;
                ThreadRun& run = (*runs)[thread];
                const char* qh = f.q.read(qs, mine + q_at, b, h, g);
                const char* kh = f.k.read(ks, mine + k_at, b, h, g);
                const char* vh = f.v.read(vs, mine + v_at, b, h, g);
                auto* scores = reinterpret_cast<float*>(mine + scores_at);
                for (std::size_t i = 0; i < f.blocks.size(); ++i) {
                  const Block& block = f.blocks[i];
                  const auto skipped = static_cast<std::size_t>(block.first * f.q.row());
                  run(f.steps[i][0], qh + bytes_of(f.computed, skipped), kh, scores);
                  float* to =
                      logs ? logs + index * f.c.queries + block.first : reinterpret_cast<float*>(mine + statistics_at);
                  softmax(score_rows(f.c, block, scores, masks, b, h, g), mine + p_at, to);
                  run(f.steps[i][1], mine + p_at, vh, f.y.open(ys, mine + y_at, b, h, g, block.first));
                  f.y.close(ys, mine + y_at, block.queries, b, h, g, block.first);
                }
              });
              for (const ThreadRun& run : *runs)
                if (run.failed()) throw_failure("a product that oneDNN computes", "an error", "report this");
            };
          }};
}

Made make_attention_grad(KernelContext& context) {
  const FusedAttentionConfig c(context.node().attributes);
  if (std::string reason = refusal(context, c, 1); !reason.empty()) return refuse(std::move(reason));
  const Shape y_shape(c.y_shape);
  if (!context.fits(0, y_shape) || !context.fits(ops::kGradStatistics, c.statistics()))
    return refuse("operands of different shapes");
  const DType stored = context.in(1).dtype;
  const bool has_k = context.has_input(2), has_v = context.has_input(3);
  if (has_v && !has_k) return refuse("values beside queries that hold the keys");
  const auto sets = gradient_rows(c, has_k, has_v);
  std::array<bool, 3> clears{};
  for (std::size_t i = 0; i < 3; ++i) {
    if (sets[i].empty()) continue;
    const ops::Tiling tiling = tiling_of(sets[i], context.in(1 + i).shape.count());
    if (!tiling.disjoint) return refuse("rows that overlap");
    clears[i] = !tiling.complete;
  }
  for (const RowView* view : {&c.k, &c.v})
    if (c.group > 1 && view->strides[2] != 0) return refuse("keys that a group does not share");
  if ((c.heads > 1 && (c.k.strides[1] == 0 || c.v.strides[1] == 0)) ||
      (c.batch > 1 && (c.k.strides[0] == 0 || c.v.strides[0] == 0)))
    return refuse("keys that heads share");
  const std::array<std::int64_t, 3> extents = {c.batch, c.heads, c.group};
  for (std::size_t i = 0; i < 3; ++i)
    if (extents[i] > 1 && (c.q.strides[i] == 0 || c.y.strides[i] == 0)) return refuse("queries that heads share");

  struct Backward : Plan {
    Source q, k, v, dy;
    Target dq, dk, dv;
    struct Step {
      std::size_t s, dp, dq;
      std::array<std::size_t, 2> dk, dv;  // the first writes, the second adds
    };
    std::vector<Step> steps;
  };
  auto plan = std::make_shared<Backward>();
  for (const DType type : product_types(stored)) {
    *plan = Backward{};
    plan->c = c, plan->stored = stored, plan->computed = type, plan->blocks = blocks_of(c);
    plan->q = Source(rows_of_q(c), stored, type);
    plan->k = Source(rows_of_k(c), stored, type);
    plan->v = Source(rows_of_v(c), stored, type);
    plan->dy = Source(rows_of_y(c), stored, type);
    plan->dq = Target(rows_of_q(c), stored, plan->most_queries());
    plan->dk = Target(rows_of_k(c), stored, c.keys);
    plan->dv = Target(rows_of_v(c), stored, c.keys);
    for (const Block& b : plan->blocks) {
      Backward& p = *plan;
      const ThreadMatrix scores = score_matrix(b, DType::f32), ds = score_matrix(b, type);
      const ThreadMatrix q = matrix(p.q, b.queries, type), k = matrix(p.k, b.keys, type), v = matrix(p.v, b.keys, type),
                         dy = matrix(p.dy, b.queries, type);
      Backward::Step step{};
      step.s = p.add(q, transposed(k), scores);
      step.dp = p.add(dy, transposed(v), scores);
      step.dq = p.add(ds, k, matrix(p.dq, b.queries));
      for (const bool adds : {false, true}) {
        step.dk[adds] = p.add(transposed(ds), q, matrix(p.dk, b.keys), adds);
        step.dv[adds] = p.add(transposed(ds), dy, matrix(p.dv, b.keys), adds);
      }
      p.steps.push_back(step);
    }
    if (plan->complete()) break;
  }
  if (!plan->complete()) return refuse("oneDNN has no fast product of this form");

  Pieces pieces;
  const bool same = plan->computed == DType::f32;
  const std::size_t s_at = pieces.add(plan->score_bytes(DType::f32)), dp_at = pieces.add(plan->score_bytes(DType::f32));
  const std::size_t p_at = same ? s_at : pieces.add(plan->score_bytes(plan->computed));
  const std::size_t ds_at = same ? dp_at : pieces.add(plan->score_bytes(plan->computed));
  const std::size_t q_at = pieces.add(plan->q.copy_bytes()), k_at = pieces.add(plan->k.copy_bytes()),
                    v_at = pieces.add(plan->v.copy_bytes()), dy_at = pieces.add(plan->dy.copy_bytes()),
                    dq_at = pieces.add(plan->dq.copy_bytes()), dk_at = pieces.add(plan->dk.copy_bytes()),
                    dv_at = pieces.add(plan->dv.copy_bytes()), scratch_at = pieces.add(plan->product_scratch());
  const int threads = std::max(1, omp_get_max_threads());
  const std::size_t bytes = pieces.size();

  const Operand dy = context.read(0, Layout()), q = context.read(1, Layout());
  const Operand k = has_k ? context.read(2, Layout()) : q, v = has_v ? context.read(3, Layout()) : k;
  const Operand mask = context.has_input(4) ? context.read(4, Layout(), DType::f32) : Operand();
  const Operand statistics = context.read(ops::kGradStatistics, Layout());
  // Of several gradients that one pass makes some may be read by nobody.
  const auto result = [&](std::size_t i) {
    if (context.has_output(i)) return context.write(i, Layout());
    Operand unread{kNoBuffer, stored, context.in(1 + i).shape, Layout()};
    unread.buffer = context.scratch(unread.bytes());
    return unread;
  };
  const Operand dq = result(0), dk = has_k ? result(1) : dq, dv = has_v ? result(2) : dk;
  const BufferId scratch = context.scratch(bytes * static_cast<std::size_t>(threads));
  const simd::ScoreGradFn gradient = simd::find_score_grad(plan->computed);

  return {plan->products[0].kernel(), conversion_remark(stored, plan->computed), [=](const Memory& memory) -> Run {
            auto* own = static_cast<char*>(memory.at(scratch));
            auto runs = std::make_shared<std::vector<ThreadRun>>();
            for (int t = 0; t < threads; ++t)
              runs->emplace_back(plan->products, own + static_cast<std::size_t>(t) * bytes + scratch_at);
            const void *qs = memory.at(q), *ks = memory.at(k), *vs = memory.at(v), *dys = memory.at(dy);
            const float *masks = memory.as<const float>(mask), *logs = memory.as<const float>(statistics);
            void *dqs = memory.at(dq), *dks = memory.at(dk), *dvs = memory.at(dv);
            const std::array<std::pair<void*, std::size_t>, 3> cleared{
                std::pair(clears[0] ? dqs : nullptr, dq.bytes()), std::pair(clears[1] ? dks : nullptr, dk.bytes()),
                std::pair(clears[2] ? dvs : nullptr, dv.bytes())};
            return [=] {
              const Backward& f = *plan;
              for (const auto& [tensor, size] : cleared)
                if (tensor) std::memset(tensor, 0, size);
              for_heads(f.c.batch * f.c.heads, threads, [&](int thread, std::int64_t index) {
                const std::int64_t h = index % f.c.heads, b = index / f.c.heads;
                char* mine = own + static_cast<std::size_t>(thread) * bytes;
                ThreadRun& run = (*runs)[thread];
                const char* kh = f.k.read(ks, mine + k_at, b, h, 0);
                const char* vh = f.v.read(vs, mine + v_at, b, h, 0);
                auto* scores = reinterpret_cast<float*>(mine + s_at);
                auto* dp = reinterpret_cast<float*>(mine + dp_at);
                void* dkh = f.dk.open(dks, mine + dk_at, b, h, 0);
                void* dvh = f.dv.open(dvs, mine + dv_at, b, h, 0);
                bool adds = false;
                for (std::int64_t g = 0; g < f.c.group; ++g) {
                  const char* qh = f.q.read(qs, mine + q_at, b, h, g);
                  const char* dyh = f.dy.read(dys, mine + dy_at, b, h, g);
                  for (std::size_t i = f.blocks.size(); i-- > 0; adds = true) {
                    const Block& block = f.blocks[i];
                    const Backward::Step& step = f.steps[i];
                    const char* q_rows = qh + bytes_of(f.computed, static_cast<std::size_t>(block.first * f.q.row()));
                    const char* dy_rows =
                        dyh + bytes_of(f.computed, static_cast<std::size_t>(block.first * f.dy.row()));
                    run(step.s, q_rows, kh, scores);
                    run(step.dp, dy_rows, vh, dp);
                    gradient(score_rows(f.c, block, scores, masks, b, h, g), dp,
                             logs + (index * f.c.group + g) * f.c.queries + block.first, mine + p_at, mine + ds_at);
                    run(step.dq, mine + ds_at, kh, f.dq.open(dqs, mine + dq_at, b, h, g, block.first));
                    f.dq.close(dqs, mine + dq_at, block.queries, b, h, g, block.first);
                    run(step.dk[adds], mine + ds_at, q_rows, dkh);
                    run(step.dv[adds], mine + p_at, dy_rows, dvh);
                  }
                }
                f.dk.close(dks, mine + dk_at, f.c.keys, b, h, 0);
                f.dv.close(dvs, mine + dv_at, f.c.keys, b, h, 0);
              });
              for (const ThreadRun& run : *runs)
                if (run.failed()) throw_failure("a product that oneDNN computes", "an error", "report this");
            };
          }};
}

}  // namespace halfstep::onednn
