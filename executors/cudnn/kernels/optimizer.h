// The optimizers, the gradient norm and the loss scale of ai.halfstep. One launch updates many parameters: the tensors'
// addresses travel with the kernel's arguments.
#pragma once

#include "executors/cudnn/kernels/reduction.h"

namespace halfstep::cudnn {

/// Up to kMax tensors as one row of elements: tensor t holds elements [starts[t], starts[t + 1]).
struct TensorRow {
  static constexpr int kMax = 40;
  int count = 0;
  std::int64_t starts[kMax + 1] = {};

  HALFSTEP_HD std::int64_t elements() const { return starts[count]; }
  HALFSTEP_HD int tensor_of(std::int64_t i) const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (starts[middle] <= i)
        low = middle;
      else
        high = middle;
    }
    return low;
  }
};

/// What an optimizer reads of the device at every step, and one parameter's tensors; outputs may be their inputs.
struct StepScalars {
  const float* lr;
  const std::int64_t* step;  ///< this step's number, from 1
  const bool* apply;         ///< false: every output is its input
  const float* grad_factor;
};

/// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), by PyTorch's formulas.
struct AdamStep {
  struct Slot {
    const float *p, *g, *m, *v;
    float *p_next, *m_next, *v_next;
  };
  TensorRow row;
  Slot slots[TensorRow::kMax];
  StepScalars scalars;
  float beta1, beta2, epsilon, weight_decay;
  float log_beta1, log_beta2;  ///< so that 1 - beta^t = -expm1(t log beta) keeps its digits when beta is near 1
  bool decoupled;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    const int t = row.tensor_of(i);
    const Slot& s = slots[t];
    const std::int64_t k = i - row.starts[t];
    float p = s.p[k], m = s.m[k], v = s.v[k];
    if (*scalars.apply) {
      const float step = static_cast<float>(*scalars.step);
      const float lr = *scalars.lr;
      float g = s.g[k] * *scalars.grad_factor;
      if (decoupled)
        p *= 1.0f - lr * weight_decay;
      else if (weight_decay != 0)
        g += weight_decay * p;
      m = beta1 * m + (1.0f - beta1) * g;
      v = beta2 * v + (1.0f - beta2) * g * g;
      const float correction1 = -std::expm1(step * log_beta1);
      const float correction2 = std::sqrt(-std::expm1(step * log_beta2));
      p -= lr / correction1 * m / (std::sqrt(v) / correction2 + epsilon);
    }
    s.p_next[k] = p;
    s.m_next[k] = m;
    s.v_next[k] = v;
  }
};

/// SGD with momentum by PyTorch's formulas: the first step's buffer is the gradient itself.
struct SgdStep {
  struct Slot {
    const float *p, *g, *b;  ///< b and b_next are null without momentum
    float *p_next, *b_next;
  };
  TensorRow row;
  Slot slots[TensorRow::kMax];
  StepScalars scalars;
  float momentum, dampening, weight_decay;
  bool nesterov;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    const int t = row.tensor_of(i);
    const Slot& s = slots[t];
    const std::int64_t k = i - row.starts[t];
    float p = s.p[k];
    float b = s.b ? s.b[k] : 0.0f;
    if (*scalars.apply) {
      float g = s.g[k] * *scalars.grad_factor;
      if (weight_decay != 0) g += weight_decay * p;
      if (s.b) {
        b = *scalars.step == 1 ? g : momentum * b + (1.0f - dampening) * g;
        g = nesterov ? g + momentum * b : b;
      }
      p -= *scalars.lr * g;
    }
    s.p_next[k] = p;
    if (s.b_next) s.b_next[k] = b;
  }
};

struct SquareSum {
  double sum;
  bool finite;
};

/// Row r: the squares of chunk r, kChunk elements of one tensor. `row.starts` counts chunks, not elements.
struct SquareSums {
  using Accumulator = SquareSum;
  static constexpr bool kWrites = false;
  static constexpr std::int64_t kChunk = 16384;

  TensorRow row;
  const float* tensors[TensorRow::kMax];
  std::int64_t counts[TensorRow::kMax];
  SquareSum* partial;
  std::int64_t rows, length;  ///< length is kChunk

  HALFSTEP_HD Accumulator identity() const { return {0, true}; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t r, std::int64_t i) const {
    const int t = row.tensor_of(r);
    const std::int64_t k = (r - row.starts[t]) * kChunk + i;
    if (k >= counts[t]) return;
    const float v = tensors[t][k];
    acc.sum += static_cast<double>(v) * v;
    acc.finite = acc.finite && is_finite(v);
  }
  HALFSTEP_HD void combine(Accumulator& acc, const Accumulator& other) const {
    acc.sum += other.sum;
    acc.finite = acc.finite && other.finite;
  }
  HALFSTEP_HD void finish(std::int64_t r, const Accumulator& acc) const { partial[r] = acc; }
};

/// One row: the root of all partial sums, and whether every element was finite.
struct GlobalNorm {
  using Accumulator = SquareSum;
  static constexpr bool kWrites = false;

  const SquareSum* partial;
  float* norm;   ///< may be null
  bool* finite;  ///< may be null
  std::int64_t rows, length;

  HALFSTEP_HD Accumulator identity() const { return {0, true}; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t, std::int64_t i) const { combine(acc, partial[i]); }
  HALFSTEP_HD void combine(Accumulator& acc, const Accumulator& other) const {
    acc.sum += other.sum;
    acc.finite = acc.finite && other.finite;
  }
  HALFSTEP_HD void finish(std::int64_t, const Accumulator& acc) const {
    if (norm) *norm = static_cast<float>(std::sqrt(acc.sum));
    if (finite) *finite = acc.finite;
  }
};

/// GradScaler's rule: after `growth_interval` good steps the scale grows; a step that is not finite shrinks it.
struct LossScaleUpdate {
  const float* scale;
  const std::int64_t* good_steps;
  const bool* finite;
  float* scale_next;
  std::int64_t* good_steps_next;
  float growth_factor, backoff_factor, lowest, highest;
  std::int64_t growth_interval;

  HALFSTEP_HD void operator()(std::int64_t) const {
    float s = *scale;
    std::int64_t good = *finite ? *good_steps + 1 : 0;
    if (!*finite) {
      s *= backoff_factor;
    } else if (good >= growth_interval) {
      s *= growth_factor;
      good = 0;
    }
    *scale_next = s < lowest ? lowest : s > highest ? highest : s;
    *good_steps_next = good;
  }
};

}  // namespace halfstep::cudnn
