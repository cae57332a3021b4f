// One layer of cuDNN's recurrent networks on the CPU, in double, from the tensors, the weight space and the reserve
// that calls give.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cudnn.h>

#include "tests/executors/cudnn/emulation/numbers.h"
#include "tests/executors/cudnn/emulation/rnn_cells.h"
#include "tests/executors/cudnn/emulation/rnn_weights.h"

struct cudnnRNNStruct {
  cudnnRNNMode_t mode = CUDNN_RNN_RELU;
  emulation::RnnWeights weights{};
  halfstep::DType type = halfstep::DType::undefined;
  bool is_rounded = false;  ///< operands of products to TF32

  std::size_t weight_bytes() const { return halfstep::bytes_of(type, static_cast<std::size_t>(weights.count())); }
};
struct cudnnRNNDataStruct {
  halfstep::DType type = halfstep::DType::undefined;
  bool batch_first = false;
  std::int64_t steps = 0, batch = 0, features = 0;

  bool operator==(const cudnnRNNDataStruct&) const = default;
  std::size_t bytes() const { return halfstep::bytes_of(type, static_cast<std::size_t>(steps * batch * features)); }
  std::int64_t row(std::int64_t t, std::int64_t n) const {
    return (batch_first ? n * steps + t : t * batch + n) * features;
  }
};

namespace emulation {

/// The head of the reserve: what of, and which call has written it last. The same memory with other operands is not the
/// reserve of that forward pass.
struct RnnMark {
  enum Stage : std::uint64_t { forward = 0x5eed0001, data = 0x5eed0002 };
  std::uint64_t stage, x, y, h0, c0, weights;
};

/// As tensor cores read f32.
double in_tf32(double x);

/// One layer's operands, as calls give them.
struct RnnLayer {
  cudnnRNNStruct rnn;
  cudnnRNNDataStruct x_at, y_at;
  const void *x = nullptr, *h0 = nullptr, *c0 = nullptr, *weights = nullptr;
  void* y = nullptr;
  std::byte* reserve = nullptr;

  std::int64_t gates() const { return rnn.weights.gates; }
  std::int64_t hidden() const { return rnn.weights.hidden; }
  std::int64_t steps() const { return x_at.steps; }
  std::int64_t batch() const { return x_at.batch; }
  std::size_t state_bytes() const {
    return halfstep::bytes_of(rnn.type, static_cast<std::size_t>(rnn.weights.directions * batch() * hidden()));
  }

  double number(const void* p, std::int64_t i) const { return p ? load(rnn.type, p, i) : 0; }
  /// As an operand of a product.
  double factor(const void* p, std::int64_t i) const { return rnn.is_rounded ? in_tf32(number(p, i)) : number(p, i); }
  double matrix(std::int64_t d, std::int64_t linear, std::int64_t row, std::int64_t column) const {
    const std::int64_t columns = linear < gates() ? rnn.weights.inputs : hidden();
    return factor(weights, rnn.weights.matrix(d, linear) + row * columns + column);
  }
  double bias(std::int64_t d, std::int64_t linear, std::int64_t row) const {
    return rnn.weights.has_bias ? number(weights, rnn.weights.bias(d, linear) + row) : 0;
  }

  /// Step s of a direction, in its own order, in that of x and y.
  std::int64_t time(std::int64_t d, std::int64_t s) const { return d == 1 ? steps() - 1 - s : s; }
  std::int64_t state_place(std::int64_t d, std::int64_t n, std::int64_t k) const {
    return (d * batch() + n) * hidden() + k;
  }
  std::int64_t y_place(std::int64_t d, std::int64_t s, std::int64_t n, std::int64_t k) const {
    return y_at.row(time(d, s), n) + d * hidden() + k;
  }
  const void* before(std::int64_t s) const { return s == 0 ? h0 : y; }
  std::int64_t before_place(std::int64_t d, std::int64_t s, std::int64_t n, std::int64_t k) const {
    return s == 0 ? state_place(d, n, k) : y_place(d, s - 1, n, k);
  }

  /// In the reserve, of a unit at a step: gates, c or a GRU's last sum over the state, and the gradients of both sums.
  std::int64_t unit_size() const { return 3 * gates() + 1; }
  std::size_t reserve_bytes() const {
    return sizeof(RnnMark) + sizeof(double) * static_cast<std::size_t>(rnn.weights.directions * steps() * batch() *
                                                                       hidden() * unit_size());
  }
  double* unit(std::int64_t d, std::int64_t s, std::int64_t n, std::int64_t k) const {
    return reinterpret_cast<double*>(reserve + sizeof(RnnMark)) +
           (((d * steps() + s) * batch() + n) * hidden() + k) * unit_size();
  }
  RnnMark& mark() const { return *reinterpret_cast<RnnMark*>(reserve); }

  template <class F>
  void for_each_unit(const F& f) const {
    for (std::int64_t n = 0; n < batch(); ++n)
      for (std::int64_t k = 0; k < hidden(); ++k) f(n, k);
  }
  /// The unit as the forward pass left it.
  RnnUnit unit_of(std::int64_t d, std::int64_t s, std::int64_t n, std::int64_t k) const {
    const double* const kept = unit(d, s, n, k);
    RnnUnit u{.from_input = Numbers(4), .from_state = Numbers(4)};
    u.h0 = number(before(s), before_place(d, s, n, k));
    u.c0 = s == 0 ? number(c0, state_place(d, n, k)) : unit(d, s - 1, n, k)[gates()];
    u.gates.assign(kept, kept + gates());
    u.c = u.from_state[2] = kept[gates()];
    return u;
  }
};

/// The forward pass, which leaves the reserve; the last states to h and c, where these are not null.
void run_forward(const RnnLayer& layer, void* h, void* c);

struct RnnDataGradients {
  const void *dy, *dh_last, *dc_last;
  void *dx, *dh, *dc;
};

/// The gradients of the data, from the reserve of a forward pass with the same operands, which they change.
void run_data(const RnnLayer& layer, const RnnDataGradients& to);
/// Adds the gradients of the weights, from the reserve that the gradients of the data have left.
void run_weights(const RnnLayer& layer, void* to);

}  // namespace emulation
