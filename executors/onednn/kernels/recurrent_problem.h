// What a recurrent node asks for, and where its kernels keep what the gradient needs. Internal to its kernels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "executors/onednn/kernel.h"
#include "executors/onednn/simd/parallel.h"
#include "executors/onednn/simd/recurrent.h"

namespace halfstep::onednn::recurrent {

using Cell = simd::RecurrentCell;

inline std::size_t floats(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(float); }

struct Problem {
  Cell cell = Cell::rnn_tanh;
  DType products = DType::f32;  ///< the type that products multiply; their sums are f32
  std::int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;
  std::array<bool, 2> reverse{};
  std::int64_t share = 0;  ///< sequences that go through the steps together, in one direction

  std::int64_t rows() const { return simd::gates_of(cell) * hidden; }  ///< of one direction's W and R
  std::int64_t width() const { return directions * rows(); }
  std::int64_t pairs() const { return steps * batch; }
  std::int64_t states() const { return directions * batch * hidden; }  ///< elements, of one time
  simd::RecurrentShape shape() const { return {cell, hidden, width()}; }

  // What the way back needs, in one piece of memory: activated gates [T, N, D, G*H]; h before each step, c before each
  // step of LSTM or R h + bias of GRU's hidden gate (RNN has no such extra), and h as products take it if they are not
  // of f32, [D, T, N, H] all.
  std::int64_t kept_h() const { return pairs() * width(); }
  std::int64_t kept_extra() const { return kept_h() + steps * states(); }
  std::int64_t kept_floats() const { return kept_extra() + (has_extra() ? steps * states() : 0); }
  bool rounds() const { return products != DType::f32; }
  std::size_t kept_bytes() const { return floats(kept_floats()) + (rounds() ? product_bytes(steps * states()) : 0); }
  std::size_t product_bytes(std::int64_t count) const { return bytes_of(products, static_cast<std::size_t>(count)); }
  bool has_extra() const { return cell == Cell::lstm || cell == Cell::gru; }
  // Null when there is none.
  template <class Float>
  Float* extra(Float* kept) const {
    return has_extra() ? kept + kept_extra() : nullptr;
  }
  bf16* rounded(float* kept) const { return rounds() ? reinterpret_cast<bf16*>(kept + kept_floats()) : nullptr; }

  std::int64_t time(std::int64_t direction, std::int64_t step) const {
    return reverse[direction] ? steps - 1 - step : step;
  }
  std::int64_t gates_at(std::int64_t direction, std::int64_t time, std::int64_t n) const {
    return (time * batch + n) * width() + direction * rows();
  }
  std::int64_t state_at(std::int64_t direction, std::int64_t n) const { return (direction * batch + n) * hidden; }
  std::int64_t kept_at(std::int64_t direction, std::int64_t time, std::int64_t n) const {
    return ((direction * steps + time) * batch + n) * hidden;
  }
  std::int64_t y_at(std::int64_t direction, std::int64_t time, std::int64_t n) const {
    return time * states() + state_at(direction, n);
  }

  /// body(direction, first, count): sequences that a thread takes through all steps without waiting for others.
  template <class Body>
  void for_shares(const Body& body) const {
    const std::int64_t shares = simd::blocks_of(batch, share);
    // Roughly the time of the arithmetic, in bytes that memory would move in it.
    const std::int64_t work = pairs() * width() * (hidden / 2 + 16);
    simd::parallel_for(directions * shares, work, [&](std::int64_t i) {
      const std::int64_t first = i % shares * share;
      body(i / shares, first, std::min(share, batch - first));
    });
  }
};

/// Inputs of the operators by position; those from `dy` on belong to gradients.
struct Positions {
  std::size_t initial_c, peepholes, dy;
};
Positions positions_of(bool lstm);

/// The reason when the kernels do not do what the node asks for.
std::string make_problem(KernelContext& context, Problem& p);

}  // namespace halfstep::onednn::recurrent
