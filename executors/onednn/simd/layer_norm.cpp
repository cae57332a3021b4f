// Layer normalization of rows.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/layer_norm.cpp"
#include "executors/onednn/simd/layer_norm.h"

#include <algorithm>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

template <class T>
void forward(const LayerNormParams& params, const void* x, const void* scale, const void* bias, void* y, float* mean,
             float* inv_std, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = params.n;
  const T* factor = static_cast<const T*>(scale);
  const T* shift = static_cast<const T*>(bias);
  for (std::int64_t r = begin; r < end; ++r) {
    const T* from = static_cast<const T*>(x) + r * n;
    T* to = static_cast<T*>(y) + r * n;
    const V length = constant(static_cast<float>(n));
    const V center = hn::Div(sum_over(n, [&](std::int64_t i, auto count) { return read(from + i, count); }), length);
    const V squares = sum_over(n, [&](std::int64_t i, auto count) {  // second pass: a large mean costs no digits
      const V deviation = hn::Sub(read(from + i, count), center);
      return hn::Mul(deviation, deviation);
    });
    const V variance = hn::Add(hn::Div(squares, length), constant(params.epsilon));
    const V inverse = hn::Div(constant(1), hn::Sqrt(variance));
    for_vectors(n, [&](std::int64_t i, auto count) {
      const V normal = hn::Mul(hn::Sub(read(from + i, count), center), inverse);
      const V offset = shift ? read(shift + i, count) : constant(0);
      write(hn::MulAdd(normal, read(factor + i, count), offset), to + i, count);
    });
    if (mean) mean[r] = hn::GetLane(center);
    if (inv_std) inv_std[r] = hn::GetLane(inverse);
  }
}

/// dscale and dbias get the sums over these rows alone; either may be null.
template <class T>
void backward(const LayerNormParams& params, const void* dy, const void* x, const void* scale, const float* mean,
              const float* inv_std, void* dx, float* dscale, float* dbias, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = params.n;
  const T* factor = static_cast<const T*>(scale);
  const F32 d32;
  const V length = constant(static_cast<float>(n));
  if (dscale) std::fill_n(dscale, n, 0.0F);
  if (dbias) std::fill_n(dbias, n, 0.0F);
  for (std::int64_t r = begin; r < end; ++r) {
    const T* up = static_cast<const T*>(dy) + r * n;
    const T* from = static_cast<const T*>(x) + r * n;
    T* to = static_cast<T*>(dx) + r * n;
    const V center = constant(mean[r]), inverse = constant(inv_std[r]);
    V sum = constant(0), product = constant(0);  // of g = dy scale, and of g times the normalized x
    for_vectors(n, [&](std::int64_t i, auto count) {
      const V d = read(up + i, count);
      const V normal = hn::Mul(hn::Sub(read(from + i, count), center), inverse);
      const V g = hn::Mul(d, read(factor + i, count));
      sum = hn::Add(sum, g);
      product = hn::MulAdd(g, normal, product);
      if (dscale) write(hn::MulAdd(d, normal, read(dscale + i, count)), dscale + i, count);
      if (dbias) write(hn::Add(d, read(dbias + i, count)), dbias + i, count);
    });
    const V mean_g = hn::Div(hn::SumOfLanes(d32, sum), length);
    const V mean_product = hn::Div(hn::SumOfLanes(d32, product), length);
    for_vectors(n, [&](std::int64_t i, auto count) {
      const V normal = hn::Mul(hn::Sub(read(from + i, count), center), inverse);
      const V g = hn::Mul(read(up + i, count), read(factor + i, count));
      write(hn::Mul(inverse, hn::NegMulAdd(normal, mean_product, hn::Sub(g, mean_g))), to + i, count);
    });
  }
}

LayerNormKernel::Fn find(DType dtype) {
  return by_type(dtype, []<class T>() { return &forward<T>; });
}
LayerNormGradKernel::Fn find_gradient(DType dtype) {
  return by_type(dtype, []<class T>() { return &backward<T>; });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
HWY_EXPORT(find_gradient);

namespace {

constexpr std::int64_t kRows = 32;  // rows of one share of work, whose scale and bias gradients are summed in f32

std::int64_t elements(const LayerNormParams& params) { return params.rows * params.n; }

/// out[i] = sum of the blocks' partial[i], in double and in order.
void combine(const float* partial, std::int64_t blocks, std::int64_t stride, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    double total = 0;
    for (std::int64_t block = 0; block < blocks; ++block) total += partial[block * stride + i];
    out[i] = static_cast<float>(total);
  }
}

}  // namespace

void LayerNormKernel::operator()(const void* x, const void* scale, const void* bias, void* y, float* mean,
                                 float* inv_std) const {
  const auto bytes = 4 * elements(params) * static_cast<std::int64_t>(element_bytes);
  parallel_for(blocks_of(params.rows, kRows), bytes, [&](std::int64_t block) {
    fn(params, x, scale, bias, y, mean, inv_std, block * kRows, std::min(params.rows, (block + 1) * kRows));
  });
}

std::size_t LayerNormGradKernel::scratch_bytes() const {
  return static_cast<std::size_t>(2 * blocks_of(params.rows, kRows) * params.n) * sizeof(float);
}

void LayerNormGradKernel::operator()(const void* dy, const void* x, const void* scale, const float* mean,
                                     const float* inv_std, void* dx, float* dscale, float* dbias, void* scratch) const {
  const auto bytes = 6 * elements(params) * static_cast<std::int64_t>(element_bytes);
  const std::int64_t blocks = blocks_of(params.rows, kRows), n = params.n;
  float* partial = static_cast<float*>(scratch);  // per block: dscale [n], dbias [n]
  parallel_for(blocks, bytes, [&](std::int64_t block) {
    float* sums = partial + 2 * block * n;
    fn(params, dy, x, scale, mean, inv_std, dx, dscale ? sums : nullptr, dbias ? sums + n : nullptr, block * kRows,
       std::min(params.rows, (block + 1) * kRows));
  });
  if (dscale) combine(partial, blocks, 2 * n, n, dscale);
  if (dbias) combine(partial + n, blocks, 2 * n, n, dbias);
}

LayerNormKernel find_layer_norm(const LayerNormParams& params, DType dtype) {
  return {HWY_DYNAMIC_DISPATCH(find)(dtype), params, bytes_of(dtype, 1)};
}

LayerNormGradKernel find_layer_norm_grad(const LayerNormParams& params, DType dtype) {
  return {HWY_DYNAMIC_DISPATCH(find_gradient)(dtype), params, bytes_of(dtype, 1)};
}

}  // namespace halfstep::simd
#endif
