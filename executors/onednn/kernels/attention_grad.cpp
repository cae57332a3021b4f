// The gradient of FusedAttention, which computes the probabilities again.
#include <array>
#include <cstring>
#include <memory>

#include "executors/onednn/kernels/attention.h"
#include "executors/onednn/kernels/attention_plan.h"
#include "executors/onednn/kernels/kernels.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {

using namespace attention;

Made make_attention_grad(KernelContext& context) {
  const FusedAttentionConfig c(context.node().attributes);
  if (std::string reason = refusal(context, c, 1); !reason.empty()) return refuse(std::move(reason));
  const Shape y_shape(c.y_shape);
  if (!context.fits(0, y_shape) || !context.fits(ops::kGradStatistics, c.statistics()))
    return refuse("operands of different shapes");
  const DType stored = context.in(1).dtype;
  const bool has_k = context.has_input(2), has_v = context.has_input(3);
  const auto count = [&](std::size_t i) { return context.has_input(i) ? context.in(i).shape.count() : -1; };
  const ops::GradientRows rows = ops::written_rows(c, {count(1), count(2), count(3)});
  if (!rows.refusal.empty()) return refuse(rows.refusal);
  const std::array<bool, 3> clears = rows.is_partial;

  struct Backward : Plan {
    Source dy;
    Target dq, dk, dv;
    struct Step {
      std::size_t s, dp, dq;
      std::array<std::size_t, 2> dk, dv;  // the first writes, the second adds
    };
    std::vector<Step> steps;
  };
  std::shared_ptr<Backward> plan;
  for (const DType type : product_types(stored)) {
    plan = std::make_shared<Backward>(Backward{{c, stored, type}, Source(rows_of_y(c), stored, type), {}, {}, {}, {}});
    plan->dq = Target(rows_of_q(c), stored, plan->most_queries());
    plan->dk = Target(rows_of_k(c), stored, c.keys);
    plan->dv = Target(rows_of_v(c), stored, c.keys);
    for (const Block& b : plan->blocks) {
      Backward& p = *plan;
      const ThreadMatrix scores = score_matrix(b, DType::f32), ds = score_matrix(b, type), by_key = ds.transposed();
      const ThreadMatrix q = matrix(p.q, b.queries, type), k = matrix(p.k, b.keys, type), v = matrix(p.v, b.keys, type),
                         dy = matrix(p.dy, b.queries, type);
      Backward::Step step{};
      step.s = p.add(q, k.transposed(), scores);
      step.dp = p.add(dy, v.transposed(), scores);
      step.dq = p.add(ds, k, matrix(p.dq, b.queries));
      for (const bool adds : {false, true}) {
        step.dk[adds] = p.add(by_key, q, matrix(p.dk, b.keys), adds);
        step.dv[adds] = p.add(by_key, dy, matrix(p.dv, b.keys), adds);
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
                  const auto next = f.head(std::min(index * f.c.group + g + 1, f.c.blocks() - 1));
                  const char* qh = f.q.read(qs, mine + q_at, b, h, g);
                  const char* dyh = f.dy.read(dys, mine + dy_at, b, h, g);
                  for (std::size_t i = f.blocks.size(); i-- > 0; adds = true) {
                    const Block& block = f.blocks[i];
                    const Backward::Step& step = f.steps[i];
                    const auto fetch = [&](const Source& source, const void* tensor) {
                      source.fetch(tensor, next.b, next.h, next.g, i, f.blocks.size());
                    };
                    const char* q_rows = qh + bytes_of(f.computed, static_cast<std::size_t>(block.first * f.q.row()));
                    const char* dy_rows =
                        dyh + bytes_of(f.computed, static_cast<std::size_t>(block.first * f.dy.row()));
                    fetch(f.q, qs);
                    run(step.s, q_rows, kh, scores);
                    fetch(f.k, ks);
                    run(step.dp, dy_rows, vh, dp);
                    fetch(f.v, vs);
                    gradient(score_rows(f.c, block, scores, masks, b, h, g), dp,
                             logs + (index * f.c.group + g) * f.c.queries + block.first, mine + p_at, mine + ds_at);
                    fetch(f.dy, dys);
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
