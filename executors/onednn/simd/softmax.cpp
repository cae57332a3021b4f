// Softmax, LogSoftmax and their gradients, along rows and across planes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/softmax.cpp"
#include "executors/onednn/simd/softmax.h"

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

/// The exponential is computed twice rather than kept, so that half-precision outputs are rounded once and y may be x.
struct Softmax {
  static V norm(V sum) { return hn::Div(constant(1), sum); }
  static V result(V shifted, V norm) { return hn::Mul(decaying_exp(shifted), norm); }
  static V summand(V dy, V y) { return hn::Mul(dy, y); }
  static V gradient(V dy, V y, V sum) { return hn::Mul(y, hn::Sub(dy, sum)); }
};
struct LogSoftmax {
  static V norm(V sum) { return log(sum); }
  static V result(V shifted, V norm) { return hn::Sub(shifted, norm); }
  static V summand(V dy, V y) { return dy; }
  static V gradient(V dy, V y, V sum) { return hn::NegMulAdd(normal_exp(y), sum, dy); }
};

template <class Op, class T>
void rows(const void* x, void* y, std::int64_t rows, std::int64_t n) {
  const F32 d;
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = static_cast<const T*>(x) + r * n;
    T* to = static_cast<T*>(y) + r * n;
    V top = constant(-kInfinity);
    for_vectors(n, [&](std::int64_t i, auto count) { top = hn::Max(top, read(from + i, count, -kInfinity)); });
    top = hn::MaxOfLanes(d, top);
    const V norm = Op::norm(
        sum_over(n, [&](std::int64_t i, auto count) { return decaying_exp(hn::Sub(read(from + i, count), top)); }));
    for_vectors(n, [&](std::int64_t i, auto count) {
      write(Op::result(hn::Sub(read(from + i, count), top), norm), to + i, count);
    });
  }
}

template <class Op, class T>
void plane(const void* x, void* y, std::int64_t n, std::int64_t inner) {
  for_vectors(inner, [&](std::int64_t i, auto count) {
    const T* from = static_cast<const T*>(x) + i;
    T* to = static_cast<T*>(y) + i;
    V top = constant(-kInfinity);
    for (std::int64_t k = 0; k < n; ++k) top = hn::Max(top, read(from + k * inner, count));
    V sum = constant(0);
    for (std::int64_t k = 0; k < n; ++k) sum = hn::Add(sum, decaying_exp(hn::Sub(read(from + k * inner, count), top)));
    const V norm = Op::norm(sum);
    for (std::int64_t k = 0; k < n; ++k)
      write(Op::result(hn::Sub(read(from + k * inner, count), top), norm), to + k * inner, count);
  });
}

template <class Op, class T>
void gradient_rows(const void* dy, const void* y, void* dx, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* up = static_cast<const T*>(dy) + r * n;
    const T* out = static_cast<const T*>(y) + r * n;
    T* to = static_cast<T*>(dx) + r * n;
    const V sum =
        sum_over(n, [&](std::int64_t i, auto count) { return Op::summand(read(up + i, count), read(out + i, count)); });
    for_vectors(n, [&](std::int64_t i, auto count) {
      write(Op::gradient(read(up + i, count), read(out + i, count), sum), to + i, count);
    });
  }
}

template <class Op, class T>
void gradient_plane(const void* dy, const void* y, void* dx, std::int64_t n, std::int64_t inner) {
  for_vectors(inner, [&](std::int64_t i, auto count) {
    const T* up = static_cast<const T*>(dy) + i;
    const T* out = static_cast<const T*>(y) + i;
    T* to = static_cast<T*>(dx) + i;
    V sum = constant(0);
    for (std::int64_t k = 0; k < n; ++k)
      sum = hn::Add(sum, Op::summand(read(up + k * inner, count), read(out + k * inner, count)));
    for (std::int64_t k = 0; k < n; ++k)
      write(Op::gradient(read(up + k * inner, count), read(out + k * inner, count), sum), to + k * inner, count);
  });
}

SoftmaxKernel::RowsFn find_rows(SoftmaxOp op, DType dtype) {
  return by_type(dtype,
                 [op]<class T>() { return op == SoftmaxOp::softmax ? &rows<Softmax, T> : &rows<LogSoftmax, T>; });
}
SoftmaxKernel::PlaneFn find_plane(SoftmaxOp op, DType dtype) {
  return by_type(dtype,
                 [op]<class T>() { return op == SoftmaxOp::softmax ? &plane<Softmax, T> : &plane<LogSoftmax, T>; });
}
SoftmaxGradKernel::RowsFn find_gradient_rows(SoftmaxOp op, DType dtype) {
  return by_type(dtype, [op]<class T>() {
    return op == SoftmaxOp::softmax ? &gradient_rows<Softmax, T> : &gradient_rows<LogSoftmax, T>;
  });
}
SoftmaxGradKernel::PlaneFn find_gradient_plane(SoftmaxOp op, DType dtype) {
  return by_type(dtype, [op]<class T>() {
    return op == SoftmaxOp::softmax ? &gradient_plane<Softmax, T> : &gradient_plane<LogSoftmax, T>;
  });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find_rows);
HWY_EXPORT(find_plane);
HWY_EXPORT(find_gradient_rows);
HWY_EXPORT(find_gradient_plane);

namespace {

/// Rows that a thread takes at a time: about 4096 elements.
std::int64_t rows_at_a_time(std::int64_t n) { return std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, n)); }

}  // namespace

void SoftmaxKernel::operator()(const void* x, void* y, std::int64_t outer, std::int64_t n, std::int64_t inner) const {
  if (n == 0 || inner == 0) return;
  const auto bytes = 8 * outer * n * inner * static_cast<std::int64_t>(element_bytes);  // worth of work, not traffic
  if (inner > 1) {
    return parallel_for(outer, bytes, [&](std::int64_t i) {
      plane(at(x, i * n * inner, element_bytes), at(y, i * n * inner, element_bytes), n, inner);
    });
  }
  const std::int64_t group = rows_at_a_time(n);
  parallel_for(blocks_of(outer, group), bytes, [&](std::int64_t i) {
    const std::int64_t begin = i * group;
    rows(at(x, begin * n, element_bytes), at(y, begin * n, element_bytes), std::min(group, outer - begin), n);
  });
}

void SoftmaxGradKernel::operator()(const void* dy, const void* y, void* dx, std::int64_t outer, std::int64_t n,
                                   std::int64_t inner) const {
  if (n == 0 || inner == 0) return;
  const auto bytes = 4 * outer * n * inner * static_cast<std::int64_t>(element_bytes);
  const auto offset = [&](auto* array, std::int64_t i) { return at(array, i * n * inner, element_bytes); };
  if (inner > 1) {
    return parallel_for(outer, bytes,
                        [&](std::int64_t i) { plane(offset(dy, i), offset(y, i), offset(dx, i), n, inner); });
  }
  const std::int64_t group = rows_at_a_time(n);
  parallel_for(blocks_of(outer, group), bytes, [&](std::int64_t i) {
    const std::int64_t begin = i * group;
    rows(offset(dy, begin), offset(y, begin), offset(dx, begin), std::min(group, outer - begin), n);
  });
}

SoftmaxKernel find_softmax(SoftmaxOp op, DType dtype) {
  return {HWY_DYNAMIC_DISPATCH(find_rows)(op, dtype), HWY_DYNAMIC_DISPATCH(find_plane)(op, dtype), bytes_of(dtype, 1)};
}

SoftmaxGradKernel find_softmax_grad(SoftmaxOp op, DType dtype) {
  return {HWY_DYNAMIC_DISPATCH(find_gradient_rows)(op, dtype), HWY_DYNAMIC_DISPATCH(find_gradient_plane)(op, dtype),
          bytes_of(dtype, 1)};
}

}  // namespace halfstep::simd
#endif
