// Normalizations of rows and the gradient of LayerNormalization. Sums are taken in one order, so that a run gives the
// bits of the one before.
#pragma once

#include "executors/cudnn/kernels/normalization_text.h"

namespace halfstep::cudnn {

/// L = {lanes} threads share a row, R of which a block takes at once. A thread takes V = {vector} elements together and
/// keeps P = {pieces} such pieces of its row, or none and reads them again.
inline constexpr std::string_view kRowText = R"text(
constexpr int L = {lanes}, R = 256 / L, V = {vector}, P = {pieces};
typedef Vector<{element}, V> Elements;

/// Over the threads of a row, known to all of them.
static __device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  if (L == 32) return x;
  __shared__ float sums[8];
  __syncthreads();  // the sums before have been read
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int w = 0; w < L / 32; ++w) sum += sums[threadIdx.x / L * (L / 32) + w];
  return sum;
}
/// `f` of this thread's pieces: which one, and the row's element that it begins with.
template <class F>
static __device__ __forceinline__ void for_pieces(i64 length, const F& f) {
  if (P > 0) {
#pragma unroll
    for (int p = 0; p < P; ++p)
      if (const i64 i = (i64)(threadIdx.x % L + p * L) * V; i < length) f(p, i);
  } else {
    for (i64 i = (i64)(threadIdx.x % L) * V; i < length; i += L * V) f(0, i);
  }
}
/// The place in a row of its element i, which begins a piece.
static __device__ __forceinline__ i64 place_of(const NormalizationArguments& a, i64 i) { return {place}; }

struct Pieces {
  const {element}* row;
  Elements kept[P > 0 ? P : 1];
  __device__ __forceinline__ void begin(const NormalizationArguments& a, const {element}* first, i64 length) {
    row = first;
    if (P > 0) for_pieces(length, [&](int p, i64 i) { kept[p] = read<{element}, V>(row, place_of(a, i)); });
  }
  __device__ __forceinline__ Elements at(const NormalizationArguments& a, int p, i64 i) const {
    return P > 0 ? kept[p] : read<{element}, V>(row, place_of(a, i));
  }
};
static __device__ __forceinline__ Moments moments_of(const NormalizationArguments& a, const Pieces& x, i64 length) {
  Moments m;
  float sum = 0, squares = 0;
  for_pieces(length, [&](int p, i64 i) {
    const Elements e = x.at(a, p, i);
#pragma unroll
    for (int k = 0; k < V; ++k) sum += load(e.at[k]);
  });
  m.mean = row_sum(sum) / (float)a.length;
  for_pieces(length, [&](int p, i64 i) {
    const Elements e = x.at(a, p, i);
#pragma unroll
    for (int k = 0; k < V; ++k) squares += (load(e.at[k]) - m.mean) * (load(e.at[k]) - m.mean);
  });
  m.variance = row_sum(squares) / (float)a.length;
  return m;
}
)text";

/// LayerNormalization, GroupNormalization and InstanceNormalization. {first}: where a row begins.
inline constexpr std::string_view kRowNormText = R"text(
static __device__ __forceinline__ Vector<{parameter}, V> parameters_of(const NormalizationArguments& a, int in, i64 row,
                                                                       i64 i) {
  const {parameter}* values = static_cast<const {parameter}*>(a.in[in]);
  {parameters}
}
extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ NormalizationArguments a) {
  const i64 groups = (a.rows + R - 1) / R;
  for (i64 group = blockIdx.x; group < groups; group += gridDim.x) {
    const i64 row = group * R + threadIdx.x / L;
    const i64 length = row < a.rows ? a.length : 0, first = row < a.rows ? {first} : 0;
    Pieces x;
    x.begin(a, static_cast<const {element}*>(a.in[0]) + first, length);
    const Moments m = moments_of(a, x, length);
    const float inverse = 1.0f / sqrtf(m.variance + a.epsilon);
    for_pieces(length, [&](int p, i64 i) {
      const Elements e = x.at(a, p, i);
      const Vector<{parameter}, V> scale = parameters_of(a, 1, row, i);
      Vector<{parameter}, V> bias = {};
      if (a.in[2]) bias = parameters_of(a, 2, row, i);
      Elements y;
#pragma unroll
      for (int k = 0; k < V; ++k)
        y.at[k] = round_to<{element}>((load(e.at[k]) - m.mean) * inverse * load(scale.at[k]) + load(bias.at[k]));
      write<{element}, V>(static_cast<{element}*>(a.out[0]) + first, place_of(a, i), y);
    });
    if (length > 0 && threadIdx.x % L == 0) {
      if (a.out[1]) static_cast<float*>(a.out[1])[row] = m.mean;
      if (a.out[2]) static_cast<float*>(a.out[2])[row] = inverse;
    }
  }
}
)text";
/// How the rows of an operator lie.
struct RowPlaces {
  std::string_view first, place, parameters;
};
inline constexpr RowPlaces kLayer = {"row * a.length", "i", "return read<{parameter}, V>(values, i);"};
/// Rows are groups of channels: `groups` for each image, whose planes are `plane` elements.
inline constexpr RowPlaces kGroup = {"row * a.length", "i", R"text(
  const {parameter} one = values[row % a.groups * (a.length / a.plane) + (i64)(({position})i / ({position})a.plane)];
  Vector<{parameter}, V> all;
#pragma unroll
  for (int k = 0; k < V; ++k) all.at[k] = one;
  return all;)text"};
/// The channels of a place beside each other, those of a group among them; `channels` of a group.
inline constexpr RowPlaces kGroupTogether = {
    "row / a.groups * a.groups * a.length + row % a.groups * (a.length / a.plane)",
    "(i64)(({position})i / ({position})(a.length / a.plane)) * (a.length / a.plane * a.groups) + ({position})i % "
    "({position})(a.length / a.plane)",
    "return read<{parameter}, V>(values, row % a.groups * (a.length / a.plane) + ({position})i % ({position})(a.length "
    "/ a.plane));"};

/// The gradient of the input, of `chunk` rows for each of `groups` blocks. To scratch go the sums of each block for the
/// gradients of scale and bias, [groups, 2, length], where {sums}; or else mean and inverse deviation of every row.
inline constexpr std::string_view kLayerNormGradText = R"text(
/// Adds up what the rows of a block gave for its columns, and writes it.
static __device__ __forceinline__ void write_columns(float* to, i64 length, const float (&sums)[P > 0 ? P : 1][V]) {
  __shared__ float of_rows[R][L * V];
#pragma unroll
  for (int p = 0; p < P; ++p) {
    __syncthreads();  // the sums before have been read
#pragma unroll
    for (int k = 0; k < V; ++k) of_rows[threadIdx.x / L][threadIdx.x % L * V + k] = sums[p][k];
    __syncthreads();
    for (int c = threadIdx.x; c < L * V && p * L * V + c < length; c += 256) {
      float sum = 0;
#pragma unroll
      for (int r = 0; r < R; ++r) sum += of_rows[r][c];
      to[p * L * V + c] = sum;
    }
  }
}
extern "C" __global__ void __launch_bounds__(256) layer_norm_grad(const __grid_constant__ NormalizationArguments a) {
  typedef Vector<{parameter}, V> Parameters;
  const float count = (float)a.length;
  for (i64 group = blockIdx.x; group < a.groups; group += gridDim.x) {
    float scale_sums[P > 0 ? P : 1][V] = {}, bias_sums[P > 0 ? P : 1][V] = {};
    for (i64 done = 0; done < a.chunk; done += R) {
      const i64 row = group * a.chunk + done + threadIdx.x / L;
      const i64 length = row < a.rows ? a.length : 0, first = row < a.rows ? row * a.length : 0;
      Pieces x, dy;
      dy.begin(a, static_cast<const {element}*>(a.in[0]) + first, length);
      x.begin(a, static_cast<const {element}*>(a.in[1]) + first, length);
      const Moments m = moments_of(a, x, length);
      const float inverse = 1.0f / sqrtf(m.variance + a.epsilon);
      float along = 0, product = 0;
      for_pieces(length, [&](int p, i64 i) {
        const Elements e = x.at(a, p, i), d = dy.at(a, p, i);
        const Parameters scale = read<{parameter}, V>(a.in[2], i);
#pragma unroll
        for (int k = 0; k < V; ++k) {
          const float g = load(d.at[k]) * load(scale.at[k]), normalized = (load(e.at[k]) - m.mean) * inverse;
          along += g;
          product += g * normalized;
          if (!{sums}) continue;
          scale_sums[p][k] += load(d.at[k]) * normalized;
          bias_sums[p][k] += load(d.at[k]);
        }
      });
      const float mean_g = row_sum(along) / count, mean_product = row_sum(product) / count;
      if (a.out[0])
        for_pieces(length, [&](int p, i64 i) {
          const Elements e = x.at(a, p, i), d = dy.at(a, p, i);
          const Parameters scale = read<{parameter}, V>(a.in[2], i);
          Elements dx;
#pragma unroll
          for (int k = 0; k < V; ++k)
            dx.at[k] = round_to<{element}>(inverse * (load(d.at[k]) * load(scale.at[k]) - mean_g -
                                                      (load(e.at[k]) - m.mean) * inverse * mean_product));
          write<{element}, V>(static_cast<{element}*>(a.out[0]) + first, i, dx);
        });
      if ({sums} || length == 0 || threadIdx.x % L > 0) continue;
      static_cast<float*>(a.scratch)[2 * row] = m.mean;
      static_cast<float*>(a.scratch)[2 * row + 1] = inverse;
    }
    if (!{sums}) continue;
    float* sums = static_cast<float*>(a.scratch) + group * 2 * a.length;
    write_columns(sums, a.length, scale_sums);
    write_columns(sums + a.length, a.length, bias_sums);
  }
}
)text";

/// The gradients of scale and bias: 32 columns for a block, eight threads for each, which take every eighth row.
inline constexpr std::string_view kLayerNormGradColumnsText = R"text(
extern "C" __global__ void __launch_bounds__(256) layer_norm_grad_columns(
    const __grid_constant__ NormalizationArguments a) {
  __shared__ float of_lanes[2][8][32];
  const {element}* dy = static_cast<const {element}*>(a.in[0]);
  const {element}* x = static_cast<const {element}*>(a.in[1]);
  const float* kept = static_cast<const float*>(a.scratch);
  const int lane = threadIdx.x / 32, within = threadIdx.x % 32;
  for (i64 first = (i64)blockIdx.x * 32; first < a.length; first += (i64)gridDim.x * 32) {
    const i64 column = first + within;
    float sums[2] = {};
    if (column < a.length && {sums}) {
#pragma unroll 4
      for (i64 group = lane; group < a.groups; group += 8)
        for (int which = 0; which < 2; ++which) sums[which] += kept[(2 * group + which) * a.length + column];
    } else if (column < a.length) {
      for (i64 row = lane; row < a.rows; row += 8) {
        const float g = load(dy[row * a.length + column]);
        sums[0] += g * ((load(x[row * a.length + column]) - kept[2 * row]) * kept[2 * row + 1]);
        sums[1] += g;
      }
    }
    __syncthreads();  // the sums before have been read
    for (int which = 0; which < 2; ++which) of_lanes[which][lane][within] = sums[which];
    __syncthreads();
    if (lane < 2 && column < a.length && a.out[1 + lane]) {
      float sum = 0;
      for (int other = 0; other < 8; ++other) sum += of_lanes[lane][other][within];
      static_cast<{parameter}*>(a.out[1 + lane])[column] = round_to<{parameter}>(sum);
    }
  }
}
)text";

}  // namespace halfstep::cudnn
