// FusedAttention and its gradient: each thread takes heads, and of a head blocks of queries whose scores stay in its
// cache. Each product is computed by one thread, so that results do not depend on how many there are.
#include "executors/onednn/kernels/attention.h"

#include <array>
#include <memory>

#include "executors/onednn/kernels/attention_plan.h"
#include "executors/onednn/kernels/kernels.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {

using namespace attention;

Made make_fused_attention(KernelContext& context) {
  const FusedAttentionConfig c(context.node().attributes);
  if (std::string reason = refusal(context, c, 0); !reason.empty()) return refuse(std::move(reason));
  const DType stored = context.in(0).dtype;

  struct Forward : Plan {
    Target y;
    std::vector<std::array<std::size_t, 2>> steps;  // products of a block
  };
  std::shared_ptr<Forward> plan;
  for (const DType type : product_types(stored)) {
    plan = std::make_shared<Forward>(Forward{{c, stored, type}, {}, {}});
    plan->y = Target(rows_of_y(c), stored, plan->most_queries());
    for (const Block& b : plan->blocks)
      plan->steps.push_back(
          {plan->add(matrix(plan->q, b.queries, type), matrix(plan->k, b.keys, type).transposed(),
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
                const auto [b, h, g] = f.head(index);
                const auto next = f.head(std::min(index + 1, f.c.blocks() - 1));
                char* mine = own + static_cast<std::size_t>(thread) * bytes;
                ThreadRun& run = (*runs)[thread];
                const char* qh = f.q.read(qs, mine + q_at, b, h, g);
                const char* kh = f.k.read(ks, mine + k_at, b, h, g);
                const char* vh = f.v.read(vs, mine + v_at, b, h, g);
                auto* scores = reinterpret_cast<float*>(mine + scores_at);
                for (std::size_t i = 0; i < f.blocks.size(); ++i) {
                  const Block& block = f.blocks[i];
                  const auto skipped = static_cast<std::size_t>(block.first * f.q.row());
                  f.q.fetch(qs, next.b, next.h, next.g, i, f.blocks.size());
                  f.k.fetch(ks, next.b, next.h, next.g, i, f.blocks.size());
                  run(f.steps[i][0], qh + bytes_of(f.computed, skipped), kh, scores);
                  float* to =
                      logs ? logs + index * f.c.queries + block.first : reinterpret_cast<float*>(mine + statistics_at);
                  f.v.fetch(vs, next.b, next.h, next.g, i, f.blocks.size());
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

}  // namespace halfstep::onednn
