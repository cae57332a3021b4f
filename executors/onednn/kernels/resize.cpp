// Resize of up to two axes, and its gradient: a weighted sum along each axis in turn.
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/parallel.h"
#include "ops/movement/interpolation.h"

namespace halfstep::onednn {
namespace {

/// Element o of the result is the sum of weight[t] * operand[index[t]] for t in [first[o], first[o + 1]).
struct Taps {
  std::int64_t input = 1;
  std::vector<std::int64_t> first{0}, index;
  std::vector<float> weight;

  std::int64_t output() const { return static_cast<std::int64_t>(first.size()) - 1; }
  void add(std::int64_t i, double w) {
    index.push_back(i);
    weight.push_back(static_cast<float>(w));
  }
  void close() { first.push_back(static_cast<std::int64_t>(index.size())); }
};

Taps forward_taps(const ops::AxisTaps& axis, std::int64_t input) {
  Taps taps;
  taps.input = input;
  for (const auto& element : axis) {
    for (const ops::Tap& tap : element) taps.add(tap.index, tap.weight);
    taps.close();
  }
  return taps;
}

Taps gradient_taps(const ops::AxisTaps& axis, std::int64_t input) {
  std::vector<std::vector<ops::Tap>> readers(static_cast<std::size_t>(input));
  for (std::size_t o = 0; o < axis.size(); ++o)
    for (const ops::Tap& tap : axis[o]) readers[tap.index].push_back({static_cast<std::int64_t>(o), tap.weight});
  return forward_taps(readers, static_cast<std::int64_t>(axis.size()));
}

/// `planes` planes of [rows.input, columns.input] to as many of [rows.output(), columns.output()].
struct PlaneResize {
  std::int64_t planes = 1;
  Taps rows, columns;

  std::int64_t scratch_count() const { return planes * columns.input; }

  void operator()(const float* x, float* y, float* scratch) const {
    const std::int64_t from = rows.input * columns.input, to = rows.output() * columns.output();
    const auto bytes = planes * (from + 4 * to) * static_cast<std::int64_t>(sizeof(float));
    simd::parallel_for(planes, bytes, [&](std::int64_t plane) {
      resize_plane(x + plane * from, y + plane * to, scratch + plane * columns.input);
    });
  }

 private:
  void resize_plane(const float* x, float* y, float* row) const {
    for (std::int64_t o = 0; o < rows.output(); ++o, y += columns.output()) {
      std::fill_n(row, columns.input, 0.0F);
      for (std::int64_t t = rows.first[at(o)]; t < rows.first[at(o) + 1]; ++t) {
        const float* source = x + rows.index[at(t)] * columns.input;
        for (std::int64_t i = 0; i < columns.input; ++i) row[i] += rows.weight[at(t)] * source[i];
      }
      for (std::int64_t c = 0; c < columns.output(); ++c) {
        float sum = 0;
        for (std::int64_t t = columns.first[at(c)]; t < columns.first[at(c) + 1]; ++t)
          sum += columns.weight[at(t)] * row[columns.index[at(t)]];
        y[c] = sum;
      }
    }
  }
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
};

/// Whether every element is taken as it is. An axis of the same extent may be resized nevertheless, by a scale near 1.
bool stays(const ops::AxisTaps& axis, std::int64_t input) {
  for (std::size_t o = 0; o < axis.size(); ++o)
    if (axis[o].size() != 1 || axis[o][0].index != static_cast<std::int64_t>(o) || axis[o][0].weight != 1) return false;
  return static_cast<std::int64_t>(axis.size()) == input;
}

/// The value of input i: a constant, or undefined when absent; empty when it is computed.
std::optional<Tensor> constant_operand(KernelContext& context, std::size_t i) {
  if (!context.has_input(i)) return Tensor();
  if (!context.in(i).is_constant()) return std::nullopt;
  return context.in(i).constant;
}

Made make(KernelContext& context, const Shape& operand, const Shape& result, bool is_gradient) {
  const DType dtype = context.in(0).dtype;
  if (data_type(dtype) == DataType::undef) return refuse(fmt::format("no kernel for {}", name_of(dtype)));
  if (result.count() == 0) return refuse("a result without elements");
  const auto roi = constant_operand(context, 1), scales = constant_operand(context, 2),
             sizes = constant_operand(context, 3);
  if (!roi || !scales || !sizes) return refuse("scales or sizes that are computed");
  const Shape& small = is_gradient ? result : operand;  // Resize's X
  const ops::Resizing resizing(context.node().attributes, small, *roi, *scales, *sizes);
  PlaneResize resize;
  const std::size_t rank = small.rank(), spatial = std::min<std::size_t>(rank, 2);
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const auto& taps = resizing.axes[axis];
    if (std::any_of(taps.begin(), taps.end(), [](const auto& element) { return element.empty(); }))
      return refuse("values outside of the region of interest");
    if (axis + spatial >= rank) continue;
    if (!stays(taps, small[axis])) return refuse("more than the last two axes resized");
    resize.planes *= small[axis];
  }
  auto along = [&](std::size_t axis) {
    return is_gradient ? gradient_taps(resizing.axes[axis], small[axis])
                       : forward_taps(resizing.axes[axis], small[axis]);
  };
  if (rank == 0) return refuse("a scalar");
  resize.columns = along(rank - 1);
  resize.rows = rank == 1 ? forward_taps({{{0, 1}}}, 1) : along(rank - 2);

  const Operand x = context.read(0, Layout(), DType::f32), y = context.write(0, Layout(), DType::f32);
  const BufferId scratch = context.scratch(static_cast<std::size_t>(resize.scratch_count()) * sizeof(float));
  return {
      "native", {}, [=, kernel = std::make_shared<const PlaneResize>(std::move(resize))](const Memory& memory) -> Run {
        return [=, from = memory.as<const float>(x), to = memory.as<float>(y), row = memory.as<float>(scratch)] {
          (*kernel)(from, to, row);
        };
      }};
}

}  // namespace

Made make_resize(KernelContext& context) { return make(context, context.in(0).shape, context.out(0).shape, false); }
Made make_resize_grad(KernelContext& context) { return make(context, context.in(0).shape, context.out(0).shape, true); }

}  // namespace halfstep::onednn
