// Attention and its gradient without a matrix of scores in memory: tiles of rows in shared memory, a warp for some rows
// of a tile, a lane for each of 32 rows of the other side. All sums are taken in one order.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// A view is an offset and strides along batch, heads, members of a group and rows; the mask's has one along keys, too.
/// `heads` of keys, `members` of queries' heads for each. `vectors`: rows begin where 16 bytes can be read at once.
// clang-format off
HALFSTEP_SHARED_TEXT(kAttentionArgumentsText,
struct AttentionArguments {
  const void* q;
  const void* k;
  const void* v;
  const void* mask;
  const void* dy;
  void* y;
  float* statistics;
  float* delta;
  void* dq;
  void* dk;
  void* dv;
  long long q_view[5];
  long long k_view[5];
  long long v_view[5];
  long long y_view[5];
  long long mask_view[6];
  long long batch;
  long long heads;
  long long members;
  int queries;
  int keys;
  float scale;
  int is_causal;
  int vectors;
};)
// clang-format on

/// Elements are {element}, those of the mask {mask}; queries and keys are {head} wide, values {value_head}; a warp has
/// {rows} rows, and {vector} elements are read at once.
inline constexpr std::string_view kAttentionCommonText = R"text(
constexpr int kHead = {head}, kValueHead = {value_head}, kRows = {rows}, kVector = {vector};
constexpr int kTile = 8 * kRows;  // rows of a block
constexpr int kColumns = 64, kPitch = kColumns + 1;
static __device__ constexpr int slots(int width) { return 2 * ((width + kColumns - 1) / kColumns); }

static __device__ __forceinline__ float never() { return -__uint_as_float(0x7f800000u); }
static __device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
static __device__ __forceinline__ float greater(float a, float b) { return a > b || a != a ? a : b; }  // NaN, if one is
static __device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
static __device__ __forceinline__ float warp_greatest(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = greater(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

struct Place { i64 batch, head, member; };
// Of head `n` of the queries', counted over batches, heads and members.
static __device__ __forceinline__ Place place_of(const AttentionArguments& a, i64 n) {
  Place p;
  p.member = n % a.members;
  p.head = n / a.members % a.heads;
  p.batch = n / a.members / a.heads;
  return p;
}
static __device__ __forceinline__ i64 start(const long long* view, const Place& p) {
  return view[0] + p.batch * view[1] + p.head * view[2] + p.member * view[3];
}
static __device__ __forceinline__ const {element}* rows_at(const void* tensor, const long long* view, const Place& p,
                                                           int row) {
  return static_cast<const {element}*>(tensor) + start(view, p) + row * (i64)view[4];
}

// Columns from `first` on of `there` rows, widened; 0 where there is none.
template <int Rows, int Columns, int Width, int Pitch, int V>
static __device__ __forceinline__ void stage_by(float* to, const {element}* from, i64 stride, int there, int first) {
  constexpr int kPerRow = (Columns + V - 1) / V;
#pragma unroll 1
  for (int i = threadIdx.x; i < Rows * kPerRow; i += 256) {
    const int row = i / kPerRow, column = i % kPerRow * V;
    const bool is_there = row < there && first + column < Width;
    Vector<{element}, V> x;
    if (is_there) x = read<{element}, V>(from + row * stride, first + column);
#pragma unroll
    for (int k = 0; k < V; ++k) to[row * Pitch + column + k] = is_there ? load(x.at[k]) : 0.0f;
  }
}
template <int Rows, int Columns, int Width, int Pitch>
static __device__ __forceinline__ void stage(float* to, const {element}* from, i64 stride, int there, int first,
                                             int vectors) {
  if (kVector > 1 && vectors)
    stage_by<Rows, Columns, Width, Pitch, kVector>(to, from, stride, there, first);
  else
    stage_by<Rows, Columns, Width, Pitch, 1>(to, from, stride, there, first);
}

// The products of this warp's rows in `tile` with row `lane` of those at `from`.
template <int Width>
static __device__ __forceinline__ void multiply(float (&s)[kRows], const float* tile, const {element}* from, i64 stride,
                                                int there, float* chunk, int vectors) {
  const int lane = threadIdx.x % 32;
  const float* own = tile + threadIdx.x / 32 * kRows * (Width + 1);
#pragma unroll
  for (int r = 0; r < kRows; ++r) s[r] = 0;
#pragma unroll 1
  for (int first = 0; first < Width; first += kColumns) {
    __syncthreads();
    stage<32, kColumns, Width, kPitch>(chunk, from, stride, there, first, vectors);
    __syncthreads();
    const int columns = least(kColumns, Width - first);
#pragma unroll 8
    for (int d = 0; d < columns; ++d) {
      const float x = chunk[lane * kPitch + d];
#pragma unroll
      for (int r = 0; r < kRows; ++r) s[r] += own[r * (Width + 1) + first + d] * x;
    }
  }
}

// Adds the rows at `from`, each with its weight, to the sums of this warp's rows: column 32 n + lane in slot n.
template <int Width>
static __device__ __forceinline__ void accumulate(float (&sums)[kRows][slots(Width)], const float* weights,
                                                  const {element}* from, i64 stride, int there, float* chunk,
                                                  int vectors) {
  const int lane = threadIdx.x % 32;
  const float* own = weights + threadIdx.x / 32 * kRows * 33;
#pragma unroll
  for (int c = 0; c < slots(Width) / 2; ++c) {
    __syncthreads();
    stage<32, kColumns, Width, kPitch>(chunk, from, stride, there, kColumns * c, vectors);
    __syncthreads();
#pragma unroll 4
    for (int j = 0; j < 32; ++j) {
      const float x = chunk[j * kPitch + lane], y = chunk[j * kPitch + 32 + lane];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        sums[r][2 * c] += own[r * 33 + j] * x;
        sums[r][2 * c + 1] += own[r * 33 + j] * y;
      }
    }
  }
}
template <int Width>
static __device__ __forceinline__ void clear(float (&sums)[kRows][slots(Width)]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int n = 0; n < slots(Width); ++n) sums[r][n] = 0;
}
// One of this warp's rows, times a factor.
template <int Width>
static __device__ __forceinline__ void put(void* tensor, const long long* view, const Place& p, int row,
                                           const float (&sums)[slots(Width)], float factor) {
  {element}* to = static_cast<{element}*>(tensor) + start(view, p) + row * (i64)view[4];
#pragma unroll
  for (int n = 0; n < slots(Width); ++n) {
    const int column = 32 * n + threadIdx.x % 32;
    if (column < Width) to[column] = round_to<{element}>(sums[n] * factor);
  }
}

// What key j is to query i, from their product; never() where it is hidden.
static __device__ __forceinline__ float score(const AttentionArguments& a, const Place& p, int i, int j, float product) {
  if (i >= a.queries || j >= a.keys || (a.is_causal && j > i)) return never();
  float s = product * a.scale;
  if (a.mask)
    s += load(static_cast<const {mask}*>(a.mask)[start(a.mask_view, p) + i * (i64)a.mask_view[4] +
                                                 j * (i64)a.mask_view[5]]);
  return s;
}
)text";

/// The greatest score so far, and the sum of exponentials relative to it, are carried along the keys.
inline constexpr std::string_view kAttentionText = R"text(
extern "C" __global__ void __launch_bounds__(256) attention(const __grid_constant__ AttentionArguments a) {
  __shared__ float tile[kTile * (kHead + 1)], chunk[32 * kPitch], weights[kTile * 33];
  const int lane = threadIdx.x % 32, own = threadIdx.x / 32 * kRows;
  const int tiles = (a.queries + kTile - 1) / kTile;
  for (i64 block = blockIdx.x; block < a.batch * a.heads * a.members * tiles; block += gridDim.x) {
    const i64 n = block / tiles;
    const Place at = place_of(a, n);
    const int first = (int)(block - n * tiles) * kTile;
    __syncthreads();  // the tile before has been read
    stage<kTile, kHead, kHead, kHead + 1>(tile, rows_at(a.q, a.q_view, at, first), a.q_view[4], a.queries - first, 0,
                                          a.vectors);
    float sums[kRows][slots(kValueHead)], top[kRows], total[kRows], s[kRows];
    clear<kValueHead>(sums);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      top[r] = never();
      total[r] = 0;
    }
    const int seen = a.is_causal ? least(a.keys, first + kTile) : a.keys;
    for (int key = 0; key < seen; key += 32) {
      multiply<kHead>(s, tile, rows_at(a.k, a.k_view, at, key), a.k_view[4], a.keys - key, chunk, a.vectors);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float x = score(a, at, first + own + r, key + lane, s[r]), before = top[r];
        top[r] = greater(before, warp_greatest(x));
        const bool is_none = top[r] == never();  // all are hidden so far
        const float p = is_none || x == never() ? 0.0f : expf(x - top[r]);
        const float kept = is_none ? 1.0f : expf(before - top[r]);
        total[r] = total[r] * kept + warp_sum(p);
#pragma unroll
        for (int c = 0; c < slots(kValueHead); ++c) sums[r][c] *= kept;
        weights[(own + r) * 33 + lane] = p;
      }
      __syncwarp();
      accumulate<kValueHead>(sums, weights, rows_at(a.v, a.v_view, at, key), a.v_view[4], a.keys - key, chunk,
                             a.vectors);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int i = first + own + r;
      if (i >= a.queries) continue;
      put<kValueHead>(a.y, a.y_view, at, i, sums[r], 1.0f / total[r]);  // NaN where all are hidden
      if (lane == 0 && a.statistics)
        a.statistics[n * a.queries + i] = total[r] == 0.0f ? __uint_as_float(0x7fc00000u) : top[r] + logf(total[r]);
    }
  }
}
)text";

/// `delta` is the mean of the gradients of a query's probabilities. Where the result is given in f32 it is the product
/// of the result and its gradient; else it is summed over the keys, as a result in half would be too coarse.
inline constexpr std::string_view kAttentionGradQueriesText = R"text(
extern "C" __global__ void __launch_bounds__(256, 2) attention_grad_queries(
    const __grid_constant__ AttentionArguments a) {
  __shared__ float tile[kTile * (kHead + 1)], gradients[kTile * (kValueHead + 1)], chunk[32 * kPitch],
      weights[kTile * 33];
  const int lane = threadIdx.x % 32, own = threadIdx.x / 32 * kRows;
  const int tiles = (a.queries + kTile - 1) / kTile;
  for (i64 block = blockIdx.x; block < a.batch * a.heads * a.members * tiles; block += gridDim.x) {
    const i64 n = block / tiles;
    const Place at = place_of(a, n);
    const int first = (int)(block - n * tiles) * kTile;
    __syncthreads();  // the tiles before have been read
    stage<kTile, kHead, kHead, kHead + 1>(tile, rows_at(a.q, a.q_view, at, first), a.q_view[4], a.queries - first, 0,
                                          a.vectors);
    stage<kTile, kValueHead, kValueHead, kValueHead + 1>(gradients, rows_at(a.dy, a.y_view, at, first), a.y_view[4],
                                                         a.queries - first, 0, a.vectors);
    float sums[kRows][slots(kHead)], s[kRows], dp[kRows], logarithm[kRows], delta[kRows];
    clear<kHead>(sums);
    const int seen = a.is_causal ? least(a.keys, first + kTile) : a.keys;
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int i = first + own + r;
      logarithm[r] = i < a.queries ? a.statistics[n * a.queries + i] : 0.0f;
      delta[r] = 0;
      if (!a.y || i >= a.queries) continue;
      const {element}* y = rows_at(a.y, a.y_view, at, i);
      for (int d = lane; d < kValueHead; d += 32) delta[r] += gradients[(own + r) * (kValueHead + 1) + d] * load(y[d]);
    }
    for (int key = 0; !a.y && key < seen; key += 32) {
      multiply<kHead>(s, tile, rows_at(a.k, a.k_view, at, key), a.k_view[4], a.keys - key, chunk, a.vectors);
      multiply<kValueHead>(dp, gradients, rows_at(a.v, a.v_view, at, key), a.v_view[4], a.keys - key, chunk, a.vectors);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int i = first + own + r, j = key + lane;
        if (i < a.queries && j < a.keys && !(a.is_causal && j > i))
          delta[r] += expf(score(a, at, i, j, s[r]) - logarithm[r]) * dp[r];
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      delta[r] = warp_sum(delta[r]);
      if (lane == 0 && first + own + r < a.queries) a.delta[n * a.queries + first + own + r] = delta[r];
    }
    for (int key = 0; a.dq && key < seen; key += 32) {
      const {element}* k = rows_at(a.k, a.k_view, at, key);
      multiply<kHead>(s, tile, k, a.k_view[4], a.keys - key, chunk, a.vectors);
      multiply<kValueHead>(dp, gradients, rows_at(a.v, a.v_view, at, key), a.v_view[4], a.keys - key, chunk, a.vectors);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int i = first + own + r;
        const float x = score(a, at, i, key + lane, s[r]);
        float ds = 0;
        if (i < a.queries && key + lane < a.keys && !(a.is_causal && key + lane > i))
          ds = expf(x - logarithm[r]) * (dp[r] - delta[r]) * a.scale;
        weights[(own + r) * 33 + lane] = ds;
      }
      __syncwarp();
      accumulate<kHead>(sums, weights, k, a.k_view[4], a.keys - key, chunk, a.vectors);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (a.dq && first + own + r < a.queries) put<kHead>(a.dq, a.q_view, at, first + own + r, sums[r], 1.0f);
  }
}
)text";

/// A tile of keys and values, and all queries that see them.
inline constexpr std::string_view kAttentionGradKeysText = R"text(
extern "C" __global__ void __launch_bounds__(256) attention_grad_keys(const __grid_constant__ AttentionArguments a) {
  __shared__ float tile[kTile * (kHead + 1)], values[kTile * (kValueHead + 1)], chunk[32 * kPitch],
      weights[kTile * 33];
  const int lane = threadIdx.x % 32, own = threadIdx.x / 32 * kRows;
  const int tiles = (a.keys + kTile - 1) / kTile;
  for (i64 block = blockIdx.x; block < a.batch * a.heads * tiles; block += gridDim.x) {
    const i64 head = block / tiles;
    Place at = place_of(a, head * a.members);
    const int first = (int)(block - head * tiles) * kTile;
    __syncthreads();  // the tiles before have been read
    stage<kTile, kHead, kHead, kHead + 1>(tile, rows_at(a.k, a.k_view, at, first), a.k_view[4], a.keys - first, 0,
                                          a.vectors);
    stage<kTile, kValueHead, kValueHead, kValueHead + 1>(values, rows_at(a.v, a.v_view, at, first), a.v_view[4],
                                                         a.keys - first, 0, a.vectors);
    float dk[kRows][slots(kHead)], dv[kRows][slots(kValueHead)], s[kRows], dp[kRows];
    clear<kHead>(dk);
    clear<kValueHead>(dv);
    for (at.member = 0; at.member < a.members; ++at.member) {
      const i64 n = head * a.members + at.member;
      for (int query = a.is_causal ? first / 32 * 32 : 0; query < a.queries; query += 32) {
        const {element}* q = rows_at(a.q, a.q_view, at, query);
        const {element}* dy = rows_at(a.dy, a.y_view, at, query);
        multiply<kHead>(s, tile, q, a.q_view[4], a.queries - query, chunk, a.vectors);
        multiply<kValueHead>(dp, values, dy, a.y_view[4], a.queries - query, chunk, a.vectors);
        const int i = query + lane;
        const float logarithm = i < a.queries ? a.statistics[n * a.queries + i] : 0.0f;
        const float delta = i < a.queries ? a.delta[n * a.queries + i] : 0.0f;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const int j = first + own + r;
          const bool is_seen = i < a.queries && j < a.keys && !(a.is_causal && j > i);
          const float p = is_seen ? expf(score(a, at, i, j, s[r]) - logarithm) : 0.0f;
          dp[r] = is_seen ? p * (dp[r] - delta) * a.scale : 0.0f;
          weights[(own + r) * 33 + lane] = p;
        }
        __syncwarp();
        accumulate<kValueHead>(dv, weights, dy, a.y_view[4], a.queries - query, chunk, a.vectors);
        __syncwarp();
#pragma unroll
        for (int r = 0; r < kRows; ++r) weights[(own + r) * 33 + lane] = dp[r];
        __syncwarp();
        accumulate<kHead>(dk, weights, q, a.q_view[4], a.queries - query, chunk, a.vectors);
      }
    }
    at.member = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + own + r >= a.keys) continue;
      if (a.dk) put<kHead>(a.dk, a.k_view, at, first + own + r, dk[r], 1.0f);
      if (a.dv) put<kValueHead>(a.dv, a.v_view, at, first + own + r, dv[r], 1.0f);
    }
  }
}
)text";

}  // namespace halfstep::cudnn
