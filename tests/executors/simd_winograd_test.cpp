// Convolutions by Winograd's algorithm against sums in double.
#include <cfloat>
#include <functional>

#include "executors/onednn/simd/winograd.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

std::size_t z(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Images, channels read and written, channels together; extents of rows and columns: in, out, pads; kernel.
const WinogradShape kShapes[] = {
    {1, 8, 8, 8, {1, 1}, {1, 1}, {1, 1}, 3},         // less than a tile
    {2, 16, 32, 16, {4, 4}, {4, 4}, {1, 1}, 3},      // whole tiles
    {3, 32, 16, 16, {7, 5}, {7, 5}, {1, 1}, 3},      // parts of tiles
    {2, 16, 48, 16, {5, 6}, {3, 4}, {0, 0}, 3},      // no padding
    {1, 48, 16, 16, {6, 3}, {8, 5}, {2, 2}, 3},      // all of it
    {2, 24, 40, 8, {9, 4}, {9, 3}, {1, 0}, 3},       // half panels, another pad at each side
    {4, 16, 16, 16, {9, 11}, {9, 11}, {1, 1}, 3},    // several blocks of tiles
    {3, 32, 48, 16, {12, 13}, {12, 13}, {1, 1}, 3},  // several threads
    {1, 96, 80, 16, {5, 4}, {5, 4}, {1, 1}, 3},      // more channels than tiles
    {1, 16, 16, 16, {1, 1}, {1, 1}, {2, 2}, 5},     {3, 16, 48, 16, {7, 9}, {5, 7}, {1, 1}, 5},
    {2, 24, 16, 8, {8, 6}, {10, 7}, {3, 4}, 5},     {2, 32, 16, 16, {14, 15}, {14, 15}, {2, 2}, 5},
};

/// Elements [n, channels, h, w] as they lie in blocks of channels.
std::size_t at(const WinogradShape& s, std::int64_t channels, WinogradShape::Pair extents, std::int64_t image,
               std::int64_t channel, std::int64_t row, std::int64_t column) {
  const std::int64_t plane = image * (channels / s.together) + channel / s.together;
  return z(((plane * extents[0] + row) * extents[1] + column) * s.together + channel % s.together);
}
std::int64_t x_size(const WinogradShape& s) { return s.images * s.channels_in * s.in[0] * s.in[1]; }
std::int64_t w_size(const WinogradShape& s) { return s.taps() * s.channels_in * s.channels_out; }
std::int64_t y_size(const WinogradShape& s) { return s.images * s.channels_out * s.out[0] * s.out[1]; }

/// With steps of weights [O / T, I / T, kernel, kernel, T, T].
WinogradShape with_steps(WinogradShape s) {
  s.weights_in_step = s.taps() * s.together * s.together;
  s.weights_out_step = s.channels_in / s.together * s.weights_in_step;
  return s;
}

/// body(index of y, of x, of the weight, output channel, input channel) for every product.
template <class Body>
void for_products(const WinogradShape& s, const Body& body) {
  const std::int64_t t = s.together;
  for (std::int64_t image = 0; image < s.images; ++image)
    for (std::int64_t row = 0; row < s.out[0]; ++row)
      for (std::int64_t column = 0; column < s.out[1]; ++column)
        for (std::int64_t tap = 0; tap < s.taps(); ++tap) {
          const std::int64_t from_row = row + tap / s.kernel - s.pads[0];
          const std::int64_t from_column = column + tap % s.kernel - s.pads[1];
          if (from_row < 0 || from_row >= s.in[0] || from_column < 0 || from_column >= s.in[1]) continue;
          const std::int64_t stored = s.is_flipped ? s.taps() - 1 - tap : tap;
          for (std::int64_t o = 0; o < s.channels_out; ++o)
            for (std::int64_t i = 0; i < s.channels_in; ++i)
              body(at(s, s.channels_out, s.out, image, o, row, column),
                   at(s, s.channels_in, s.in, image, i, from_row, from_column),
                   z(o / t * s.weights_out_step + i / t * s.weights_in_step + (stored * t + i % t) * t + o % t));
        }
}

/// Runs it for every shape whose blocks vectors of this machine divide.
void for_shapes(const std::function<void(WinogradShape)>& body) {
  for (const WinogradShape& shape : kShapes) {
    if (!has_winograd(shape.kernel, shape.together)) continue;
    SCOPED_TRACE(testing::Message() << shape.channels_in << " to " << shape.channels_out << " channels, kernel "
                                    << shape.kernel << ", " << shape.in[0] << "x" << shape.in[1] << " to "
                                    << shape.out[0] << "x" << shape.out[1]);
    body(with_steps(shape));
  }
}

std::vector<float> scratch_of(std::size_t bytes) { return std::vector<float>(bytes / sizeof(float) + 16); }
float* aligned(std::vector<float>& scratch) {
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
  return scratch.data() + (64 - address % 64) % 64 / sizeof(float);
}

Array convolve(const WinogradShape& shape, Array& x, Array& w, Array* bias, Array* residual) {
  const Winograd kernel(shape, omp_get_max_threads());
  std::vector<float> scratch = scratch_of(kernel.scratch_bytes());
  Array y(DType::f32, y_size(shape));
  kernel({x.floats(), w.floats(), bias ? bias->floats() : nullptr, residual ? residual->floats() : nullptr, y.floats()},
         aligned(scratch));
  return y;
}

/// Errors grow with the largest element; those of 5 x 5 are larger, as are its factors.
void expect_near(const WinogradShape& shape, const Array& found, const std::vector<double>& wanted) {
  double largest = 0;
  for (const double value : wanted) largest = std::max(largest, std::abs(value));
  const double allowed = (shape.kernel == 3 ? 1e-6 : 4e-6) * largest;
  for (std::size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(found[i], wanted[i], allowed) << i;
}

TEST(SimdWinograd, ConvolutionMatchesDouble) {
  for_shapes([](WinogradShape shape) {
    Array x = random_array(DType::f32, x_size(shape), -1, 1, 1);
    Array w = random_array(DType::f32, w_size(shape), -1, 1, 2);
    Array residual = random_array(DType::f32, y_size(shape), -1, 1, 3);
    Array bias = random_array(DType::f32, shape.channels_out, -1, 1, 4);
    for (const bool is_flipped : {false, true}) {
      shape.is_flipped = is_flipped;
      std::vector<double> sums(residual.size());
      for_products(shape, [&](std::size_t y, std::size_t i, std::size_t k) { sums[y] += x[i] * w[k]; });
      Array y = with_any_threads([&] { return convolve(shape, x, w, nullptr, nullptr); });
      EXPECT_TRUE(y.guard_intact());
      expect_near(shape, y, sums);
      for (std::int64_t image = 0; image < shape.images; ++image)
        for (std::int64_t o = 0; o < shape.channels_out; ++o)
          for (std::int64_t row = 0; row < shape.out[0]; ++row)
            for (std::int64_t column = 0; column < shape.out[1]; ++column) {
              const std::size_t to = at(shape, shape.channels_out, shape.out, image, o, row, column);
              sums[to] += bias[z(o)] + residual[to];
            }
      expect_near(shape, convolve(shape, x, w, &bias, &residual), sums);
    }
  });
}

TEST(SimdWinograd, GradientOfWeightsMatchesDouble) {
  for_shapes([](const WinogradShape& shape) {
    Array x = random_array(DType::f32, x_size(shape), -1, 1, 1), dy = random_array(DType::f32, y_size(shape), -1, 1, 2);
    const std::int64_t count = w_size(shape);
    std::vector<double> dw(z(count)), db(z(shape.channels_out));
    for_products(shape, [&](std::size_t y, std::size_t i, std::size_t k) { dw[k] += dy[y] * x[i]; });
    for (std::int64_t image = 0; image < shape.images; ++image)
      for (std::int64_t o = 0; o < shape.channels_out; ++o)
        for (std::int64_t row = 0; row < shape.out[0]; ++row)
          for (std::int64_t column = 0; column < shape.out[1]; ++column)
            db[z(o)] += dy[at(shape, shape.channels_out, shape.out, image, o, row, column)];
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(threads);
      const WinogradWeightGradient kernel(shape, threads);
      std::vector<float> scratch = scratch_of(kernel.scratch_bytes());
      Array found(DType::f32, count), found_bias(DType::f32, shape.channels_out);
      kernel(dy.floats(), x.floats(), found.floats(), found_bias.floats(), aligned(scratch));
      EXPECT_TRUE(found.guard_intact() && found_bias.guard_intact());
      expect_near(shape, found, dw);
      expect_near(shape, found_bias, db);
      Array again(DType::f32, count);
      kernel(dy.floats(), x.floats(), again.floats(), nullptr, aligned(scratch));
      EXPECT_TRUE(again == found);
    }
  });
}

/// 'f'inite, '+', '-' or 'n'.
char class_of(double value) {
  const auto x = static_cast<float>(value);
  return std::isnan(x) ? 'n' : std::isfinite(x) ? 'f' : x > 0 ? '+' : '-';
}

/// Numbers that are not finite, and those whose sums are finite in one order and not in another.
constexpr float kSpecials[] = {INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX};

TEST(SimdWinograd, NonFiniteElementsReachTheirWindowsAlone) {
  for_shapes([](const WinogradShape& shape) {
    constexpr std::int64_t kMost = 1'000'000;  // products; larger ones tell no more
    if (shape.images * shape.out[0] * shape.out[1] * w_size(shape) > kMost) return;
    const Array plain_x = random_array(DType::f32, x_size(shape), 0.25, 0.5, 1);
    const Array plain_dy = random_array(DType::f32, y_size(shape), 0.25, 0.5, 2);
    const Array plain_w = random_array(DType::f32, w_size(shape), 0.25, 0.5, 3);
    for (const float special : kSpecials) {
      for (const std::size_t operand : {0U, 1U}) {
        SCOPED_TRACE(testing::Message() << special << " in operand " << operand);
        Array x = plain_x, dy = plain_dy, w = plain_w;
        Array& with = operand == 0 ? x : w;
        for (std::size_t i = with.size() / 3; i < with.size(); i += with.size() / 2 + 1) with.set(i, special);
        std::vector<double> sums(z(y_size(shape))), gradient(w.size());
        for_products(shape, [&](std::size_t y, std::size_t i, std::size_t k) { sums[y] += x[i] * w[k]; });
        const Array y = convolve(shape, x, w, nullptr, nullptr);
        for (std::size_t i = 0; i < sums.size(); ++i) ASSERT_EQ(class_of(y[i]), class_of(sums[i])) << i;

        Array& other = operand == 0 ? x : dy;
        for (std::size_t i = other.size() / 3; i < other.size(); i += other.size() / 2 + 1) other.set(i, special);
        for_products(shape, [&](std::size_t up, std::size_t i, std::size_t k) { gradient[k] += dy[up] * x[i]; });
        const WinogradWeightGradient kernel(shape, 2);
        std::vector<float> scratch = scratch_of(kernel.scratch_bytes());
        Array found(DType::f32, static_cast<std::int64_t>(w.size()));
        kernel(dy.floats(), x.floats(), found.floats(), nullptr, aligned(scratch));
        for (std::size_t i = 0; i < gradient.size(); ++i) ASSERT_EQ(class_of(found[i]), class_of(gradient[i])) << i;
      }
    }
  });
}

}  // namespace
}  // namespace halfstep::simd
