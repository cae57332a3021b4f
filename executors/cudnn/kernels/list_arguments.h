// Kernels over lists of tensors, which lie in device memory: one launch for all of them.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// One tensor with what goes along with it element by element, and the half copy of its first output, which may be
/// none. Its elements are cut into chunks, which are counted through the list; `vectors`: all of its addresses are
/// those of whole vectors.
// clang-format off
HALFSTEP_SHARED_TEXT(kListArgumentsText,
struct ListEntry {
  static constexpr int kIn = 8, kOut = 7;
  const void* in[kIn];
  void* out[kOut];
  void* copy;
  long long count;
  long long first_chunk;
  int vectors;
};
struct ListArguments {
  static constexpr int kScalars = 4, kChunk = 4096, kVector = 4;
  const ListEntry* tensors;
  long long tensor_count;
  long long chunks;
  const void* scalars[kScalars];
  void* partial;
  double* sums;
  void* out[2];
};)
// clang-format on

/// The tensor that a chunk is part of, and where its elements begin and end there.
inline constexpr std::string_view kListText = R"text(
struct Chunk { i64 tensor, first, last; };
static __device__ __forceinline__ Chunk chunk_at(const ListArguments& a, i64 chunk) {
  i64 low = 0, high = a.tensor_count;
  while (high - low > 1) {
    const i64 middle = (low + high) / 2;
    if (a.tensors[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle;
  }
  const ListEntry& tensor = a.tensors[low];
  Chunk c;
  c.tensor = low;
  c.first = (chunk - tensor.first_chunk) * ListArguments::kChunk;
  c.last = c.first + ListArguments::kChunk < tensor.count ? c.first + ListArguments::kChunk : tensor.count;
  return c;
}
)text";

/// The sum of squares of all elements, and whether they are finite.
inline constexpr std::string_view kSquaresText = R"text(
struct Accumulator { double sum; int is_finite, unused; };
static __device__ __forceinline__ Accumulator identity() {
  Accumulator none;
  none.sum = 0;
  none.is_finite = 1;
  none.unused = 0;
  return none;
}
static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) {
  a.sum += b.sum;
  a.is_finite &= b.is_finite;
  return a;
}
)text";

inline constexpr std::string_view kSquaresOfChunksText = R"text(
extern "C" __global__ void __launch_bounds__(256) squares(const __grid_constant__ ListArguments a) {
  constexpr int V = ListArguments::kVector;
  for (i64 chunk = blockIdx.x; chunk < a.chunks; chunk += gridDim.x) {
    const Chunk c = chunk_at(a, chunk);
    const ListEntry& tensor = a.tensors[c.tensor];
    Accumulator acc = identity();
    for (i64 i = c.first + threadIdx.x * V; i < c.last; i += 256 * V) {
      Vector<{element}, V> p;
      const int many = i + V < c.last ? V : (int)(c.last - i);
      if (many == V && tensor.vectors)
        p = read<{element}, V>(tensor.in[0], i);
      else
        for (int k = 0; k < many; ++k) p.at[k] = static_cast<const {element}*>(tensor.in[0])[i + k];
#pragma unroll
      for (int k = 0; k < V; ++k)
        if (k < many) {
          const float x = load(p.at[k]);
          acc.sum += (double)x * x;
          acc.is_finite &= x - x == 0.0f;
        }
    }
    acc = join_lanes<256>(acc);
    if (threadIdx.x == 0) static_cast<Accumulator*>(a.partial)[chunk] = acc;
  }
}
)text";

inline constexpr std::string_view kNormText = R"text(
extern "C" __global__ void __launch_bounds__(256) gradient_norm(const __grid_constant__ ListArguments a) {
  Accumulator acc = identity();
  for (i64 c = threadIdx.x; c < a.chunks; c += 256) acc = join(acc, static_cast<const Accumulator*>(a.partial)[c]);
  acc = join_lanes<256>(acc);
  if (threadIdx.x != 0) return;
  if (a.out[0]) *static_cast<float*>(a.out[0]) = (float)sqrt(acc.sum);
  if (a.out[1]) *static_cast<bool*>(a.out[1]) = acc.is_finite != 0;
}
)text";

/// GradScaler's rule: after {interval} good steps the scale grows; a step that is not finite shrinks it.
inline constexpr std::string_view kLossScaleText = R"text(
extern "C" __global__ void loss_scale(const __grid_constant__ ListArguments a) {
  float scale = *static_cast<const float*>(a.scalars[0]);
  const bool is_finite = *static_cast<const bool*>(a.scalars[2]);
  i64 good = is_finite ? *static_cast<const i64*>(a.scalars[1]) + 1 : 0;
  if (!is_finite) {
    scale *= {backoff};
  } else if (good >= {interval}) {
    scale *= {growth};
    good = 0;
  }
  scale = scale < {lowest} ? {lowest} : scale > {highest} ? {highest} : scale;
  if (a.out[0]) *static_cast<float*>(a.out[0]) = scale;
  if (a.out[1]) *static_cast<i64*>(a.out[1]) = good;
}
)text";

}  // namespace halfstep::cudnn
