// Rows of a tensor that indices choose, and what flows back to them.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// Gather along an axis.
// clang-format off
HALFSTEP_SHARED_TEXT(kGatherArgumentsText,
struct GatherArguments {
  const void* data;
  const void* indices;
  void* result;
  long long count;
  long long index_count;
  long long extent;
  long long inner;
};)
// clang-format on

/// Of [outer, extent, inner] the elements [outer, index, inner]. An index out of range, for which no exception can be
/// raised, gives NaN, or -1.
inline constexpr std::string_view kGatherText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather(const __grid_constant__ GatherArguments a) {
  typedef {position} Position;
  typedef {element} Element;
  const Position step = (Position)gridDim.x * blockDim.x;
  const Position inner = (Position)a.inner, indices = (Position)a.index_count;
  for (Position i = (Position)blockIdx.x * blockDim.x + threadIdx.x; i < (Position)a.count; i += step) {
    const Position row = i / inner, outer = row / indices;
    long long k = static_cast<const {index}*>(a.indices)[row - outer * indices];
    if (k < 0) k += a.extent;
    Element value = {missing};
    if (k >= 0 && k < a.extent)
      value = static_cast<const Element*>(a.data)[((long long)outer * a.extent + k) * a.inner + (long long)(i - row * inner)];
    static_cast<Element*>(a.result)[i] = value;
  }
}
)text";

/// The gradient of a Gather, from indices in ascending order (`keys`) and where each stood (`places`): rows
/// [outer, place, inner] of dy are added up to rows [outer, index, inner] of dx, in the order in which they stood. The
/// sorted indices are cut into `chunks`; of an index that stands in several, the sum of each is `partial`,
/// [outer, chunks, 2, inner]: first that of the index which began before the chunk, then of the one that goes on
/// behind.
// clang-format off
HALFSTEP_SHARED_TEXT(kGatherGradArgumentsText,
struct GatherGradArguments {
  static constexpr int kChunk = 32;
  const void* dy;
  const void* indices;
  void* dx;
  int* keys;
  const int* places;
  float* partial;
  long long count;
  long long chunks;
  long long outer;
  long long extent;
  long long inner;
};)
// clang-format on

/// The indices of a Gather, those that are out of range as `extent`.
inline constexpr std::string_view kGatherKeysText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_keys(const __grid_constant__ GatherGradArguments a) {
  const i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step) {
    i64 k = static_cast<const {index}*>(a.indices)[i];
    if (k < 0) k += a.extent;
    a.keys[i] = k < 0 || k >= a.extent ? (int)a.extent : (int)k;
  }
}
)text";

/// V = {vector} elements by each thread.
inline constexpr std::string_view kGatherGradText = R"text(
constexpr int V = {vector};
typedef Vector<{element}, V> Elements;
struct Chunk {
  i64 outer, first, last;
  float* partial;
};
static __device__ __forceinline__ Chunk chunk_of(const GatherGradArguments& a, i64 number) {
  Chunk c;
  c.outer = number / a.chunks;
  c.first = (number - c.outer * a.chunks) * GatherGradArguments::kChunk;
  c.last = (c.first + GatherGradArguments::kChunk < a.count ? c.first + GatherGradArguments::kChunk : a.count) - 1;
  c.partial = a.partial + number * 2 * a.inner;
  return c;
}
/// Whether the index at place m of the sorted ones is the one before, or behind.
static __device__ __forceinline__ bool goes_on(const GatherGradArguments& a, i64 m) {
  return m >= 0 && m + 1 < a.count && a.keys[m] == a.keys[m + 1];
}
static __device__ __forceinline__ void write_row(const GatherGradArguments& a, i64 outer, i64 k, i64 i,
                                                 const float (&sum)[V]) {
  Elements dx;
#pragma unroll
  for (int v = 0; v < V; ++v) dx.at[v] = round_to<{element}>(sum[v]);
  write<{element}, V>(a.dx, (outer * a.extent + k) * a.inner + i, dx);
}
)text";

inline constexpr std::string_view kGatherGradChunksText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_grad(const __grid_constant__ GatherGradArguments a) {
  for (i64 number = blockIdx.x; number < a.chunks * a.outer; number += gridDim.x) {
    const Chunk c = chunk_of(a, number);
    for (i64 i = (i64)threadIdx.x * V; i < a.inner; i += 256 * V) {
      bool began_here = !goes_on(a, c.first - 1);
      float sum[V] = {};
      for (i64 m = c.first; m <= c.last && a.keys[m] < a.extent; ++m) {
        const Elements dy = read<{element}, V>(a.dy, (c.outer * a.count + a.places[m]) * a.inner + i);
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] += load(dy.at[v]);
        const bool ends = !goes_on(a, m);
        if (!ends && m < c.last) continue;
        if (ends && began_here) {
          write_row(a, c.outer, a.keys[m], i, sum);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) c.partial[(began_here ? a.inner : 0) + i + v] = sum[v];
        }
        began_here = true;
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] = 0;
      }
    }
  }
}
)text";

/// Of indices that stand in several chunks: by the block of the first of these.
inline constexpr std::string_view kGatherGradJoinText = R"text(
extern "C" __global__ void __launch_bounds__(256) gather_grad_join(const __grid_constant__ GatherGradArguments a) {
  for (i64 number = blockIdx.x; number < a.chunks * a.outer; number += gridDim.x) {
    const Chunk c = chunk_of(a, number);
    const i64 k = a.keys[c.last];
    const bool began_before = a.keys[c.first] == k && goes_on(a, c.first - 1);
    if (k >= a.extent || began_before || !goes_on(a, c.last)) continue;
    for (i64 i = (i64)threadIdx.x * V; i < a.inner; i += 256 * V) {
      float sum[V];
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] = c.partial[a.inner + i + v];
      i64 next = number;
      do {
        const Chunk more = chunk_of(a, ++next);
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] += more.partial[i + v];
      } while (a.keys[chunk_of(a, next).last] == k && goes_on(a, chunk_of(a, next).last));
      write_row(a, c.outer, k, i, sum);
    }
  }
}
)text";

}  // namespace halfstep::cudnn
