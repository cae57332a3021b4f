// Batch normalization and its gradient: channels of planes, and channels that lie together.
#pragma once

#include "executors/cudnn/kernels/normalization_text.h"

namespace halfstep::cudnn {

/// What all kernels of a batch normalization compute of one element or one channel.
inline constexpr std::string_view kBatchText = R"text(
static __device__ __forceinline__ float clamped(const NormalizationArguments& a, float n) {
  const float raised = n < a.low ? a.low : n;  // NaN stays NaN
  return raised > a.high ? a.high : raised;
}
/// The gradient of the clamp.
static __device__ __forceinline__ float passed(const NormalizationArguments& a, float g, float n) {
  return n < a.least || n > a.high ? 0.0f : g;
}
struct Statistics { float mean, inverse; };
static __device__ __forceinline__ Statistics statistics_of(const NormalizationArguments& a, const Moments& m) {
  Statistics s;
  s.mean = m.mean;
  s.inverse = 1.0f / sqrtf(m.variance + a.epsilon);
  return s;
}
static __device__ __forceinline__ Moments given_moments(const void* mean, const void* variance, i64 c) {
  Moments m;
  m.mean = load(static_cast<const {parameter}*>(mean)[c]);
  m.variance = load(static_cast<const {parameter}*>(variance)[c]);
  return m;
}
static __device__ __forceinline__ Statistics saved_statistics(const NormalizationArguments& a, i64 c) {
  Statistics s;
  s.mean = a.saved[c];
  s.inverse = a.saved[a.rows + c];
  return s;
}
static __device__ __forceinline__ void save(const NormalizationArguments& a, i64 c, const Moments& m) {
  const Statistics s = statistics_of(a, m);
  a.saved[c] = s.mean;
  a.saved[a.rows + c] = s.inverse;
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
static __device__ __forceinline__ Normalization normalization(const Statistics& s, float scale, float bias) {
  Normalization n;
  n.mean = s.mean;
  n.inverse = s.inverse;
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

/// Channels are cut into `groups` of `chunk` pieces, a piece being what a thread takes at once: V elements of a
/// channel, or one of each of W = V channels that lie together. A block takes a chunk of A * W channels by 256 / A
/// threads for each W; so a warp reads what lies together. What is gathered of the chunks is joined by a warp, in one
/// order.
inline constexpr std::string_view kTileText = R"text(
constexpr int V = {vector}, W = {channels}, A = {across};
typedef Vector<{element}, V> Elements;
/// Of the threads of each channel, known to all of them.
static __device__ __forceinline__ void tile_sum(float (&x)[W]) {
  __shared__ float sums[8][A * W];
#pragma unroll
  for (int k = 0; k < W; ++k)
#pragma unroll
    for (int distance = 16; distance >= A; distance /= 2) x[k] += __shfl_xor_sync(0xffffffffu, x[k], distance);
  __syncthreads();  // the sums before have been read
#pragma unroll
  for (int k = 0; k < W; ++k)
    if (threadIdx.x % 32 < A) sums[threadIdx.x / 32][threadIdx.x % A * W + k] = x[k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < W; ++k) {
    x[k] = 0;
#pragma unroll
    for (int w = 0; w < 8; ++w) x[k] += sums[w][threadIdx.x % A * W + k];
  }
}
/// This thread's pieces of a chunk: every (256 / A)th from `begin` on, of channels from c on.
struct Tile {
  i64 c, group, begin, end, chunk_begin;
  bool is_there;
};
static __device__ __forceinline__ i64 columns(const NormalizationArguments& a) {
  return (a.rows + A * W - 1) / (A * W);
}
static __device__ __forceinline__ i64 tiles(const NormalizationArguments& a) { return columns(a) * a.groups; }
static __device__ __forceinline__ Tile tile(const NormalizationArguments& a, i64 number) {
  const i64 pieces = a.length * W / V;
  Tile t;
  t.group = number / columns(a);
  t.c = (number - t.group * columns(a)) * (A * W) + threadIdx.x % A * W;
  t.is_there = t.c < a.rows;
  t.chunk_begin = t.group * a.chunk;
  t.begin = t.chunk_begin + threadIdx.x / A;
  t.end = t.chunk_begin + a.chunk < pieces ? t.chunk_begin + a.chunk : pieces;
  return t;
}
static __device__ __forceinline__ float elements_of(const Tile& t) { return (float)((t.end - t.chunk_begin) * (V / W)); }
static __device__ __forceinline__ bool writes(const Tile& t) { return t.is_there && threadIdx.x < A; }
/// Where piece i of the channel begins.
static __device__ __forceinline__ i64 place(const NormalizationArguments& a, const Tile& t, i64 i) {
  if (W == V && V > 1) return i * a.rows + t.c;
  const i64 image = (i64)((u32)i / (u32)(a.plane / V));
  return (image * a.rows + t.c) * a.plane + (i - image * (a.plane / V)) * V;
}
static __device__ __forceinline__ Elements take(const void* p, i64 at) { return read<{element}, V>(p, at); }
static __device__ __forceinline__ float* partial_of(const NormalizationArguments& a, i64 group, i64 c) {
  return static_cast<float*>(a.scratch) + 2 * (group * a.rows + c);
}
)text";

inline constexpr std::string_view kGatherMomentsText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_moments(const __grid_constant__ NormalizationArguments a) {
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    float mean[W] = {}, squares[W] = {};
    for (i64 i = t.begin; t.is_there && i < t.end; i += 256 / A) {
      const Elements x = take(a.in[{x}], place(a, t, i));
#pragma unroll
      for (int k = 0; k < V; ++k) mean[k % W] += load(x.at[k]);
    }
    tile_sum(mean);
#pragma unroll
    for (int k = 0; k < W; ++k) mean[k] /= elements_of(t);
    for (i64 i = t.begin; t.is_there && i < t.end; i += 256 / A) {
      const Elements x = take(a.in[{x}], place(a, t, i));
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const float from_mean = load(x.at[k]) - mean[k % W];
        squares[k % W] += from_mean * from_mean;
      }
    }
    tile_sum(squares);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (!writes(t)) continue;
      partial_of(a, t.group, t.c + k)[0] = mean[k];
      partial_of(a, t.group, t.c + k)[1] = squares[k];
    }
  }
}
)text";

/// Chan, Golub and LeVeque's sum of squares around the mean. {running}: what else is done with the moments.
inline constexpr std::string_view kJoinMomentsText = R"text(
struct Part { float count, mean, squares; };
static __device__ __forceinline__ Part joined(const Part& x, const Part& y) {
  const float count = x.count + y.count, share = count > 0.0f ? y.count / count : 0.0f, apart = y.mean - x.mean;
  Part z;
  z.count = count;
  z.mean = apart - apart == 0.0f ? x.mean + apart * share : x.mean + y.mean;  // infinity stays what it is
  z.squares = x.squares + y.squares + apart * apart * (x.count * share);
  return z;
}
extern "C" __global__ void __launch_bounds__(256) join_moments(const __grid_constant__ NormalizationArguments a) {
  for (i64 first = (i64)blockIdx.x * 8; first < a.rows; first += (i64)gridDim.x * 8) {
    const i64 c = first + threadIdx.x / 32;
    Part p;
    p.count = p.mean = p.squares = 0;
    for (i64 group = threadIdx.x % 32; c < a.rows && group < a.groups; group += 32) {
      const i64 left = a.length * W / V - group * a.chunk;
      Part more;
      more.count = (float)((left < a.chunk ? left : a.chunk) * (V / W));
      more.mean = partial_of(a, group, c)[0];
      more.squares = partial_of(a, group, c)[1];
      p = joined(p, more);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      Part more;
      more.count = __shfl_xor_sync(0xffffffffu, p.count, distance);
      more.mean = __shfl_xor_sync(0xffffffffu, p.mean, distance);
      more.squares = __shfl_xor_sync(0xffffffffu, p.squares, distance);
      p = joined(p, more);
    }
    if (c >= a.rows || threadIdx.x % 32 != 0) continue;
    Moments m;
    m.mean = p.mean;
    m.variance = p.squares / (float)a.length;
    save(a, c, m);
    {running}
  }
}
)text";

/// The running statistics from what a forward pass has saved that is not ours.
inline constexpr std::string_view kRunningText = R"text(
extern "C" __global__ void __launch_bounds__(256) running_statistics(const __grid_constant__ NormalizationArguments a) {
  for (i64 c = (i64)blockIdx.x * 256 + threadIdx.x; c < a.rows; c += (i64)gridDim.x * 256) {
    const Statistics s = saved_statistics(a, c);
    const float variance = 1.0f / (s.inverse * s.inverse) - a.epsilon;
    Moments m;
    m.mean = s.mean;
    m.variance = variance < 0.0f ? 0.0f : variance;  // NaN stays NaN
    update_running(a, c, m);
  }
}
)text";

/// {scale}, {bias}: the operands.
inline constexpr std::string_view kNormalizationOfText = R"text(
static __device__ __forceinline__ void normalizations_of(const NormalizationArguments& a, const Tile& t,
                                                         Normalization (&n)[W]) {
#pragma unroll
  for (int k = 0; k < W; ++k) {
    if (!t.is_there) continue;
    const Statistics s = a.is_training ? saved_statistics(a, t.c + k)
                                       : statistics_of(a, given_moments(a.in[3], a.in[4], t.c + k));
    n[k] = normalization(s, parameter(a.in[{scale}], t.c + k), parameter(a.in[{bias}], t.c + k));
  }
}
)text";

/// With a bound of one block, as gather_gradients: without, ptxas takes so few registers that it spills some.
inline constexpr std::string_view kNormalizeText = R"text(
extern "C" __global__ void __launch_bounds__(256, 1) normalize(const __grid_constant__ NormalizationArguments a) {
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    Normalization n[W];
    normalizations_of(a, t, n);
    for (i64 i = t.begin; t.is_there && i < t.end; i += 256 / A) {
      const i64 at = place(a, t, i);
      const Elements x = take(a.in[0], at);
      Elements y;
      if (a.in[5]) {
        const Elements addition = take(a.in[5], at);
#pragma unroll
        for (int k = 0; k < V; ++k)
          y.at[k] = round_to<{element}>(clamped(a, normalized(n[k % W], load(x.at[k])) + load(addition.at[k])));
      } else {
#pragma unroll
        for (int k = 0; k < V; ++k) y.at[k] = round_to<{element}>(clamped(a, normalized(n[k % W], load(x.at[k]))));
      }
      write(a.out[0], at, y);
    }
  }
}
)text";

/// The sums of a chunk, then of a channel, then the gradient of the input.
inline constexpr std::string_view kGatherGradientsText = R"text(
extern "C" __global__ void __launch_bounds__(256, 1) gather_gradients(const __grid_constant__ NormalizationArguments a) {
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    float sum[W] = {}, product[W] = {};
    Normalization n[W];
    normalizations_of(a, t, n);
    for (i64 i = t.begin; t.is_there && i < t.end; i += 256 / A) {
      const i64 at = place(a, t, i);
      const Elements dy = take(a.in[0], at), x = take(a.in[1], at);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const float value = load(x.at[k]), g = passed(a, load(dy.at[k]), normalized(n[k % W], value));
        sum[k % W] += g;
        product[k % W] += g * ((value - n[k % W].mean) * n[k % W].inverse);
      }
    }
    tile_sum(sum);
    tile_sum(product);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (!writes(t)) continue;
      partial_of(a, t.group, t.c + k)[0] = sum[k];
      partial_of(a, t.group, t.c + k)[1] = product[k];
    }
  }
}
)text";
/// The sums go where those of a chunk behind the last would.
inline constexpr std::string_view kJoinGradientsText = R"text(
extern "C" __global__ void __launch_bounds__(256) join_gradients(const __grid_constant__ NormalizationArguments a) {
  for (i64 first = (i64)blockIdx.x * 8; first < a.rows; first += (i64)gridDim.x * 8) {
    const i64 c = first + threadIdx.x / 32;
    float sum = 0, product = 0;
    for (i64 group = threadIdx.x % 32; c < a.rows && group < a.groups; group += 32) {
      sum += partial_of(a, group, c)[0];
      product += partial_of(a, group, c)[1];
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
      product += __shfl_xor_sync(0xffffffffu, product, distance);
    }
    if (c >= a.rows || threadIdx.x % 32 != 0) continue;
    partial_of(a, a.groups, c)[0] = sum;
    partial_of(a, a.groups, c)[1] = product;
    write_parameters(a, c, product, sum);
  }
}
)text";
inline constexpr std::string_view kInputGradientText = R"text(
extern "C" __global__ void __launch_bounds__(256) input_gradient(const __grid_constant__ NormalizationArguments a) {
  for (i64 number = blockIdx.x; number < tiles(a); number += gridDim.x) {
    const Tile t = tile(a, number);
    Normalization n[W];
    float sum[W], product[W];
    normalizations_of(a, t, n);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      sum[k] = t.is_there ? partial_of(a, a.groups, t.c + k)[0] : 0.0f;
      product[k] = t.is_there ? partial_of(a, a.groups, t.c + k)[1] : 0.0f;
    }
    for (i64 i = t.begin; t.is_there && i < t.end; i += 256 / A) {
      const i64 at = place(a, t, i);
      const Elements dy = take(a.in[0], at), x = take(a.in[1], at);
      Elements dx;
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const float value = load(x.at[k]), g = passed(a, load(dy.at[k]), normalized(n[k % W], value));
        dx.at[k] = round_to<{element}>(gradient(a, n[k % W], value, g, sum[k % W], product[k % W]));
      }
      write(a.out[0], at, dx);
    }
  }
}
)text";

}  // namespace halfstep::cudnn
