// Normalizations and their gradients: a block of 256 threads for every row, or for every channel. Sums are taken in one
// order, so that a run gives the bits of the one before.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Rows of `length` elements; of a channel they lie in planes, of which one in `rows` is its.
// clang-format off
HALFSTEP_SHARED_TEXT(kNormalizationArgumentsText,
struct NormalizationArguments {
  const void* in[6];
  void* out[3];
  void* scratch;
  long long rows;
  long long length;
  long long plane;
  long long groups;
  float epsilon;
  float momentum;
  int is_training;
};)
// clang-format on

/// Elements are {element}, parameters {parameter}.
inline constexpr std::string_view kRowSumText = R"text(
static __device__ float block_sum(float x) {
  __shared__ float sums[8];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  __syncthreads();  // the sums before have been read
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int w = 0; w < 8; ++w) sum += sums[w];
  return sum;
}
)text";

inline constexpr std::string_view kLayerNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) layer_norm(const __grid_constant__ NormalizationArguments a) {
  const {parameter}* scale = static_cast<const {parameter}*>(a.in[1]);
  const {parameter}* bias = static_cast<const {parameter}*>(a.in[2]);
  const float count = (float)a.length;
  for (i64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const {element}* x = static_cast<const {element}*>(a.in[0]) + row * a.length;
    {element}* y = static_cast<{element}*>(a.out[0]) + row * a.length;
    float sum = 0, squares = 0;
    for (i64 i = threadIdx.x; i < a.length; i += 256) sum += load(x[i]);
    const float mean = block_sum(sum) / count;
    for (i64 i = threadIdx.x; i < a.length; i += 256) squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    const float inverse = 1.0f / sqrtf(block_sum(squares) / count + a.epsilon);
    for (i64 i = threadIdx.x; i < a.length; i += 256)
      y[i] = round_to<{element}>((load(x[i]) - mean) * inverse * load(scale[i]) + (bias ? load(bias[i]) : 0.0f));
    if (threadIdx.x == 0 && a.out[1]) static_cast<float*>(a.out[1])[row] = mean;
    if (threadIdx.x == 0 && a.out[2]) static_cast<float*>(a.out[2])[row] = inverse;
  }
}
)text";

/// Rows are groups of channels: `groups` for each image, whose planes are `plane` elements.
inline constexpr std::string_view kGroupNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) group_norm(const __grid_constant__ NormalizationArguments a) {
  const {parameter}* scale = static_cast<const {parameter}*>(a.in[1]);
  const {parameter}* bias = static_cast<const {parameter}*>(a.in[2]);
  const float count = (float)a.length;
  for (i64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const {element}* x = static_cast<const {element}*>(a.in[0]) + row * a.length;
    {element}* y = static_cast<{element}*>(a.out[0]) + row * a.length;
    const i64 first = row % a.groups * (a.length / a.plane);
    float sum = 0, squares = 0;
    for (i64 i = threadIdx.x; i < a.length; i += 256) sum += load(x[i]);
    const float mean = block_sum(sum) / count;
    for (i64 i = threadIdx.x; i < a.length; i += 256) squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    const float inverse = 1.0f / sqrtf(block_sum(squares) / count + a.epsilon);
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const i64 channel = first + i / a.plane;
      y[i] = round_to<{element}>((load(x[i]) - mean) * inverse * load(scale[channel]) + load(bias[channel]));
    }
  }
}
)text";

/// The gradient of the input; mean and inverse deviation of every row go to scratch.
inline constexpr std::string_view kLayerNormGradText = R"text(
extern "C" __global__ void __launch_bounds__(256) layer_norm_grad(const __grid_constant__ NormalizationArguments a) {
  const {parameter}* scale = static_cast<const {parameter}*>(a.in[2]);
  float* statistics = static_cast<float*>(a.scratch);
  const float count = (float)a.length;
  for (i64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const {element}* dy = static_cast<const {element}*>(a.in[0]) + row * a.length;
    const {element}* x = static_cast<const {element}*>(a.in[1]) + row * a.length;
    {element}* dx = static_cast<{element}*>(a.out[0]) + row * a.length;
    float sum = 0, squares = 0, along = 0, product = 0;
    for (i64 i = threadIdx.x; i < a.length; i += 256) sum += load(x[i]);
    const float mean = block_sum(sum) / count;
    for (i64 i = threadIdx.x; i < a.length; i += 256) squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    const float inverse = 1.0f / sqrtf(block_sum(squares) / count + a.epsilon);
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const float g = load(dy[i]) * load(scale[i]);
      along += g;
      product += g * ((load(x[i]) - mean) * inverse);
    }
    const float mean_g = block_sum(along) / count, mean_product = block_sum(product) / count;
    for (i64 i = threadIdx.x; i < a.length; i += 256)
      dx[i] = round_to<{element}>(inverse * (load(dy[i]) * load(scale[i]) - mean_g -
                                             (load(x[i]) - mean) * inverse * mean_product));
    if (threadIdx.x == 0) {
      statistics[2 * row] = mean;
      statistics[2 * row + 1] = inverse;
    }
  }
}
)text";

/// The gradients of scale and bias: 32 columns for a block, eight threads for each, which take every eighth row.
inline constexpr std::string_view kLayerNormGradColumnsText = R"text(
extern "C" __global__ void __launch_bounds__(256) layer_norm_grad_columns(
    const __grid_constant__ NormalizationArguments a) {
  __shared__ float scales[8][32], biases[8][32];
  const {element}* dy = static_cast<const {element}*>(a.in[0]);
  const {element}* x = static_cast<const {element}*>(a.in[1]);
  const float* statistics = static_cast<const float*>(a.scratch);
  const int lane = threadIdx.x / 32, within = threadIdx.x % 32;
  const i64 column = (i64)blockIdx.x * 32 + within;
  float scale = 0, bias = 0;
  if (column < a.length)
    for (i64 row = lane; row < a.rows; row += 8) {
      const float g = load(dy[row * a.length + column]);
      scale += g * ((load(x[row * a.length + column]) - statistics[2 * row]) * statistics[2 * row + 1]);
      bias += g;
    }
  scales[lane][within] = scale;
  biases[lane][within] = bias;
  __syncthreads();
  if (lane > 0 || column >= a.length) return;
  for (int other = 1; other < 8; ++other) {
    scale += scales[other][within];
    bias += biases[other][within];
  }
  if (a.out[1]) static_cast<{parameter}*>(a.out[1])[column] = round_to<{parameter}>(scale);
  if (a.out[2]) static_cast<{parameter}*>(a.out[2])[column] = round_to<{parameter}>(bias);
}
)text";

/// What both directions of a batch normalization need of a channel.
inline constexpr std::string_view kChannelText = R"text(
struct Channel {
  i64 first, stride, plane;
  __device__ __forceinline__ i64 operator()(i64 i) const {
    const i64 n = (i64)((u32)i / (u32)plane);
    return first + n * stride + (i - n * plane);
  }
};
static __device__ __forceinline__ Channel channel_of(const NormalizationArguments& a, i64 c) {
  Channel channel;
  channel.first = c * a.plane;
  channel.stride = a.rows * a.plane;
  channel.plane = a.plane;
  return channel;
}
struct Moments { float mean, variance; };
template <class T>
static __device__ Moments moments_of(const T* x, const Channel& at, i64 length) {
  Moments m;
  float sum = 0, squares = 0;
  for (i64 i = threadIdx.x; i < length; i += 256) sum += load(x[at(i)]);
  m.mean = block_sum(sum) / (float)length;
  for (i64 i = threadIdx.x; i < length; i += 256) squares += (load(x[at(i)]) - m.mean) * (load(x[at(i)]) - m.mean);
  m.variance = block_sum(squares) / (float)length;
  return m;
}
template <class P>
static __device__ Moments given_moments(const void* mean, const void* variance, i64 c) {
  Moments m;
  m.mean = load(static_cast<const P*>(mean)[c]);
  m.variance = load(static_cast<const P*>(variance)[c]);
  return m;
}
)text";

inline constexpr std::string_view kBatchNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) batch_norm(const __grid_constant__ NormalizationArguments a) {
  const {element}* x = static_cast<const {element}*>(a.in[0]);
  {element}* y = static_cast<{element}*>(a.out[0]);
  for (i64 c = blockIdx.x; c < a.rows; c += gridDim.x) {
    const Channel at = channel_of(a, c);
    const Moments given = given_moments<{parameter}>(a.in[3], a.in[4], c);
    const Moments m = a.is_training ? moments_of(x, at, a.length) : given;
    const float factor = load(static_cast<const {parameter}*>(a.in[1])[c]) / sqrtf(m.variance + a.epsilon);
    const float bias = load(static_cast<const {parameter}*>(a.in[2])[c]);
    for (i64 i = threadIdx.x; i < a.length; i += 256)
      y[at(i)] = round_to<{element}>((load(x[at(i)]) - m.mean) * factor + bias);
    __syncthreads();  // a running value may lie where the one before did
    if (threadIdx.x != 0) continue;
    const float kept = a.momentum;
    if (a.out[1]) static_cast<{parameter}*>(a.out[1])[c] = round_to<{parameter}>(given.mean * kept + m.mean * (1.0f - kept));
    if (a.out[2])
      static_cast<{parameter}*>(a.out[2])[c] = round_to<{parameter}>(given.variance * kept + m.variance * (1.0f - kept));
  }
}
)text";

inline constexpr std::string_view kBatchNormGradText = R"text(
extern "C" __global__ void __launch_bounds__(256) batch_norm_grad(const __grid_constant__ NormalizationArguments a) {
  const {element}* dy = static_cast<const {element}*>(a.in[0]);
  const {element}* x = static_cast<const {element}*>(a.in[1]);
  {element}* dx = static_cast<{element}*>(a.out[0]);
  const float count = (float)a.length;
  for (i64 c = blockIdx.x; c < a.rows; c += gridDim.x) {
    const Channel at = channel_of(a, c);
    const Moments m =
        a.is_training ? moments_of(x, at, a.length) : given_moments<{parameter}>(a.in[3], a.in[4], c);
    const float inverse = 1.0f / sqrtf(m.variance + a.epsilon);
    float sum = 0, product = 0;
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const float g = load(dy[at(i)]);
      sum += g;
      product += g * ((load(x[at(i)]) - m.mean) * inverse);
    }
    const float bias = block_sum(sum), scale = block_sum(product);
    const float factor = load(static_cast<const {parameter}*>(a.in[2])[c]) * inverse;
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const float g = load(dy[at(i)]), normal = (load(x[at(i)]) - m.mean) * inverse;
      if (dx) dx[at(i)] = round_to<{element}>(factor * (a.is_training ? g - bias / count - normal * (scale / count) : g));
    }
    if (threadIdx.x == 0 && a.out[1]) static_cast<{parameter}*>(a.out[1])[c] = round_to<{parameter}>(scale);
    if (threadIdx.x == 0 && a.out[2]) static_cast<{parameter}*>(a.out[2])[c] = round_to<{parameter}>(bias);
  }
}
)text";

}  // namespace halfstep::cudnn
