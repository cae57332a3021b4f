// Normalizations and their gradients: a block of 256 threads for every row, or for every channel. Sums are taken in one
// order, so that a run gives the bits of the one before.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Rows of `length` elements; of a channel they lie in planes, of which one in `rows` is its, and each of one element
/// where channels lie together; they are cut into `groups` of `chunk` pieces. `saved`: mean and variance of every row,
/// from the forward pass to the backward pass.
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
struct GroupRow {
  i64 channels, all;
  __device__ __forceinline__ i64 operator()(i64 i) const { return i / channels * all + i % channels; }
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

/// LayerNormalization, GroupNormalization and InstanceNormalization. {first}, {at}: where a row begins, and the places
/// of its elements from there. {channel}: of element i, the place of its scale and bias.
inline constexpr std::string_view kRowNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ NormalizationArguments a) {
  const {parameter}* scale = static_cast<const {parameter}*>(a.in[1]);
  const {parameter}* bias = static_cast<const {parameter}*>(a.in[2]);
  for (i64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const i64 first = {first};
    const auto at = {at};
    const {element}* x = static_cast<const {element}*>(a.in[0]) + first;
    {element}* y = static_cast<{element}*>(a.out[0]) + first;
    const Moments m = moments_of(x, at, a.length);
    const float inverse = 1.0f / sqrtf(m.variance + a.epsilon);
    for (i64 i = threadIdx.x; i < a.length; i += 256) {
      const i64 channel = {channel};
      y[at(i)] = round_to<{element}>((load(x[at(i)]) - m.mean) * inverse * load(scale[channel]) +
                                     (bias ? load(bias[channel]) : 0.0f));
    }
    if (threadIdx.x == 0 && a.out[1]) static_cast<float*>(a.out[1])[row] = m.mean;
    if (threadIdx.x == 0 && a.out[2]) static_cast<float*>(a.out[2])[row] = inverse;
  }
}
)text";
struct RowPlaces {
  std::string_view first, at, channel;
};
inline constexpr RowPlaces kLayer = {"row * a.length", "Row()", "i"};
/// Rows are groups of channels: `groups` for each image, whose planes are `plane` elements.
inline constexpr RowPlaces kGroup = {"row * a.length", "Row()", "row % a.groups * (a.length / a.plane) + i / a.plane"};
/// The channels of a place beside each other, those of a group among them.
inline constexpr RowPlaces kGroupTogether = {
    "row / a.groups * a.groups * a.length + row % a.groups * (a.length / a.plane)",
    "GroupRow{a.length / a.plane, a.length / a.plane * a.groups}",
    "row % a.groups * (a.length / a.plane) + i % (a.length / a.plane)"};

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

}  // namespace halfstep::cudnn
