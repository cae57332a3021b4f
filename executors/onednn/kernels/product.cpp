#include "executors/onednn/kernels/product.h"

#include <algorithm>
#include <utility>

namespace halfstep::onednn {
namespace {

bool lines_collide(const Matrices& m) {
  constexpr std::int64_t kPage = 4096 / sizeof(float);
  return m.strides.end()[-2] % kPage == 0 || m.strides.back() % kPage == 0;
}

}  // namespace

bool has_avx512() {
  constexpr auto kWanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  static const bool has = (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kWanted) == kWanted;
  return has;
}

void Matrices::transpose() {
  std::swap(dims.end()[-1], dims.end()[-2]);
  std::swap(strides.end()[-1], strides.end()[-2]);
}

Matrices row_major_matrices(Dims dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return {std::move(dims), std::move(strides)};
}

bool prefers_simd_product(const Matrices& a, const Matrices& b, DType type) {
  if (has_avx512() || a.columns() == 0) return false;
  if (is_half(type)) return true;
  constexpr std::int64_t kFew = 16;
  return type == DType::f32 && std::min({a.rows(), a.columns(), b.columns()}) >= kFew &&
         (lines_collide(a) || lines_collide(b));
}

simd::GemmProblem gemm_problem(const Matrices& a, const Matrices& b, const Matrices& y, DType type, DType result) {
  simd::GemmProblem problem{.m = a.rows(),
                            .n = b.columns(),
                            .k = a.columns(),
                            .a = {type, a.strides.end()[-2], a.strides.back()},
                            .b = {type, b.strides.end()[-2], b.strides.back()}};
  problem.result = result;
  problem.y_row = y.strides.end()[-2];
  for (std::size_t axis = 0; axis + 2 < y.dims.size(); ++axis) {
    const auto step = [axis](const Matrices& m) { return m.dims[axis] == 1 ? 0 : m.strides[axis]; };
    std::vector<simd::GemmProblem::Offsets> longer;
    longer.reserve(problem.stack.size() * static_cast<std::size_t>(y.dims[axis]));
    for (const auto& at : problem.stack)
      for (std::int64_t i = 0; i < y.dims[axis]; ++i)
        longer.push_back({at.a + i * step(a), at.b + i * step(b), at.y + i * step(y)});
    problem.stack = std::move(longer);
  }
  return problem;
}

}  // namespace halfstep::onednn
