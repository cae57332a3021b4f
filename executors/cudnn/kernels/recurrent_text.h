// Recurrent networks, a launch for every step: for networks of moderate size. Each gate's sums are taken by a warp.
#pragma once

#include "executors/cudnn/kernels/chain_arguments.h"

namespace halfstep::cudnn {

/// In scratch, in f32 and for every direction: states before and after each step, gates, and the gradients of each
/// gate's two sums.
// clang-format off
HALFSTEP_SHARED_TEXT(kRecurrentArgumentsText,
struct RecurrentArguments {
  const void* x;
  const void* w;
  const void* r;
  const void* b;
  const void* h0;
  const void* c0;
  const void* dy;
  const void* dh_last;
  const void* dc_last;
  void* y;
  void* h_last;
  void* c_last;
  void* dx;
  void* dw;
  void* dr;
  void* db;
  void* dh_first;
  void* dc_first;
  float* h;
  float* c;
  float* gate;
  float* sum;
  float* d_in;
  float* d_re;
  float* dh;
  float* dc;
  long long steps;
  long long batch;
  long long inputs;
  long long hidden;
  long long directions;
  long long x_step;
  long long x_sequence;
  long long y_step;
  long long y_direction;
  long long y_sequence;
  long long state_direction;
  long long state_sequence;
  long long direction;
  long long step;
  int is_reverse[2];
};)
// clang-format on

/// {T}: the element type; {gates}, and {states}, which is 2 where there is a cell state.
inline constexpr std::string_view kRecurrentText = R"text(
constexpr int G = {gates};
constexpr bool has_cell = {states} == 2;
typedef {T} T;
static __device__ __forceinline__ float at(const void* p, i64 i) { return load(static_cast<const T*>(p)[i]); }
static __device__ __forceinline__ void put(void* p, i64 i, float x) { static_cast<T*>(p)[i] = round_to<T>(x); }
// Step t of a direction, in its order, in that of X and Y.
static __device__ __forceinline__ i64 time_of(const RecurrentArguments& a, i64 d, i64 t) {
  return a.is_reverse[d] ? a.steps - 1 - t : t;
}
static __device__ __forceinline__ i64 state_at(const RecurrentArguments& a, i64 d, i64 n) {
  return d * a.state_direction + n * a.state_sequence;
}
// Rows in scratch: of `steps` + 1 states, and of `steps` times G gates.
static __device__ __forceinline__ i64 row_of_state(const RecurrentArguments& a, i64 d, i64 t, i64 n) {
  return ((d * (a.steps + 1) + t) * a.batch + n) * a.hidden;
}
static __device__ __forceinline__ i64 row_of_gates(const RecurrentArguments& a, i64 d, i64 t, i64 n) {
  return ((d * a.steps + t) * a.batch + n) * a.hidden * G;
}
)text";

// Each of these is one kernel's.

/// States before the first step, {h} and {c}, from the tensors {outer_h} and {outer_c}, or 0 where there are none.
/// {place} is that of a state in scratch. The gradient's come from behind.
inline constexpr std::string_view kRecurrentStatesInText = R"text(
extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ RecurrentArguments a) {
  const i64 count = a.directions * a.batch * a.hidden;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < count; i += (i64)gridDim.x * 256) {
    const i64 k = i % a.hidden, n = i / a.hidden % a.batch, d = i / a.hidden / a.batch;
    const i64 from = state_at(a, d, n) + k, to = {place};
    a.{h}[to] = a.{outer_h} ? at(a.{outer_h}, from) : 0.0f;
    if (has_cell) a.{c}[to] = a.{outer_c} ? at(a.{outer_c}, from) : 0.0f;
  }
}
)text";
/// The other way round, behind the last step.
inline constexpr std::string_view kRecurrentStatesOutText = R"text(
extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ RecurrentArguments a) {
  const i64 count = a.directions * a.batch * a.hidden;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < count; i += (i64)gridDim.x * 256) {
    const i64 k = i % a.hidden, n = i / a.hidden % a.batch, d = i / a.hidden / a.batch;
    const i64 from = {place}, to = state_at(a, d, n) + k;
    if (a.{outer_h}) put(a.{outer_h}, to, a.{h}[from]);
    if (has_cell && a.{outer_c}) put(a.{outer_c}, to, a.{c}[from]);
  }
}
)text";

/// {cell}: h, and c, from in[], re[], h0 and c0; gate[] is kept.
inline constexpr std::string_view kRecurrentStepText = R"text(
extern "C" __global__ void __launch_bounds__(256) recurrent_step(const __grid_constant__ RecurrentArguments a) {
  const int lane = threadIdx.x % 32;
  const i64 d = a.direction, t = a.step, count = a.batch * a.hidden;
  for (i64 i = (i64)blockIdx.x * 8 + threadIdx.x / 32; i < count; i += (i64)gridDim.x * 8) {
    const i64 k = i % a.hidden, n = i / a.hidden;
    const i64 before = row_of_state(a, d, t, n), x = time_of(a, d, t) * a.x_step + n * a.x_sequence;
    float in[G], re[G];
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const i64 row = d * G * a.hidden + g * a.hidden + k;
      float sum = 0, from_state = 0;
      for (i64 j = lane; j < a.inputs; j += 32) sum += at(a.w, row * a.inputs + j) * at(a.x, x + j);
      for (i64 j = lane; j < a.hidden; j += 32) from_state += at(a.r, row * a.hidden + j) * a.h[before + j];
      for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        from_state += __shfl_xor_sync(0xffffffffu, from_state, distance);
      }
      const i64 bias = d * 2 * G * a.hidden + g * a.hidden + k;
      in[g] = a.b ? sum + at(a.b, bias) : sum;
      re[g] = a.b ? from_state + at(a.b, bias + G * a.hidden) : from_state;
    }
    if (lane != 0) continue;
    const float h0 = a.h[before + k], c0 = has_cell ? a.c[before + k] : 0.0f;
    float gate[G], h = 0, c = c0;
    {cell}
    const i64 after = row_of_state(a, d, t + 1, n) + k;
    a.h[after] = h;
    if (has_cell) a.c[after] = c;
#pragma unroll
    for (int g = 0; g < G; ++g) a.gate[row_of_gates(a, d, t, n) + g * a.hidden + k] = gate[g];
    if (a.sum) a.sum[row_of_state(a, d, t, n) + k] = re[G - 1];
    if (a.y) put(a.y, time_of(a, d, t) * a.y_step + d * a.y_direction + n * a.y_sequence + k, h);
  }
}
)text";

/// {cell}: d_in[], d_re[], and dh and dc as they are for the step before but for what flows through R, from dh, dc,
/// gate[], h0, c0, c and sum.
inline constexpr std::string_view kRecurrentBackCellText = R"text(
extern "C" __global__ void __launch_bounds__(256) recurrent_back_cell(const __grid_constant__ RecurrentArguments a) {
  const i64 d = a.direction, t = a.step, count = a.batch * a.hidden;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < count; i += (i64)gridDim.x * 256) {
    const i64 k = i % a.hidden, n = i / a.hidden, carried = d * count + i, gates = row_of_gates(a, d, t, n) + k;
    float dh = a.dh[carried], dc = has_cell ? a.dc[carried] : 0.0f;
    if (a.dy) dh += at(a.dy, time_of(a, d, t) * a.y_step + d * a.y_direction + n * a.y_sequence + k);
    const i64 before = row_of_state(a, d, t, n) + k;
    const float h0 = a.h[before], c0 = has_cell ? a.c[before] : 0.0f;
    const float c = has_cell ? a.c[row_of_state(a, d, t + 1, n) + k] : 0.0f, sum = a.sum ? a.sum[before] : 0.0f;
    float gate[G], d_in[G], d_re[G];
#pragma unroll
    for (int g = 0; g < G; ++g) gate[g] = a.gate[gates + g * a.hidden];
    {cell}
#pragma unroll
    for (int g = 0; g < G; ++g) {
      a.d_in[gates + g * a.hidden] = d_in[g];
      a.d_re[gates + g * a.hidden] = d_re[g];
    }
    a.dh[carried] = dh;
    if (has_cell) a.dc[carried] = dc;
  }
}
)text";

inline constexpr std::string_view kRecurrentBackStateText = R"text(
extern "C" __global__ void __launch_bounds__(256) recurrent_back_state(const __grid_constant__ RecurrentArguments a) {
  const i64 d = a.direction, t = a.step, count = a.batch * a.hidden, rows = G * a.hidden;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < count; i += (i64)gridDim.x * 256) {
    const i64 j = i % a.hidden, n = i / a.hidden, from = row_of_gates(a, d, t, n);
    float sum = 0;
    for (i64 row = 0; row < rows; ++row) sum += at(a.r, (d * rows + row) * a.hidden + j) * a.d_re[from + row];
    a.dh[d * count + i] += sum;
  }
}
)text";

inline constexpr std::string_view kRecurrentBackInputText = R"text(
extern "C" __global__ void __launch_bounds__(256) recurrent_back_input(const __grid_constant__ RecurrentArguments a) {
  const i64 count = a.steps * a.batch * a.inputs, rows = G * a.hidden;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < count; i += (i64)gridDim.x * 256) {
    const i64 j = i % a.inputs, n = i / a.inputs % a.batch, time = i / a.inputs / a.batch;
    float sum = 0;
    for (i64 d = 0; d < a.directions; ++d) {
      const i64 from = row_of_gates(a, d, time_of(a, d, time), n);
      for (i64 row = 0; row < rows; ++row) sum += at(a.w, (d * rows + row) * a.inputs + j) * a.d_in[from + row];
    }
    put(a.dx, time * a.x_step + n * a.x_sequence + j, sum);
  }
}
)text";

/// Column j of a row of W, then of R, then the row's two biases: in the order of steps and sequences.
inline constexpr std::string_view kRecurrentBackWeightsText = R"text(
extern "C" __global__ void __launch_bounds__(256) recurrent_back_weights(const __grid_constant__ RecurrentArguments a) {
  const i64 rows = G * a.hidden, columns = a.inputs + a.hidden + 2, count = a.directions * rows * columns;
  for (i64 i = (i64)blockIdx.x * 256 + threadIdx.x; i < count; i += (i64)gridDim.x * 256) {
    const i64 line = i / columns, column = i - line * columns, d = line / rows, row = line - d * rows;
    const i64 state = column - a.inputs, bias = state - a.hidden;
    float sum = 0;
    for (i64 t = 0; t < a.steps; ++t)
      for (i64 n = 0; n < a.batch; ++n) {
        const i64 from = row_of_gates(a, d, t, n) + row;
        if (state < 0)
          sum += a.d_in[from] * at(a.x, time_of(a, d, t) * a.x_step + n * a.x_sequence + column);
        else if (bias < 0)
          sum += a.d_re[from] * a.h[row_of_state(a, d, t, n) + state];
        else
          sum += bias == 0 ? a.d_in[from] : a.d_re[from];
      }
    if (state < 0) {
      if (a.dw) put(a.dw, (d * rows + row) * a.inputs + column, sum);
    } else if (bias < 0) {
      if (a.dr) put(a.dr, (d * rows + row) * a.hidden + state, sum);
    } else if (a.db) {
      put(a.db, (d * 2 + bias) * rows + row, sum);
    }
  }
}
)text";

}  // namespace halfstep::cudnn
