// Kernels that compute every element of the result by itself: `operator()(i)` writes element i.
#pragma once

#include "executors/cudnn/kernels/index.h"

namespace halfstep::cudnn {

enum class UnaryOp { relu, neg, exp, log, sqrt, abs, sign, reciprocal, sigmoid, tanh, gelu, gelu_tanh };

/// y = op(x), T a float.
template <class T>
struct Unary {
  UnaryOp op;
  const T* x;
  T* y;

  HALFSTEP_HD static float apply(UnaryOp op, float v) {
    switch (op) {
      case UnaryOp::relu:
        return v < 0 ? 0.0f : v;  // NaN stays NaN
      case UnaryOp::neg:
        return -v;
      case UnaryOp::exp:
        return std::exp(v);
      case UnaryOp::log:
        return std::log(v);
      case UnaryOp::sqrt:
        return std::sqrt(v);
      case UnaryOp::abs:
        return std::fabs(v);
      case UnaryOp::sign:
        return v > 0 ? 1.0f : v < 0 ? -1.0f : v;  // zeros and NaN stay
      case UnaryOp::reciprocal:
        return 1.0f / v;
      case UnaryOp::sigmoid:
        return 1.0f / (1.0f + std::exp(-v));
      case UnaryOp::tanh:
        return std::tanh(v);
      case UnaryOp::gelu:
        return 0.5f * v * (1.0f + std::erf(v * 0.70710678f));
      case UnaryOp::gelu_tanh:
        return 0.5f * v * (1.0f + std::tanh(0.79788456f * (v + 0.044715f * v * v * v)));
    }
    return v;
  }
  HALFSTEP_HD void operator()(std::int64_t i) const { y[i] = round_to<T>(apply(op, load(x[i]))); }
};

enum class BinaryOp { add, sub, mul, div, min, max };

/// y = op(a, b) with ONNX broadcasting, T a float, i64, or bool (And is mul; an integer division by zero gives zero, as
/// no exception can be raised).
template <class T>
struct Binary {
  BinaryOp op;
  const T* a;
  const T* b;
  T* y;
  Index a_index, b_index;

  HALFSTEP_HD static Compute<T> apply(BinaryOp op, Compute<T> a, Compute<T> b) {
    switch (op) {
      case BinaryOp::add:
        return a + b;
      case BinaryOp::sub:
        return a - b;
      case BinaryOp::mul:
        if constexpr (std::is_same_v<T, bool>)
          return a && b;
        else
          return a * b;
      case BinaryOp::div:
        if constexpr (std::is_integral_v<T>) {
          if (b == 0) return 0;
        }
        return a / b;
      case BinaryOp::min:
        return a < b || a != a ? a : b;  // NaN wins
      case BinaryOp::max:
        return a > b || a != a ? a : b;
    }
    return a;
  }
  HALFSTEP_HD void operator()(std::int64_t i) const {
    y[i] = round_to<T>(apply(op, load(a[a_index(i)]), load(b[b_index(i)])));
  }
};

/// y[i] = x[index(i)] as To: Cast, Expand, Transpose, and the broadcast of Gemm's C.
template <class From, class To>
struct Copy {
  const From* x;
  To* y;
  Index index;

  HALFSTEP_HD void operator()(std::int64_t i) const { y[i] = round_to<To>(load(x[index(i)])); }
};

/// y = condition ? a : b with ONNX broadcasting.
template <class T>
struct Where {
  const bool* condition;
  const T* a;
  const T* b;
  T* y;
  Index condition_index, a_index, b_index;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    y[i] = condition[condition_index(i)] ? a[a_index(i)] : b[b_index(i)];
  }
};

/// dx = 0 where y <= 0, else dy.
template <class T>
struct ReluGrad {
  const T* dy;
  const T* y;
  T* dx;

  HALFSTEP_HD void operator()(std::int64_t i) const { dx[i] = load(y[i]) <= 0 ? round_to<T>(0.0f) : dy[i]; }
};

/// y = activation(x + bias[channel] + residual), of [batch, channels, inner]; what follows a convolution. `x` may be
/// `y`. bias and residual may be null.
template <class T, class To>
struct BiasActivation {
  const T* x;
  const T* bias;
  const T* residual;
  To* y;
  std::int64_t channels, inner;
  bool relu;

  HALFSTEP_HD void operator()(std::int64_t i) const {
    float v = load(x[i]);
    if (bias) v += load(bias[i / inner % channels]);
    if (residual) v += load(residual[i]);
    y[i] = round_to<To>(relu ? Unary<float>::apply(UnaryOp::relu, v) : v);
  }
};

}  // namespace halfstep::cudnn
