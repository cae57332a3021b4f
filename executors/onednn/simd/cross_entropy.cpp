// Softmax cross entropy: each row's log-probabilities and loss in one go, and the gradient.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/cross_entropy.cpp"
#include "executors/onednn/simd/cross_entropy.h"

#include <limits>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

/// In every lane.
template <class T>
HWY_INLINE V maximum(const T* x, std::int64_t n) {
  const V lowest = constant(-kInfinity);
  const std::int64_t step = lanes();
  V top[4] = {lowest, lowest, lowest, lowest};
  std::int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step)
    for (int k = 0; k < 4; ++k) top[k] = hn::Max(top[k], load(x + i + k * step));
  for_vectors(n - i, [&](std::int64_t j, auto count) { top[0] = hn::Max(top[0], read(x + i + j, count, -kInfinity)); });
  return hn::MaxOfLanes(F32(), hn::Max(hn::Max(top[0], top[1]), hn::Max(top[2], top[3])));
}

template <class T, class Label>
void rows(const CrossEntropyParams& params, const void* logits, const void* labels, const void* weights, void* log_prob,
          float* losses, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = params.classes;
  for (std::int64_t r = begin; r < end; ++r) {
    const T* from = static_cast<const T*>(logits) + r * n;
    const V top = maximum(from, n);
    const std::int64_t ahead = r + 1 < end ? n : 0;
    const V norm = log(sum_over(n, [&](std::int64_t i, auto count) {
      hwy::Prefetch(from + ahead + i);  // the next row, while memory would be idle
      return decaying_exp(hn::Sub(read(from + i, count), top));
    }));

    const std::int64_t label = static_cast<const Label*>(labels)[r];
    float* loss = losses + 2 * r;
    if (params.ignore_index == label) {
      loss[0] = loss[1] = 0;
    } else if (label < 0 || label >= n) {
      loss[0] = loss[1] = kNaN;
    } else {
      loss[1] = weights ? static_cast<float>(static_cast<const T*>(weights)[label]) : 1.0F;
      loss[0] = loss[1] * (hn::GetLane(norm) - (static_cast<float>(from[label]) - hn::GetLane(top)));
    }
    if (!log_prob) continue;
    T* to = static_cast<T*>(log_prob) + r * n;
    for_vectors(n, [&](std::int64_t i, auto count) {
      write(hn::Sub(hn::Sub(read(from + i, count), top), norm), to + i, count);
    });
  }
}

template <class T, class Label>
void gradient_rows(const CrossEntropyParams& params, const void* log_prob, const void* labels, const float* row_factors,
                   void* dlogits, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = params.classes;
  for (std::int64_t r = begin; r < end; ++r) {
    const T* from = static_cast<const T*>(log_prob) + r * n;
    T* to = static_cast<T*>(dlogits) + r * n;
    const std::int64_t label = static_cast<const Label*>(labels)[r];
    if (params.ignore_index == label) {
      for_vectors(n, [&](std::int64_t i, auto count) { write(constant(0), to + i, count); });
      continue;
    }
    const bool inside = label >= 0 && label < n;
    const float at_label = inside ? static_cast<float>(from[label]) : 0.0F;  // dlogits may be log_prob
    const V factor = constant(row_factors[r]);
    for_vectors(n,
                [&](std::int64_t i, auto count) { write(hn::Mul(exp(read(from + i, count)), factor), to + i, count); });
    const V hit = hn::Mul(hn::Sub(exp(constant(at_label)), constant(1)), factor);
    if (inside) to[label] = T(hn::GetLane(hit));
  }
}

template <class T>
CrossEntropyKernel::Fn find_label(DType label) {
  if (label == DType::i64) return &rows<T, std::int64_t>;
  return label == DType::i32 ? &rows<T, std::int32_t> : nullptr;
}
template <class T>
CrossEntropyGradKernel::Fn find_gradient_label(DType label) {
  if (label == DType::i64) return &gradient_rows<T, std::int64_t>;
  return label == DType::i32 ? &gradient_rows<T, std::int32_t> : nullptr;
}

CrossEntropyKernel::Fn find(DType dtype, DType label) {
  return by_type(dtype, [label]<class T>() { return find_label<T>(label); });
}
CrossEntropyGradKernel::Fn find_gradient(DType dtype, DType label) {
  return by_type(dtype, [label]<class T>() { return find_gradient_label<T>(label); });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
HWY_EXPORT(find_gradient);

namespace {

std::int64_t get_label(DType dtype, const void* labels, std::int64_t i) {
  return dtype == DType::i64 ? static_cast<const std::int64_t*>(labels)[i]
                             : static_cast<const std::int32_t*>(labels)[i];
}

float get(DType dtype, const void* values, std::int64_t i) {
  switch (dtype) {
    case DType::f16:
      return static_cast<float>(static_cast<const f16*>(values)[i]);
    case DType::bf16:
      return static_cast<float>(static_cast<const bf16*>(values)[i]);
    default:
      return static_cast<const float*>(values)[i];
  }
}

void put(DType dtype, void* values, std::int64_t i, float value) {
  switch (dtype) {
    case DType::f16:
      static_cast<f16*>(values)[i] = f16(value);
      break;
    case DType::bf16:
      static_cast<bf16*>(values)[i] = bf16(value);
      break;
    default:
      static_cast<float*>(values)[i] = value;
  }
}

/// Calls body(begin, end) for shares of about 4096 logits.
template <class Body>
void for_row_blocks(const CrossEntropyParams& params, DType dtype, const Body& body) {
  const std::int64_t group = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, params.classes));
  const auto bytes = 8 * params.rows * params.classes * static_cast<std::int64_t>(bytes_of(dtype, 1));
  parallel_for(blocks_of(params.rows, group), bytes,
               [&](std::int64_t i) { body(i * group, std::min(params.rows, (i + 1) * group)); });
}

}  // namespace

void CrossEntropyKernel::operator()(const void* logits, const void* labels, const void* weights, void* loss,
                                    void* log_prob, void* scratch) const {
  float* losses = static_cast<float*>(scratch);
  for_row_blocks(params, dtype, [&](std::int64_t begin, std::int64_t end) {
    fn(params, logits, labels, weights, log_prob, losses, begin, end);
  });
  if (params.reduction == LossReduction::none) {
    for (std::int64_t r = 0; r < params.rows; ++r) put(dtype, loss, r, losses[2 * r]);
    return;
  }
  double total = 0, weight = 0;
  for (std::int64_t r = 0; r < params.rows; ++r) {
    total += losses[2 * r];
    weight += losses[2 * r + 1];
  }
  if (params.reduction == LossReduction::mean) total = weight == 0 ? 0 : total / weight;
  put(dtype, loss, 0, static_cast<float>(total));
}

void CrossEntropyGradKernel::operator()(const void* dloss, const void* log_prob, const void* labels,
                                        const void* weights, void* dlogits, void* scratch) const {
  float* factors = static_cast<float*>(scratch);
  double total = 0;
  for (std::int64_t r = 0; r < params.rows; ++r) {
    const std::int64_t label = get_label(label_type, labels, r);
    if (params.ignore_index == label)
      factors[r] = 0;
    else if (label < 0 || label >= params.classes)
      factors[r] = std::numeric_limits<float>::quiet_NaN();
    else
      factors[r] = weights ? get(dtype, weights, label) : 1.0F;
    total += factors[r];
  }
  const bool scalar = params.reduction != LossReduction::none;
  const double scale = params.reduction == LossReduction::mean && total != 0 ? 1 / total : 1;
  for (std::int64_t r = 0; r < params.rows; ++r)
    factors[r] = static_cast<float>(get(dloss_type, dloss, scalar ? 0 : r) * scale * factors[r]);
  for_row_blocks(params, dtype, [&](std::int64_t begin, std::int64_t end) {
    fn(params, log_prob, labels, factors, dlogits, begin, end);
  });
}

CrossEntropyKernel find_cross_entropy(const CrossEntropyParams& params, DType dtype, DType label) {
  return {HWY_DYNAMIC_DISPATCH(find)(dtype, label), params, dtype};
}

CrossEntropyGradKernel find_cross_entropy_grad(const CrossEntropyParams& params, DType dtype, DType label,
                                               DType dloss) {
  if (dloss != DType::f32 && dloss != dtype) return {};
  return {HWY_DYNAMIC_DISPATCH(find_gradient)(dtype, label), params, dtype, label, dloss};
}

}  // namespace halfstep::simd
#endif
