// Kernels that reduce rows, each by one group of threads.
//
// Such a functor has
//   using Accumulator             what a thread gathers
//   rows, length                  members: how many reductions, and of how many elements each
//   Accumulator identity()
//   void add(acc, row, i)         gathers element i of a row
//   void combine(acc, other)      joins two threads' gatherings
//   void finish(row, acc)         one thread of the row: writes what there is one of
//   void write(row, i, acc)       every thread: writes element i of the row (kWrites false: not called)
// Elements go to the threads round-robin and the threads' gatherings are joined in a tree, both fixed by `lanes_of`
// alone, so that the result has the same bits on every run, and on the host.
#pragma once

#include "executors/cudnn/kernels/index.h"

namespace halfstep::cudnn {

/// Threads that share a row: a warp for short rows, 256 for long ones.
HALFSTEP_HD constexpr int lanes_of(std::int64_t length) { return length <= 512 ? 32 : 256; }
inline constexpr int kMaxLanes = 256;

/// y[row] = scale * sum of the row, where row and i are places in the kept and in the reduced axes.
template <class T>
struct ReduceSum {
  using Accumulator = Compute<T>;
  static constexpr bool kWrites = false;

  const T* x;
  T* y;
  std::int64_t rows, length;
  Index kept, reduced;
  float scale;

  HALFSTEP_HD Accumulator identity() const { return 0; }
  HALFSTEP_HD void add(Accumulator& acc, std::int64_t row, std::int64_t i) const {
    acc += load(x[kept(row) + reduced(i)]);
  }
  HALFSTEP_HD void combine(Accumulator& acc, Accumulator other) const { acc += other; }
  HALFSTEP_HD void finish(std::int64_t row, Accumulator acc) const {
    if constexpr (std::is_integral_v<T>)
      y[row] = acc;
    else
      y[row] = round_to<T>(acc * scale);
  }
};

}  // namespace halfstep::cudnn
