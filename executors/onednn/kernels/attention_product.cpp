#include "executors/onednn/kernels/attention_product.h"

#include <utility>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/product.h"
#include "executors/onednn/threads.h"

namespace halfstep::onednn {
namespace {

Desc desc_of(const ThreadMatrix& m) { return Desc(Dims{m.rows, m.columns}, data_type(m.dtype), Dims{m.row, m.column}); }

ThreadMatrix transposed(const ThreadMatrix& m) { return {m.columns, m.rows, m.column, m.row, m.dtype}; }

Matrices matrices_of(const ThreadMatrix& m) { return {{m.rows, m.columns}, {m.row, m.column}}; }

std::shared_ptr<const simd::Gemm> make_gemm(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y,
                                            bool adds) {
  simd::GemmProblem problem = gemm_problem(matrices_of(a), matrices_of(b), matrices_of(y), a.dtype, y.dtype);
  problem.addend_row = y.row;
  problem.addend_column = 1;
  problem.has_addend = adds;
  return std::make_shared<const simd::Gemm>(std::move(problem), 1);
}

}  // namespace

ThreadProduct ThreadProduct::make(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds) {
  const bool swapped = y.column != 1;
  // The SIMD product writes contiguous rows, and adds to f32 alone.
  const bool fits = (!adds || y.dtype == DType::f32) && (swapped ? y.row : y.column) == 1;
  if (fits && prefers_simd_product(matrices_of(a), matrices_of(b), a.dtype)) {
    ThreadProduct product;
    product.gemm_ = swapped ? make_gemm(transposed(b), transposed(a), transposed(y), adds) : make_gemm(a, b, y, adds);
    product.kernel_ = "simd";
    product.adds_ = adds;
    product.swapped_ = swapped;
    return product;
  }
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
    slot.swapped = p.swapped_;
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
  if (slot.gemm) {
    if (slot.swapped) std::swap(a, b);
    return (*slot.gemm)(a, b, slot.adds ? static_cast<const float*>(y) : nullptr, y, scratch_);
  }
  const bool ok = dnnl_memory_set_data_handle(slot.a.get(), const_cast<void*>(a)) == dnnl_success &&
                  dnnl_memory_set_data_handle(slot.b.get(), const_cast<void*>(b)) == dnnl_success &&
                  dnnl_memory_set_data_handle(slot.y.get(), y) == dnnl_success &&
                  dnnl_primitive_execute(slot.primitive.get(), stream_.get(), 4, slot.arguments) == dnnl_success;
  failed_ = failed_ || !ok;
}

}  // namespace halfstep::onednn
