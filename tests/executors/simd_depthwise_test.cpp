// Depthwise convolutions and their gradients in every order of channels against sums in double.
#include "executors/onednn/simd/depthwise.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

std::size_t z(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Images, channels, channels together; extents of rows and columns: in, out, kernel, strides, dilations, pads.
const DepthwiseShape kShapes[] = {
    {2, 20, 8, {5, 6}, {5, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {3, 8, 8, {9, 21}, {5, 19}, {5, 3}, {2, 1}, {1, 1}, {2, 0}},
    {2, 20, 16, {5, 6}, {5, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {1, 33, 16, {2, 3}, {2, 3}, {7, 7}, {1, 1}, {1, 1}, {3, 3}},  // kernels larger than the image
    {2, 20, 20, {5, 6}, {5, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 5, 5, {8, 7}, {4, 3}, {3, 3}, {2, 3}, {1, 2}, {1, 2}},
    {1, 3, 8, {4, 9}, {8, 7}, {2, 3}, {1, 1}, {3, 1}, {4, 0}},        // taps, and outputs, that see no image
    {2, 150, 150, {1, 80}, {1, 80}, {1, 9}, {1, 1}, {1, 1}, {0, 4}},  // one spatial axis
    {1, 40, 16, {64, 40}, {64, 40}, {7, 7}, {1, 1}, {1, 1}, {3, 3}},  // of several threads
};

/// Elements [n, channels, h, w] as they lie in blocks of channels.
struct Blocked {
  const DepthwiseShape& shape;
  std::int64_t n;
  DepthwiseShape::Pair extents;

  std::int64_t size() const { return n * shape.stored_channels() * extents[0] * extents[1]; }
  std::size_t at(std::int64_t image, std::int64_t channel, std::int64_t row, std::int64_t column) const {
    const std::int64_t plane = image * shape.blocks() + channel / shape.together;
    return z(((plane * extents[0] + row) * extents[1] + column) * shape.together + channel % shape.together);
  }
  /// body(index) for every element of channels [begin, end).
  template <class Body>
  void each(std::int64_t begin, std::int64_t end, const Body& body) const {
    for (std::int64_t image = 0; image < n; ++image)
      for (std::int64_t channel = begin; channel < end; ++channel)
        for (std::int64_t row = 0; row < extents[0]; ++row)
          for (std::int64_t column = 0; column < extents[1]; ++column) body(at(image, channel, row, column));
  }
  Array random(unsigned seed) const {
    Array array = random_array(DType::f32, size(), -1, 1, seed);
    each(shape.channels, shape.stored_channels(), [&](std::size_t i) { array.set(i, 0); });
    return array;
  }
  void expect_padding_is_zero(const Array& array) const {
    each(shape.channels, shape.stored_channels(), [&](std::size_t i) { EXPECT_EQ(array[i], 0); });
  }
};

/// body(image, channel, {oh, ow}, {ih, iw}, {kh, kw}) for every product of the convolution.
template <class Body>
void for_products(const DepthwiseShape& s, const Body& body) {
  using Pair = DepthwiseShape::Pair;
  auto each = [](Pair extents, auto visit) {
    for (std::int64_t a = 0; a < extents[0]; ++a)
      for (std::int64_t b = 0; b < extents[1]; ++b) visit(Pair{a, b});
  };
  each({s.images, s.channels}, [&](Pair plane) {
    each(s.out, [&](Pair o) {
      each(s.kernel, [&](Pair k) {
        Pair i;
        for (const std::size_t axis : {0U, 1U}) {
          i[axis] = o[axis] * s.strides[axis] + k[axis] * s.dilations[axis] - s.pads[axis];
          if (i[axis] < 0 || i[axis] >= s.in[axis]) return;
        }
        body(plane[0], plane[1], o, i, k);
      });
    });
  });
}

std::string name_of(const DepthwiseShape& shape) {
  return std::to_string(shape.channels) + " channels, " + std::to_string(shape.together) + " together, of " +
         std::to_string(shape.in[0]) + "x" + std::to_string(shape.in[1]);
}

TEST(SimdDepthwise, ForwardMatchesDouble) {
  for (DepthwiseShape shape : kShapes) {
    const Blocked in{shape, shape.images, shape.in}, out{shape, shape.images, shape.out}, taps{shape, 1, shape.kernel};
    Array x = in.random(1), w = taps.random(2), added = out.random(3);
    Array bias = random_array(DType::f32, shape.channels, -1, 1, 4);
    std::vector<double> sums(added.size());
    for_products(shape, [&](auto image, auto channel, auto o, auto i, auto k) {
      sums[out.at(image, channel, o[0], o[1])] +=
          x[in.at(image, channel, i[0], i[1])] * w[taps.at(0, channel, k[0], k[1])];
    });
    for (const bool with_bias : {false, true}) {
      for (const bool with_residual : {false, true}) {
        for (const bool relu : {false, true}) {
          SCOPED_TRACE(testing::Message() << name_of(shape) << (with_bias ? ", bias" : "")
                                          << (with_residual ? ", residual" : "") << (relu ? ", relu" : ""));
          shape.relu = relu;
          const DepthwiseKernel kernel = find_depthwise(shape);
          const Array y = with_any_threads([&] {
            Array result(DType::f32, out.size());
            kernel.forward(x.floats(), w.floats(), with_bias ? bias.floats() : nullptr,
                           with_residual ? added.floats() : nullptr, result.floats());
            return result;
          });
          EXPECT_TRUE(y.guard_intact());
          out.expect_padding_is_zero(y);
          for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
            out.each(channel, channel + 1, [&](std::size_t i) {
              const double sum = sums[i] + (with_bias ? bias[z(channel)] : 0) + (with_residual ? added[i] : 0);
              EXPECT_TRUE(close(DType::f32, y[i], relu ? std::max(sum, 0.0) : sum, 8, 4));
            });
          }
        }
      }
    }
  }
}

TEST(SimdDepthwise, GradientMatchesDouble) {
  for (const DepthwiseShape& shape : kShapes) {
    SCOPED_TRACE(name_of(shape));
    const Blocked in{shape, shape.images, shape.in}, out{shape, shape.images, shape.out}, taps{shape, 1, shape.kernel};
    Array x = in.random(1), dy = out.random(2);
    std::vector<double> dw(z(taps.size())), db(z(shape.channels));
    for_products(shape, [&](auto image, auto channel, auto o, auto i, auto k) {
      dw[taps.at(0, channel, k[0], k[1])] +=
          x[in.at(image, channel, i[0], i[1])] * dy[out.at(image, channel, o[0], o[1])];
    });
    for (std::int64_t channel = 0; channel < shape.channels; ++channel)
      out.each(channel, channel + 1, [&](std::size_t i) { db[z(channel)] += dy[i]; });

    const DepthwiseKernel kernel = find_depthwise(shape);
    const double places = static_cast<double>(shape.images * shape.out[0] * shape.out[1]);
    for (const bool with_bias : {false, true}) {
      const auto [weights, bias] = with_any_threads([&] {
        std::pair result(Array(DType::f32, taps.size()), Array(DType::f32, shape.channels));
        kernel.gradient(dy.floats(), x.floats(), result.first.floats(), with_bias ? result.second.floats() : nullptr);
        return result;
      });
      EXPECT_TRUE(weights.guard_intact() && bias.guard_intact());
      taps.expect_padding_is_zero(weights);
      for (std::size_t i = 0; i < dw.size(); ++i) EXPECT_TRUE(close(DType::f32, weights[i], dw[i], 8, places));
      if (!with_bias) continue;
      for (std::size_t i = 0; i < db.size(); ++i) EXPECT_TRUE(close(DType::f32, bias[i], db[i], 8, places));
    }
  }
}

}  // namespace
}  // namespace halfstep::simd
