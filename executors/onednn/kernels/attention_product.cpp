#include "executors/onednn/kernels/attention_product.h"

#include <utility>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/measured.h"
#include "executors/onednn/kernels/product.h"
#include "executors/onednn/threads.h"

namespace halfstep::onednn {
namespace {

Desc desc_of(const ThreadMatrix& m) { return Desc(Dims{m.rows, m.columns}, data_type(m.dtype), Dims{m.row, m.column}); }

Matrices matrices_of(const ThreadMatrix& m) { return {{m.rows, m.columns}, {m.row, m.column}}; }

std::shared_ptr<const simd::Gemm> make_gemm(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y,
                                            bool adds) {
  simd::GemmProblem problem = gemm_problem(matrices_of(a), matrices_of(b), matrices_of(y), a.dtype, y.dtype);
  problem.addend_row = y.row;
  problem.addend_column = 1;
  problem.has_addend = adds;
  return std::make_shared<const simd::Gemm>(std::move(problem), 1);
}

/// What measures a product.
Candidate candidate_of(const ThreadProduct& product, const ThreadMatrix& a, const ThreadMatrix& b,
                       const ThreadMatrix& y) {
  return {product.kernel(), [=]() -> Run {
            const auto filled = [](const ThreadMatrix& m) {
              return filled_memory(row_major(Dims{(m.rows - 1) * m.row + (m.columns - 1) * m.column + 1}, m.dtype));
            };
            const auto floats = static_cast<std::int64_t>(product.scratch_bytes() / sizeof(float)) + 1;
            const dnnl::memory scratch = filled_memory(row_major(Dims{floats}, DType::f32));
            auto run = std::make_shared<ThreadRun>(std::vector{product}, scratch.get_data_handle());
            return [run, own = scratch, left = filled(a), right = filled(b), to = filled(y)] {
              (*run)(0, left.get_data_handle(), right.get_data_handle(), to.get_data_handle());
            };
          }};
}

}  // namespace

ThreadProduct ThreadProduct::make(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds) {
  const bool fits = !adds || y.dtype == DType::f32;  // the SIMD product adds to nothing else
  const bool is_preferred = fits && prefers_simd_product(matrices_of(a), matrices_of(b), a.dtype);
  if (!tuner()) return is_preferred ? simd(a, b, y, adds) : primitive(a, b, y, adds);
  const ThreadProduct of_onednn = primitive(a, b, y, adds);
  if (!fits) return of_onednn;
  if (!of_onednn) return is_preferred ? simd(a, b, y, adds) : of_onednn;
  const ThreadScope one(1);
  const ThreadProduct own = simd(a, b, y, adds);
  const std::string key =
      fmt::format("{}, a thread's{}", product_key(matrices_of(a), matrices_of(b), matrices_of(y), a.dtype, y.dtype),
                  adds ? ", added" : "");
  const bool takes_own =
      tuner()->takes_second(key, candidate_of(of_onednn, a, b, y), candidate_of(own, a, b, y), is_preferred);
  return takes_own ? own : of_onednn;
}

ThreadProduct ThreadProduct::simd(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds) {
  ThreadProduct product;
  product.gemm_ = make_gemm(a, b, y, adds);
  product.kernel_ = "simd";
  product.adds_ = adds;
  return product;
}

ThreadProduct ThreadProduct::primitive(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds) {
  const ThreadScope one(1);
  dnnl::primitive_attr attr = user_scratchpad();
  dnnl::post_ops post;
  if (adds) post.append_sum(1.0F);
  attr.set_post_ops(post);
  ThreadProduct product;
  product.a_ = desc_of(a);
  product.b_ = desc_of(b);
  product.y_ = desc_of(y);
  const dnnl::matmul::primitive_desc pd(engine(), product.a_, product.b_, Desc(), product.y_, attr, true);
  if (!pd.get(true) || is_slow(pd)) return {};
  product.primitive_ = dnnl::matmul(pd);
  product.scratch_ = pd.scratchpad_desc();
  product.kernel_ = kernel_name(pd);
  return product;
}

ThreadRun::ThreadRun(const std::vector<ThreadProduct>& products, void* scratch) : scratch_(scratch), stream_(engine()) {
  slots_.reserve(products.size());
  for (const ThreadProduct& p : products) {
    Slot& slot = slots_.emplace_back();
    slot.gemm = p.gemm_;
    slot.adds = p.adds_;
    if (slot.gemm) continue;
    slot.primitive = p.primitive_;
    slot.a = dnnl::memory(p.a_, engine(), nullptr);
    slot.b = dnnl::memory(p.b_, engine(), nullptr);
    slot.y = dnnl::memory(p.y_, engine(), nullptr);
    slot.scratch = dnnl::memory(p.scratch_, engine(), scratch);
    slot.arguments[0] = {DNNL_ARG_SRC, slot.a.get()};
    slot.arguments[1] = {DNNL_ARG_WEIGHTS, slot.b.get()};
    slot.arguments[2] = {DNNL_ARG_DST, slot.y.get()};
    slot.arguments[3] = {DNNL_ARG_SCRATCHPAD, slot.scratch.get()};
  }
}

void ThreadRun::operator()(std::size_t product, const void* a, const void* b, void* y) {
  Slot& slot = slots_[product];
  if (slot.gemm) return (*slot.gemm)(a, b, slot.adds ? static_cast<const float*>(y) : nullptr, y, scratch_);
  const bool ok = dnnl_memory_set_data_handle(slot.a.get(), const_cast<void*>(a)) == dnnl_success &&
                  dnnl_memory_set_data_handle(slot.b.get(), const_cast<void*>(b)) == dnnl_success &&
                  dnnl_memory_set_data_handle(slot.y.get(), y) == dnnl_success &&
                  dnnl_primitive_execute(slot.primitive.get(), stream_.get(), 4, slot.arguments) == dnnl_success;
  failed_ = failed_ || !ok;
}

}  // namespace halfstep::onednn
