#include "executors/onednn/kernels/attention_product.h"

#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/measured.h"
#include "executors/onednn/kernels/product.h"
#include "executors/onednn/simd/bf16_gemm.h"
#include "executors/onednn/threads.h"

namespace halfstep::onednn {
namespace {

Desc desc_of(const ThreadMatrix& m) { return Desc(Dims{m.rows, m.columns}, data_type(m.dtype), Dims{m.row, m.column}); }

Matrices matrices_of(const ThreadMatrix& m) { return {{m.rows, m.columns}, {m.row, m.column}}; }

/// bf16 where it is multiplied by the CPU's own instruction, which takes half the time of products of f32.
std::optional<simd::Bf16Problem> bf16_problem(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y,
                                              bool adds) {
  if (a.dtype != DType::bf16 || b.dtype != DType::bf16 || y.dtype != DType::f32 || !has_avx512_bf16())
    return std::nullopt;
  const simd::Bf16Problem problem{.m = a.rows,
                                  .n = b.columns,
                                  .k = a.columns,
                                  .a = {a.dtype, a.row, a.column},
                                  .b = {b.dtype, b.row, b.column},
                                  .y_row = y.row,
                                  .adds = adds};
  if (!simd::Bf16Gemm::is_possible(problem)) return std::nullopt;
  return problem;
}

/// oneDNN copies operands, and takes longer for a call, than pays for the products of a block of attention, unless it
/// has tiles of AMX.
bool prefers_own(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds) {
  if (a.dtype == DType::f32 && has_avx512()) return true;
  if (bf16_problem(a, b, y, adds)) return !has_amx();
  return prefers_simd_product(matrices_of(a), matrices_of(b), a.dtype);
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
  const bool is_preferred = fits && prefers_own(a, b, y, adds);
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
  product.kernel_ = "simd";
  if (const auto of_bf16 = bf16_problem(a, b, y, adds)) {
    const simd::Bf16Gemm gemm(*of_bf16);
    product.own_scratch_ = gemm.scratch_bytes();
    product.own_ = [gemm](const void* left, const void* right, void* to, void* scratch) {
      gemm(static_cast<const bf16*>(left), static_cast<const bf16*>(right), static_cast<float*>(to), scratch);
    };
    return product;
  }
  simd::GemmProblem problem = gemm_problem(matrices_of(a), matrices_of(b), matrices_of(y), a.dtype, y.dtype);
  problem.addend_row = y.row;
  problem.addend_column = 1;
  problem.has_addend = adds;
  const auto gemm = std::make_shared<const simd::Gemm>(std::move(problem), 1);
  product.own_scratch_ = gemm->scratch_bytes();
  product.own_ = [gemm, adds](const void* left, const void* right, void* to, void* scratch) {
    (*gemm)(left, right, adds ? static_cast<const float*>(to) : nullptr, to, scratch);
  };
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
    slot.own = p.own_;
    if (slot.own) continue;
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
  if (slot.own) return slot.own(a, b, y, scratch_);
  const bool ok = dnnl_memory_set_data_handle(slot.a.get(), const_cast<void*>(a)) == dnnl_success &&
                  dnnl_memory_set_data_handle(slot.b.get(), const_cast<void*>(b)) == dnnl_success &&
                  dnnl_memory_set_data_handle(slot.y.get(), y) == dnnl_success &&
                  dnnl_primitive_execute(slot.primitive.get(), stream_.get(), 4, slot.arguments) == dnnl_success;
  failed_ = failed_ || !ok;
}

}  // namespace halfstep::onednn
