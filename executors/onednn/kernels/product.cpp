#include "executors/onednn/kernels/product.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executors/onednn/kernels/measured.h"

namespace halfstep::onednn {
namespace {

bool lines_collide(const Matrices& m) {
  constexpr std::int64_t kPage = 4096 / sizeof(float);
  return m.strides.end()[-2] % kPage == 0 || m.strides.back() % kPage == 0;
}

bool may_use(dnnl::cpu_isa isa) {
  const auto wanted = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

}  // namespace

bool has_avx512() {
  static const bool has = may_use(dnnl::cpu_isa::avx512_core);
  return has;
}

bool has_avx512_bf16() {
  static const bool has = may_use(dnnl::cpu_isa::avx512_core_bf16);
  return has;
}

bool has_amx() {
  static const bool has = may_use(dnnl::cpu_isa::avx512_core_amx);
  return has;
}

void Matrices::transpose() {
  std::swap(dims.end()[-1], dims.end()[-2]);
  std::swap(strides.end()[-1], strides.end()[-2]);
}

Matrices row_major_matrices(Dims dims) {
  Dims strides = core::row_major_strides(dims);
  return {std::move(dims), std::move(strides)};
}

bool prefers_simd_product(const Matrices& a, const Matrices& b, DType type) {
  if (has_avx512() || a.columns() == 0) return false;
  if (is_half(type)) return true;
  if (type != DType::f32) return false;
  const std::int64_t m = a.rows(), n = b.columns(), k = a.columns();
  // Multiplications of whole tiles, at which both take the same time; products with a vector are none of ours.
  constexpr std::int64_t kSmall = 1 << 15, kTile = 16, kFew = 16;
  if (m > 1 && n > 1 && m * ((n + kTile - 1) / kTile * kTile) * k <= kSmall) return true;
  return std::min({m, n, k}) >= kFew && (lines_collide(a) || lines_collide(b));
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

Candidate simd_candidate(const simd::GemmProblem& problem, int threads) {
  return {"simd", [problem, threads] {
            std::int64_t a = 0, b = 0, y = 0;  // elements
            for (const auto& at : problem.stack) {
              a = std::max(a, at.a + (problem.m - 1) * problem.a.row + (problem.k - 1) * problem.a.column + 1);
              b = std::max(b, at.b + (problem.k - 1) * problem.b.row + (problem.n - 1) * problem.b.column + 1);
              y = std::max(y, at.y + (problem.m - 1) * problem.y_row + problem.n);
            }
            const auto memory = [](std::int64_t elements, DType dtype) {
              return filled_memory(row_major(Dims{std::max<std::int64_t>(elements, 1)}, dtype));
            };
            const auto gemm = std::make_shared<const simd::Gemm>(problem, threads);
            return [gemm, left = memory(a, problem.a.dtype), right = memory(b, problem.b.dtype),
                    plus = memory(problem.m * problem.n, DType::f32), to = memory(y, problem.result),
                    scratch = memory(static_cast<std::int64_t>(gemm->scratch_bytes() / sizeof(float)), DType::f32),
                    adds = problem.has_addend] {
              (*gemm)(left.get_data_handle(), right.get_data_handle(),
                      adds ? static_cast<const float*>(plus.get_data_handle()) : nullptr, to.get_data_handle(),
                      scratch.get_data_handle());
            };
          }};
}

std::string product_key(const Matrices& a, const Matrices& b, const Matrices& y, DType type, DType result) {
  return fmt::format("product {} {} {} {} {} {} to {}", name_of(type), a.dims, a.strides, b.dims, b.strides, y.strides,
                     name_of(result));
}

}  // namespace halfstep::onednn
