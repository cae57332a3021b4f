// Normalizations and their gradients: a block of 256 threads for every row, or for every channel. Sums are taken in one
// order, so that a run gives the bits of the one before.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Rows of `length` elements; of a channel they lie in planes, of which one in `rows` is its. Where channels lie
/// together the elements of each are cut into `groups` of `chunk`. `saved`: mean and variance of every row, from the
/// forward pass to the backward pass.
// clang-format off
HALFSTEP_SHARED_TEXT(kNormalizationArgumentsText,
struct NormalizationArguments {
  const void* in[6];
  void* out[3];
  void* scratch;
  float* saved;
  long long rows;
  long long length;
  long long plane;
  long long groups;
  long long chunk;
  float epsilon;
  float momentum;
  float low;
  float high;
  float least;
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
struct Row {
  __device__ __forceinline__ i64 operator()(i64 i) const { return i; }
};
struct Moments { float mean, variance; };
/// Of elements x[at(0)], x[at(1)] ...
template <class T, class At>
static __device__ Moments moments_of(const T* x, const At& at, i64 length) {
  Moments m;
  float sum = 0, squares = 0;
  for (i64 i = threadIdx.x; i < length; i += 256) sum += load(x[at(i)]);
  m.mean = block_sum(sum) / (float)length;
  for (i64 i = threadIdx.x; i < length; i += 256) squares += (load(x[at(i)]) - m.mean) * (load(x[at(i)]) - m.mean);
  m.variance = block_sum(squares) / (float)length;
  return m;
}
)text";

/// LayerNormalization, GroupNormalization and InstanceNormalization. {channel}: of element i of a row, the place of its
/// scale and bias.
inline constexpr std::string_view kRowNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ NormalizationArguments a) {
  const {parameter}* scale = static_cast<const {parameter}*>(a.in[1]);
  const {parameter}* bias = static_cast<const {parameter}*>(a.in[2]);
  for (i64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const {element}* x = static_cast<const {element}*>(a.in[0]) + row * a.length;
    {element}* y = static_cast<{element}*>(a.out[0]) + row * a.length;
    const Moments m = moments_of(x, Row(), a.length);
    const float inverse = 1.0f / sqrtf(m.variance + a.epsilon);
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const i64 channel = {channel};
      y[i] = round_to<{element}>((load(x[i]) - m.mean) * inverse * load(scale[channel]) +
                                 (bias ? load(bias[channel]) : 0.0f));
    }
    if (threadIdx.x == 0 && a.out[1]) static_cast<float*>(a.out[1])[row] = m.mean;
    if (threadIdx.x == 0 && a.out[2]) static_cast<float*>(a.out[2])[row] = inverse;
  }
}
)text";
inline constexpr std::string_view kChannelOfLayer = "i";
/// Rows are groups of channels: `groups` for each image, whose planes are `plane` elements.
inline constexpr std::string_view kChannelOfGroup = "row % a.groups * (a.length / a.plane) + i / a.plane";

/// The gradient of the input; mean and inverse deviation of every row go to scratch.
inline constexpr std::string_view kLayerNormGradText = R"text(
extern "C" __global__ void __launch_bounds__(256) layer_norm_grad(const __grid_constant__ NormalizationArguments a) {
  const {parameter}* scale = static_cast<const {parameter}*>(a.in[2]);
  float* statistics = static_cast<float*>(a.scratch);
  const float count = (float)a.length;
  for (i64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const {element}* dy = static_cast<const {element}*>(a.in[0]) + row * a.length;
    const {element}* x = static_cast<const {element}*>(a.in[1]) + row * a.length;
    {element}* dx = a.out[0] ? static_cast<{element}*>(a.out[0]) + row * a.length : 0;
    const Moments m = moments_of(x, Row(), a.length);
    const float inverse = 1.0f / sqrtf(m.variance + a.epsilon);
    float along = 0, product = 0;
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const float g = load(dy[i]) * load(scale[i]);
      along += g;
      product += g * ((load(x[i]) - m.mean) * inverse);
    }
    const float mean_g = block_sum(along) / count, mean_product = block_sum(product) / count;
    for (i64 i = threadIdx.x; dx && i < a.length; i += 256)
      dx[i] = round_to<{element}>(inverse * (load(dy[i]) * load(scale[i]) - mean_g -
                                             (load(x[i]) - m.mean) * inverse * mean_product));
    if (threadIdx.x == 0) {
      statistics[2 * row] = m.mean;
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
  for (i64 first = (i64)blockIdx.x * 32; first < a.length; first += (i64)gridDim.x * 32) {
    const i64 column = first + within;
    float scale = 0, bias = 0;
    if (column < a.length)
      for (i64 row = lane; row < a.rows; row += 8) {
        const float g = load(dy[row * a.length + column]);
        scale += g * ((load(x[row * a.length + column]) - statistics[2 * row]) * statistics[2 * row + 1]);
        bias += g;
      }
    __syncthreads();  // the sums before have been read
    scales[lane][within] = scale;
    biases[lane][within] = bias;
    __syncthreads();
    if (lane > 0 || column >= a.length) continue;
    for (int other = 1; other < 8; ++other) {
      scale += scales[other][within];
      bias += biases[other][within];
    }
    if (a.out[1]) static_cast<{parameter}*>(a.out[1])[column] = round_to<{parameter}>(scale);
    if (a.out[2]) static_cast<{parameter}*>(a.out[2])[column] = round_to<{parameter}>(bias);
  }
}
)text";

/// What all kernels of a batch normalization compute of one element or one channel.
inline constexpr std::string_view kBatchText = R"text(
static __device__ __forceinline__ float clamped(const NormalizationArguments& a, float n) {
  const float raised = n < a.low ? a.low : n;  // NaN stays NaN
  return raised > a.high ? a.high : raised;
}
/// What is added to element i before the clamp.
static __device__ __forceinline__ float added(const NormalizationArguments& a, float n, i64 i) {
  return a.in[5] ? n + load(static_cast<const {element}*>(a.in[5])[i]) : n;
}
/// The gradient of the clamp.
static __device__ __forceinline__ float passed(const NormalizationArguments& a, float g, float n) {
  return n < a.least || n > a.high ? 0.0f : g;
}
static __device__ __forceinline__ Moments given_moments(const void* mean, const void* variance, i64 c) {
  Moments m;
  m.mean = load(static_cast<const {parameter}*>(mean)[c]);
  m.variance = load(static_cast<const {parameter}*>(variance)[c]);
  return m;
}
static __device__ __forceinline__ Moments saved_moments(const NormalizationArguments& a, i64 c) {
  Moments m;
  m.mean = a.saved[2 * c];
  m.variance = a.saved[2 * c + 1];
  return m;
}
static __device__ __forceinline__ void save(const NormalizationArguments& a, i64 c, const Moments& m) {
  a.saved[2 * c] = m.mean;
  a.saved[2 * c + 1] = m.variance;
}
static __device__ __forceinline__ float parameter(const void* values, i64 c) {
  return values ? load(static_cast<const {parameter}*>(values)[c]) : 0.0f;
}
/// The running statistics after those of the batch.
static __device__ __forceinline__ void update_running(const NormalizationArguments& a, i64 c, const Moments& m) {
  const Moments before = given_moments(a.in[3], a.in[4], c);
  const float kept = a.momentum, taken = 1.0f - kept;
  if (a.out[1])
    static_cast<{parameter}*>(a.out[1])[c] = round_to<{parameter}>(before.mean * kept + m.mean * taken);
  if (a.out[2])
    static_cast<{parameter}*>(a.out[2])[c] = round_to<{parameter}>(before.variance * kept + m.variance * taken);
}
static __device__ __forceinline__ void write_parameters(const NormalizationArguments& a, i64 c, float scale, float bias) {
  if (a.out[1]) static_cast<{parameter}*>(a.out[1])[c] = round_to<{parameter}>(scale);
  if (a.out[2]) static_cast<{parameter}*>(a.out[2])[c] = round_to<{parameter}>(bias);
}
/// A channel's normalization, y = (x - mean) * factor + bias.
struct Normalization { float mean, inverse, factor, bias; };
static __device__ __forceinline__ Normalization normalization(const NormalizationArguments& a, const Moments& m,
                                                              float scale, float bias) {
  Normalization n;
  n.mean = m.mean;
  n.inverse = 1.0f / sqrtf(m.variance + a.epsilon);
  n.factor = scale * n.inverse;
  n.bias = bias;
  return n;
}
static __device__ __forceinline__ float normalized(const Normalization& n, float x) {
  return (x - n.mean) * n.factor + n.bias;
}
/// The gradient of x, where g is that of y and sums are over the channel.
static __device__ __forceinline__ float gradient(const NormalizationArguments& a, const Normalization& n, float x,
                                                 float g, float sum, float product) {
  const float count = (float)a.length;
  return n.factor * (a.is_training ? g - sum / count - (x - n.mean) * n.inverse * (product / count) : g);
}
)text";

/// Channels of planes: a block for each.
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
)text";

inline constexpr std::string_view kBatchNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) batch_norm(const __grid_constant__ NormalizationArguments a) {
  const {element}* x = static_cast<const {element}*>(a.in[0]);
  {element}* y = static_cast<{element}*>(a.out[0]);
  for (i64 c = blockIdx.x; c < a.rows; c += gridDim.x) {
    const Channel at = channel_of(a, c);
    const Moments m = a.is_training ? moments_of(x, at, a.length) : given_moments(a.in[3], a.in[4], c);
    const Normalization n = normalization(a, m, parameter(a.in[1], c), parameter(a.in[2], c));
    for (i64 i = threadIdx.x; i < a.length; i += 256)
      y[at(i)] = round_to<{element}>(clamped(a, added(a, normalized(n, load(x[at(i)])), at(i))));
    __syncthreads();  // a running value may lie where the one before did
    if (threadIdx.x != 0) continue;
    if (a.saved) save(a, c, m);
    update_running(a, c, m);
  }
}
)text";

inline constexpr std::string_view kBatchNormGradText = R"text(
extern "C" __global__ void __launch_bounds__(256) batch_norm_grad(const __grid_constant__ NormalizationArguments a) {
  const {element}* dy = static_cast<const {element}*>(a.in[0]);
  const {element}* x = static_cast<const {element}*>(a.in[1]);
  {element}* dx = static_cast<{element}*>(a.out[0]);
  for (i64 c = blockIdx.x; c < a.rows; c += gridDim.x) {
    const Channel at = channel_of(a, c);
    const Moments m = !a.is_training ? given_moments(a.in[3], a.in[4], c)
                      : a.saved      ? saved_moments(a, c)
                                     : moments_of(x, at, a.length);
    const Normalization n = normalization(a, m, parameter(a.in[2], c), parameter(a.in[5], c));
    float sum = 0, product = 0;
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const float value = load(x[at(i)]), g = passed(a, load(dy[at(i)]), normalized(n, value));
      sum += g;
      product += g * ((value - n.mean) * n.inverse);
    }
    const float bias = block_sum(sum), scale = block_sum(product);
    for (i64 i = threadIdx.x; dx && i < a.length; i += 256) {
      const float value = load(x[at(i)]), g = passed(a, load(dy[at(i)]), normalized(n, value));
      dx[at(i)] = round_to<{element}>(gradient(a, n, value, g, bias, scale));
    }
    if (threadIdx.x == 0) write_parameters(a, c, scale, bias);
  }
}
)text";

/// Channels that lie together: 32 of them for a block, eight threads for each, which take every eighth element of a
/// chunk. What is gathered of the chunks is joined by one thread, in their order.
inline constexpr std::string_view kTogetherText = R"text(
/// Of the eight threads of a channel.
static __device__ float channel_sum(float x) {
  __shared__ float sums[8][32];
  __syncthreads();  // the sums before have been read
  sums[threadIdx.x / 32][threadIdx.x % 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) sum += sums[k][threadIdx.x % 32];
  return sum;
}
struct Tile {
  i64 c, group, begin, end;
  bool is_there;
};
static __device__ __forceinline__ i64 tiles(const NormalizationArguments& a) { return (a.rows + 31) / 32 * a.groups; }
static __device__ __forceinline__ Tile tile(const NormalizationArguments& a, i64 number) {
  const i64 columns = (a.rows + 31) / 32;
  Tile t;
  t.group = number / columns;
  t.c = (number - t.group * columns) * 32 + threadIdx.x % 32;
  t.is_there = t.c < a.rows;
  t.begin = t.group * a.chunk;
  t.end = t.begin + a.chunk < a.length ? t.begin + a.chunk : a.length;
  return t;
}
static __device__ __forceinline__ float* partial_of(const NormalizationArguments& a, i64 group, i64 c) {
  return static_cast<float*>(a.scratch) + 2 * (group * a.rows + c);
}
)text";

inline constexpr std::string_view kGatherMomentsText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_moments(const __grid_constant__ NormalizationArguments a) {
  const {element}* x = static_cast<const {element}*>(a.in[{x}]);
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    float sum = 0, squares = 0;
    for (i64 i = t.begin + threadIdx.x / 32; t.is_there && i < t.end; i += 8) sum += load(x[i * a.rows + t.c]);
    const float mean = channel_sum(sum) / (float)(t.end - t.begin);
    for (i64 i = t.begin + threadIdx.x / 32; t.is_there && i < t.end; i += 8) {
      const float from_mean = load(x[i * a.rows + t.c]) - mean;
      squares += from_mean * from_mean;
    }
    const float all = channel_sum(squares);
    if (!t.is_there || threadIdx.x >= 32) continue;
    float* partial = partial_of(a, t.group, t.c);
    partial[0] = mean;
    partial[1] = all;
  }
}
)text";

/// Chan, Golub and LeVeque's sum of squares around the mean. {running}: what else is done with the moments.
inline constexpr std::string_view kJoinMomentsText = R"text(
extern "C" __global__ void __launch_bounds__(256) join_moments(const __grid_constant__ NormalizationArguments a) {
  for (i64 c = (i64)blockIdx.x * 256 + threadIdx.x; c < a.rows; c += (i64)gridDim.x * 256) {
    float count = 0, squares = 0;
    Moments m;
    m.mean = 0;
    for (i64 group = 0; group < a.groups; ++group) {
      const float* partial = partial_of(a, group, c);
      const i64 left = a.length - group * a.chunk;
      const float more = (float)(left < a.chunk ? left : a.chunk), all = count + more, apart = partial[0] - m.mean;
      m.mean += apart * (more / all);
      squares += partial[1] + apart * apart * (count * (more / all));
      count = all;
    }
    m.variance = squares / (float)a.length;
    save(a, c, m);
    {running}
  }
}
)text";

inline constexpr std::string_view kNormalizeText = R"text(
extern "C" __global__ void __launch_bounds__(256) normalize(const __grid_constant__ NormalizationArguments a) {
  const {element}* x = static_cast<const {element}*>(a.in[0]);
  {element}* y = static_cast<{element}*>(a.out[0]);
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    if (!t.is_there) continue;
    const Moments m = a.is_training ? saved_moments(a, t.c) : given_moments(a.in[3], a.in[4], t.c);
    const Normalization n = normalization(a, m, parameter(a.in[1], t.c), parameter(a.in[2], t.c));
    for (i64 i = t.begin + threadIdx.x / 32; i < t.end; i += 8) {
      const i64 at = i * a.rows + t.c;
      y[at] = round_to<{element}>(clamped(a, added(a, normalized(n, load(x[at])), at)));
    }
  }
}
)text";

/// The sums of a chunk, then of a channel, then the gradient of the input.
inline constexpr std::string_view kGradTogetherText = R"text(
static __device__ __forceinline__ Normalization normalization_of(const NormalizationArguments& a, i64 c) {
  const Moments m = a.is_training ? saved_moments(a, c) : given_moments(a.in[3], a.in[4], c);
  return normalization(a, m, parameter(a.in[2], c), parameter(a.in[5], c));
}
)text";
inline constexpr std::string_view kGatherGradientsText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_gradients(const __grid_constant__ NormalizationArguments a) {
  const {element}* dy = static_cast<const {element}*>(a.in[0]);
  const {element}* x = static_cast<const {element}*>(a.in[1]);
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    float sum = 0, product = 0;
    if (t.is_there) {
      const Normalization n = normalization_of(a, t.c);
      for (i64 i = t.begin + threadIdx.x / 32; i < t.end; i += 8) {
        const float value = load(x[i * a.rows + t.c]);
        const float g = passed(a, load(dy[i * a.rows + t.c]), normalized(n, value));
        sum += g;
        product += g * ((value - n.mean) * n.inverse);
      }
    }
    const float sums = channel_sum(sum), products = channel_sum(product);
    if (!t.is_there || threadIdx.x >= 32) continue;
    float* partial = partial_of(a, t.group, t.c);
    partial[0] = sums;
    partial[1] = products;
  }
}
)text";
/// The sums go where those of a chunk behind the last would.
inline constexpr std::string_view kJoinGradientsText = R"text(
extern "C" __global__ void __launch_bounds__(256) join_gradients(const __grid_constant__ NormalizationArguments a) {
  for (i64 c = (i64)blockIdx.x * 256 + threadIdx.x; c < a.rows; c += (i64)gridDim.x * 256) {
    float sum = 0, product = 0;
    for (i64 group = 0; group < a.groups; ++group) {
      sum += partial_of(a, group, c)[0];
      product += partial_of(a, group, c)[1];
    }
    partial_of(a, a.groups, c)[0] = sum;
    partial_of(a, a.groups, c)[1] = product;
    write_parameters(a, c, product, sum);
  }
}
)text";
inline constexpr std::string_view kInputGradientText = R"text(
extern "C" __global__ void __launch_bounds__(256) input_gradient(const __grid_constant__ NormalizationArguments a) {
  const {element}* dy = static_cast<const {element}*>(a.in[0]);
  const {element}* x = static_cast<const {element}*>(a.in[1]);
  {element}* dx = static_cast<{element}*>(a.out[0]);
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    if (!t.is_there) continue;
    const Normalization n = normalization_of(a, t.c);
    const float* sums = partial_of(a, a.groups, t.c);
    for (i64 i = t.begin + threadIdx.x / 32; i < t.end; i += 8) {
      const float value = load(x[i * a.rows + t.c]);
      const float g = passed(a, load(dy[i * a.rows + t.c]), normalized(n, value));
      dx[i * a.rows + t.c] = round_to<{element}>(gradient(a, n, value, g, sums[0], sums[1]));
    }
  }
}
)text";

}  // namespace halfstep::cudnn
