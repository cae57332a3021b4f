// Adam, SGD and the gradients' norm, over blocks of all tensors laid end to end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/optimizer.cpp"
#include "executors/onednn/simd/optimizer.h"

#include <cmath>
#include <limits>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

#ifndef HALFSTEP_SIMD_OPTIMIZER_ONCE
#define HALFSTEP_SIMD_OPTIMIZER_ONCE
namespace halfstep::simd {
namespace {

/// The scalars of one step, worked out in double.
struct AdamFactors {
  float grad, coupled_decay, keep, blend1, beta2, blend2, rate, inverse_root, epsilon;
};
struct SgdFactors {
  float grad, decay, momentum, dampening, rate;
  bool first, nesterov;
};

}  // namespace
}  // namespace halfstep::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

/// What would linger below the normal numbers becomes zero: a moment whose gradients have stopped decays to a subnormal
/// that rounding then keeps for good, and arithmetic on those takes a hundred times as long. NaN stays.
V without_subnormals(V x) {
  return hn::IfThenZeroElse(hn::Lt(hn::Abs(x), constant(std::numeric_limits<float>::min())), x);
}

void adam(const AdamTensor& t, std::int64_t begin, std::int64_t n, const AdamFactors& f) {
  for_vectors(n, [&](std::int64_t offset, auto count) {
    const std::int64_t i = begin + offset;
    const V p = read(t.p + i, count);
    const V m0 = read(t.m + i, count);
    const V v0 = read(t.v + i, count);
    V g = hn::Mul(read(t.g + i, count), constant(f.grad));
    if (f.coupled_decay != 0) g = hn::MulAdd(p, constant(f.coupled_decay), g);
    const V m = without_subnormals(hn::MulAdd(hn::Sub(g, m0), constant(f.blend1), m0));
    const V v = without_subnormals(hn::MulAdd(v0, constant(f.beta2), hn::Mul(hn::Mul(g, g), constant(f.blend2))));
    const V denominator = hn::MulAdd(hn::Sqrt(v), constant(f.inverse_root), constant(f.epsilon));
    const V next = hn::NegMulAdd(constant(f.rate), hn::Div(m, denominator), hn::Mul(p, constant(f.keep)));
    write(next, t.p_out + i, count);
    write(m, t.m_out + i, count);
    write(v, t.v_out + i, count);
  });
}

void sgd(const SgdTensor& t, std::int64_t begin, std::int64_t n, const SgdFactors& f) {
  for_vectors(n, [&](std::int64_t offset, auto count) {
    const std::int64_t i = begin + offset;
    const V p = read(t.p + i, count);
    V g = hn::Mul(read(t.g + i, count), constant(f.grad));
    if (f.decay != 0) g = hn::MulAdd(p, constant(f.decay), g);
    if (t.b_out) {
      V b = g;
      if (!f.first) b = hn::MulAdd(read(t.b + i, count), constant(f.momentum), hn::Mul(g, constant(f.dampening)));
      b = without_subnormals(b);
      write(b, t.b_out + i, count);
      g = f.nesterov ? hn::MulAdd(b, constant(f.momentum), g) : b;
    }
    const V next = hn::NegMulAdd(constant(f.rate), g, p);
    write(next, t.p_out + i, count);
  });
}

/// out = in, bit for bit.
void copy(const float* in, float* out, std::int64_t begin, std::int64_t n) {
  if (in == out) return;
  for_vectors(n, [&](std::int64_t offset, auto count) {
    const std::int64_t i = begin + offset;
    write(read(in + i, count), out + i, count);
  });
}

/// Squares are exact in double and cannot overflow there: only the summing rounds, and the sum is finite exactly when
/// every element is.
double square_sum(const float* x, std::int64_t n) {
  constexpr int kLanes = 16;
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) sums[k] += static_cast<double>(x[i + k]) * static_cast<double>(x[i + k]);
  for (int k = 0; i < n; ++i, ++k) sums[k] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  return sums[0];
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

namespace halfstep::simd {
HWY_EXPORT(adam);
HWY_EXPORT(sgd);
HWY_EXPORT(copy);
HWY_EXPORT(square_sum);

TensorList::TensorList(std::span<const std::int64_t> sizes) {
  begins_.reserve(sizes.size() + 1);
  begins_.push_back(0);
  for (const std::int64_t size : sizes) begins_.push_back(begins_.back() + size);
}

std::size_t TensorList::first_tensor(std::int64_t position) const {
  return static_cast<std::size_t>(std::upper_bound(begins_.begin(), begins_.end(), position) - begins_.begin() - 1);
}

void adam_step(const TensorList& list, std::span<const AdamTensor> tensors, const OptimizerScalars& scalars,
               const AdamParams& params) {
  const double lr = *scalars.lr, step = static_cast<double>(*scalars.step);
  const double correction1 = 1 - std::pow(params.beta1, step), correction2 = 1 - std::pow(params.beta2, step);
  const AdamFactors factors = {
      .grad = *scalars.grad_factor,
      .coupled_decay = static_cast<float>(params.decoupled ? 0 : params.weight_decay),
      .keep = static_cast<float>(params.decoupled ? 1 - lr * params.weight_decay : 1),
      .blend1 = static_cast<float>(1 - params.beta1),
      .beta2 = static_cast<float>(params.beta2),
      .blend2 = static_cast<float>(1 - params.beta2),
      .rate = static_cast<float>(lr / correction1),
      .inverse_root = static_cast<float>(1 / std::sqrt(correction2)),
      .epsilon = static_cast<float>(params.epsilon),
  };
  const bool apply = *scalars.apply;
  const auto update = HWY_DYNAMIC_DISPATCH(adam);
  const auto keep = HWY_DYNAMIC_DISPATCH(copy);
  parallel_for(list.blocks(), list.elements() * 28, [&](std::int64_t block) {
    list.for_block(block, [&](std::size_t tensor, std::int64_t begin, std::int64_t n) {
      const AdamTensor& t = tensors[tensor];
      if (apply) return update(t, begin, n, factors);
      keep(t.p, t.p_out, begin, n);
      keep(t.m, t.m_out, begin, n);
      keep(t.v, t.v_out, begin, n);
    });
  });
}

void sgd_step(const TensorList& list, std::span<const SgdTensor> tensors, const OptimizerScalars& scalars,
              const SgdParams& params) {
  const SgdFactors factors = {
      .grad = *scalars.grad_factor,
      .decay = static_cast<float>(params.weight_decay),
      .momentum = static_cast<float>(params.momentum),
      .dampening = static_cast<float>(1 - params.dampening),
      .rate = *scalars.lr,
      .first = *scalars.step <= 1,
      .nesterov = params.nesterov,
  };
  const bool apply = *scalars.apply;
  const auto update = HWY_DYNAMIC_DISPATCH(sgd);
  const auto keep = HWY_DYNAMIC_DISPATCH(copy);
  parallel_for(list.blocks(), list.elements() * 20, [&](std::int64_t block) {
    list.for_block(block, [&](std::size_t tensor, std::int64_t begin, std::int64_t n) {
      const SgdTensor& t = tensors[tensor];
      if (apply) return update(t, begin, n, factors);
      keep(t.p, t.p_out, begin, n);
      if (t.b_out) keep(t.b, t.b_out, begin, n);
    });
  });
}

std::size_t global_norm_scratch_bytes(const TensorList& list) {
  return static_cast<std::size_t>(list.blocks()) * sizeof(double);
}

void global_norm(const TensorList& list, std::span<const float* const> tensors, float* norm, bool* finite,
                 void* scratch) {
  double* sums = static_cast<double*>(scratch);
  const auto sum_of = HWY_DYNAMIC_DISPATCH(square_sum);
  parallel_for(list.blocks(), list.elements() * 4, [&](std::int64_t block) {
    sums[block] = 0;
    list.for_block(block, [&](std::size_t tensor, std::int64_t begin, std::int64_t n) {
      sums[block] += sum_of(tensors[tensor] + begin, n);
    });
  });
  double total = 0;
  for (std::int64_t block = 0; block < list.blocks(); ++block) total += sums[block];
  *norm = static_cast<float>(std::sqrt(total));
  *finite = std::isfinite(total);
}

}  // namespace halfstep::simd
#endif
