// Reductions: runs of elements or of rows to f32 partial results, and how those are combined.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/reduce.cpp"
#include "executors/onednn/simd/reduce.h"

#include <limits>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

/// What a reduction starts with, how an element enters, and how lanes and partial results meet.
struct Sum {
  static constexpr bool kAdds = true;
  static constexpr float kStart = 0;
  static auto enter(auto total, auto x) { return hn::Add(total, x); }
  static auto combine(auto a, auto b) { return hn::Add(a, b); }
};
struct SumSquare {
  static constexpr bool kAdds = true;
  static constexpr float kStart = 0;
  static auto enter(auto total, auto x) { return hn::MulAdd(x, x, total); }
  static auto combine(auto a, auto b) { return hn::Add(a, b); }
};
struct Max {
  static constexpr bool kAdds = false;
  static constexpr float kStart = -std::numeric_limits<float>::infinity();
  static auto enter(auto total, auto x) { return combine(total, x); }
  static auto combine(auto a, auto b) { return hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::Gt(a, b)), a, b); }
};
struct Min {
  static constexpr bool kAdds = false;
  static constexpr float kStart = std::numeric_limits<float>::infinity();
  static auto enter(auto total, auto x) { return combine(total, x); }
  static auto combine(auto a, auto b) { return hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::Lt(a, b)), a, b); }
};

/// Lanes folded in halves, or in the CPU's own order where they are added up.
template <class Op>
float fold(V v) {
  const F32 d;
  if constexpr (Op::kAdds) return hn::GetLane(hn::SumOfLanes(d, v));
  HWY_ALIGN float values[2 * HWY_MAX_BYTES / sizeof(float)];
  for (std::int64_t half = lanes() / 2; half > 0; half /= 2) {
    hn::Store(v, d, values);
    v = Op::combine(v, hn::LoadU(d, values + half));
  }
  return hn::GetLane(v);
}

/// So few that filling vectors and folding them takes longer.
constexpr std::int64_t kFew = 16;
template <class Op, class T>
float few(const T* x, std::int64_t n) {
  const hn::CappedTag<float, 1> d;
  auto total = hn::Set(d, Op::kStart);
  for (std::int64_t i = 0; i < n; ++i) total = Op::enter(total, hn::Set(d, static_cast<float>(x[i])));
  return hn::GetLane(total);
}

/// In runs of 16 elements a lane and accumulator, so that the error grows slowly with n whatever the vectors' width.
template <class Op, class T>
float row(const void* x, std::int64_t n) {
  const T* from = static_cast<const T*>(x);
  if (n < kFew) return few<Op>(from, n);
  const std::int64_t step = lanes(), run = 64 * step;
  V result = constant(Op::kStart);
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t end = i + run < n ? i + run : n;
    V total[4] = {constant(Op::kStart), constant(Op::kStart), constant(Op::kStart), constant(Op::kStart)};
    for (; i + 4 * step <= end; i += 4 * step)
      for (int k = 0; k < 4; ++k) total[k] = Op::enter(total[k], load(from + i + k * step));
    for (int k = 0; i + step <= end; i += step, ++k) total[k] = Op::enter(total[k], load(from + i));
    if (i < end) total[3] = Op::enter(total[3], load_first(from + i, end - i, Op::kStart));
    i = end;
    const V sum = Op::combine(Op::combine(total[0], total[1]), Op::combine(total[2], total[3]));
    result = Op::combine(result, sum);
  }
  return fold<Op>(result);
}

template <class Op, class T>
void columns(const void* x, std::int64_t rows, std::int64_t stride, std::int64_t n, float* partial) {
  const T* from = static_cast<const T*>(x);
  const std::int64_t step = lanes();
  std::int64_t c = 0;
  for (; c + 4 * step <= n; c += 4 * step) {
    V total[4] = {constant(Op::kStart), constant(Op::kStart), constant(Op::kStart), constant(Op::kStart)};
    for (std::int64_t r = 0; r < rows; ++r)
      for (int k = 0; k < 4; ++k) total[k] = Op::enter(total[k], load(from + r * stride + c + k * step));
    for (int k = 0; k < 4; ++k) store(total[k], partial + c + k * step);
  }
  for_vectors(n - c, [&](std::int64_t i, auto count) {
    V total = constant(Op::kStart);
    for (std::int64_t r = 0; r < rows; ++r) total = Op::enter(total, read(from + r * stride + c + i, count));
    write(total, partial + c + i, count);
  });
}

template <class T>
void store_as(const float* x, void* y, std::int64_t n) {
  T* to = static_cast<T*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) { write(read(x + i, count), to + i, count); });
}

template <class Op>
void set_loops(DType in, ReduceKernel::Functions& functions) {
  functions.row = by_type(in, []<class T>() { return &row<Op, T>; });
  functions.columns = by_type(in, []<class T>() { return &columns<Op, T>; });
}

ReduceKernel::Functions find(ReduceOp op, DType in, DType out) {
  ReduceKernel::Functions functions;
  functions.store = by_type(out, []<class T>() { return &store_as<T>; });
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::mean:
      set_loops<Sum>(in, functions);
      break;
    case ReduceOp::sum_square:
      set_loops<SumSquare>(in, functions);
      break;
    case ReduceOp::max:
      set_loops<Max>(in, functions);
      break;
    case ReduceOp::min:
      set_loops<Min>(in, functions);
      break;
  }
  return functions;
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

namespace halfstep::simd {
HWY_EXPORT(find);

namespace {

constexpr std::int64_t kRun = 1024;     // elements of a row that are summed in f32
constexpr std::int64_t kRows = 64;      // rows of columns that are summed in f32
constexpr std::int64_t kTile = 256;     // columns at a time
constexpr std::int64_t kFewUnits = 16;  // with fewer outputs or tiles than that, threads share the runs of one

double start(ReduceOp op) {
  if (op == ReduceOp::max) return -std::numeric_limits<double>::infinity();
  if (op == ReduceOp::min) return std::numeric_limits<double>::infinity();
  return 0;
}

double combine(ReduceOp op, double total, double partial) {
  if (op == ReduceOp::max) return std::isnan(total) || total > partial ? total : partial;
  if (op == ReduceOp::min) return std::isnan(total) || total < partial ? total : partial;
  return total + partial;
}

/// The same reduction with as few axes as it takes.
ReduceShape merged(ReduceShape shape) {
  if (shape.kept0 == 1) shape = {1, 1, shape.reduced0 * shape.reduced1, shape.kept1};
  if (shape.reduced1 == 1) shape = {1, 1, shape.reduced0, shape.kept0 * shape.kept1};
  return shape;
}

/// How the work of a reduction is cut: `units` that give outputs of their own, each of `runs` partial results of
/// `width` values.
struct Cut {
  std::int64_t runs1;  // of the second reduced axis
  std::int64_t runs, tiles, units, width;
  bool share_runs;
};

Cut cut_of(const ReduceShape& shape) {
  const bool rows = shape.kept1 == 1;
  Cut cut;
  cut.runs1 = blocks_of(shape.reduced1, rows ? kRun : kRows);
  cut.runs = shape.reduced0 * cut.runs1;
  cut.tiles = blocks_of(shape.kept1, kTile);
  cut.units = shape.kept0 * cut.tiles;
  cut.width = std::min(shape.kept1, kTile);
  cut.share_runs = cut.units < kFewUnits && cut.runs > 1;
  return cut;
}

}  // namespace

ReduceKernel::ReduceKernel(Functions functions, ReduceOp op, std::size_t in_bytes, std::size_t out_bytes,
                           ReduceShape shape)
    : functions_(functions), op_(op), in_bytes_(in_bytes), out_bytes_(out_bytes), shape_(merged(shape)) {}

std::size_t ReduceKernel::scratch_bytes() const {
  const Cut cut = cut_of(shape_);
  return cut.share_runs ? static_cast<std::size_t>(cut.units * cut.runs * cut.width) * sizeof(float) : 0;
}

void ReduceKernel::operator()(const void* x, void* y, void* scratch) const {
  const Cut cut = cut_of(shape_);
  const auto bytes = shape_.outputs() * shape_.reduced() * static_cast<std::int64_t>(in_bytes_);

  const double divisor = op_ == ReduceOp::mean ? static_cast<double>(shape_.reduced()) : 1;

  if (shape_.kept1 == 1 && cut.runs == 1) {  // rows that may be short: many at a time
    const std::int64_t rows = std::clamp<std::int64_t>(4 * kRun / std::max<std::int64_t>(shape_.reduced1, 1), 1, kTile);
    parallel_for(blocks_of(shape_.kept0, rows), bytes, [&](std::int64_t block) {
      float results[kTile];
      const std::int64_t first = block * rows, n = std::min(rows, shape_.kept0 - first);
      for (std::int64_t i = 0; i < n; ++i) {
        const float partial = functions_.row(at(x, (first + i) * shape_.reduced1, in_bytes_), shape_.reduced1);
        results[i] = static_cast<float>(combine(op_, start(op_), partial) / divisor);
      }
      functions_.store(results, at(y, first, out_bytes_), n);
    });
    return;
  }

  const auto columns_of = [&](std::int64_t unit) { return std::min(kTile, shape_.kept1 - unit % cut.tiles * kTile); };
  const auto reduce_run = [&](std::int64_t unit, std::int64_t run, float* partial) {
    const std::int64_t k0 = unit / cut.tiles, column = unit % cut.tiles * kTile;
    const std::int64_t r0 = run / cut.runs1, r1 = run % cut.runs1 * (shape_.kept1 == 1 ? kRun : kRows);
    const std::int64_t offset = ((r0 * shape_.kept0 + k0) * shape_.reduced1 + r1) * shape_.kept1 + column;
    const void* from = at(x, offset, in_bytes_);
    if (shape_.kept1 == 1)
      *partial = functions_.row(from, std::min(kRun, shape_.reduced1 - r1));
    else
      functions_.columns(from, std::min(kRows, shape_.reduced1 - r1), shape_.kept1, columns_of(unit), partial);
  };
  // partials(run) gives the run's partial results
  const auto finish = [&](std::int64_t unit, const auto& partials) {
    double totals[kTile];
    float results[kTile];
    const std::int64_t n = columns_of(unit);
    std::fill_n(totals, n, start(op_));
    for (std::int64_t run = 0; run < cut.runs; ++run) {
      const float* partial = partials(run);
      for (std::int64_t c = 0; c < n; ++c) totals[c] = combine(op_, totals[c], partial[c]);
    }
    for (std::int64_t c = 0; c < n; ++c) results[c] = static_cast<float>(totals[c] / divisor);
    functions_.store(results, at(y, unit / cut.tiles * shape_.kept1 + unit % cut.tiles * kTile, out_bytes_), n);
  };

  if (cut.share_runs) {
    float* partials = static_cast<float*>(scratch);
    parallel_for(cut.units * cut.runs, bytes,
                 [&](std::int64_t i) { reduce_run(i / cut.runs, i % cut.runs, partials + i * cut.width); });
    for (std::int64_t unit = 0; unit < cut.units; ++unit)
      finish(unit, [&](std::int64_t run) { return partials + (unit * cut.runs + run) * cut.width; });
    return;
  }
  parallel_for(cut.units, bytes, [&](std::int64_t unit) {
    float partial[kTile];
    finish(unit, [&](std::int64_t run) {
      reduce_run(unit, run, partial);
      return partial;
    });
  });
}

ReduceKernel find_reduce(ReduceOp op, DType in, DType out, ReduceShape shape) {
  if (out != in && out != DType::f32) return {};
  return ReduceKernel(HWY_DYNAMIC_DISPATCH(find)(op, in, out), op, bytes_of(in, 1), bytes_of(out, 1), shape);
}

}  // namespace halfstep::simd
#endif
