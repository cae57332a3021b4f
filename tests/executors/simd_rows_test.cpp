// SIMD reductions, softmax, cross entropy and layer normalization against plain loops in double.
#include <functional>
#include <limits>
#include <optional>

#include "executors/onednn/simd/cross_entropy.h"
#include "executors/onednn/simd/layer_norm.h"
#include "executors/onednn/simd/reduce.h"
#include "executors/onednn/simd/softmax.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

std::size_t z(std::int64_t i) { return static_cast<std::size_t>(i); }

constexpr ReduceOp kReduceOps[] = {ReduceOp::sum, ReduceOp::mean, ReduceOp::sum_square, ReduceOp::max, ReduceOp::min};

double reduce_in_double(ReduceOp op, const std::vector<double>& values) {
  double total = op == ReduceOp::max ? -INFINITY : op == ReduceOp::min ? INFINITY : 0;
  for (const double x : values) {
    if (op == ReduceOp::max)
      total = std::isnan(total) || total > x ? total : x;
    else if (op == ReduceOp::min)
      total = std::isnan(total) || total < x ? total : x;
    else
      total += op == ReduceOp::sum_square ? x * x : x;
  }
  return op == ReduceOp::mean ? total / static_cast<double>(values.size()) : total;
}

void expect_reduction(ReduceOp op, const Array& x, DType out, const ReduceShape& s) {
  const ReduceKernel kernel = find_reduce(op, x.dtype(), out, s);
  ASSERT_TRUE(kernel);
  const Array y = with_any_threads([&] {
    Array result(out, s.outputs());
    std::vector<char> scratch(kernel.scratch_bytes());
    kernel(x.data(), result.data(), scratch.data());
    return result;
  });
  EXPECT_TRUE(y.guard_intact());
  for (std::int64_t k0 = 0; k0 < s.kept0; ++k0) {
    for (std::int64_t k1 = 0; k1 < s.kept1; ++k1) {
      std::vector<double> values;
      double magnitude = 0;
      for (std::int64_t r0 = 0; r0 < s.reduced0; ++r0) {
        for (std::int64_t r1 = 0; r1 < s.reduced1; ++r1) {
          values.push_back(x[z(((r0 * s.kept0 + k0) * s.reduced1 + r1) * s.kept1 + k1)]);
          magnitude += std::abs(values.back());
        }
      }
      const bool order = op == ReduceOp::max || op == ReduceOp::min;
      if (op == ReduceOp::mean) magnitude /= static_cast<double>(values.size());
      // at most 64 additions in a row happen in f32: on average their errors come to a few units
      ASSERT_TRUE(
          close(out, y[z(k0 * s.kept1 + k1)], reduce_in_double(op, values), order ? 0 : 8, order ? 0 : magnitude))
          << "op " << static_cast<int>(op) << " of " << s.reduced0 << ", " << s.kept0 << ", " << s.reduced1 << ", "
          << s.kept1;
    }
  }
}

TEST(SimdReduce, MatchesDouble) {
  std::vector<ReduceShape> shapes = {{1, 5, 17, 1},    {1, 300, 1000, 1}, {1, 2, 3, 5},    {4, 3, 49, 1},
                                     {32, 64, 100, 1}, {2, 3, 4, 5},      {100, 3, 1, 7},  {1, 1, 32, 10},
                                     {1, 1, 128, 784}, {7, 1, 9, 33},     {1, 1, 3000, 3}, {1, 20, 70, 300},
                                     {3, 0, 2, 1},     {1, 1, 5, 0},      {1, 900, 4, 1}};
  for (const std::int64_t n : kSizes) shapes.push_back({1, 1, n, 1});
  for (const std::int64_t n : kSizes) shapes.push_back({1, 1, 3, n});
  for (const ReduceOp op : kReduceOps) {
    for (const DType in : kFloats) {
      for (const ReduceShape& shape : shapes) {
        const Array x = random_array(in, shape.outputs() * shape.reduced(), -1, 3);
        expect_reduction(op, x, in, shape);
        expect_reduction(op, x, DType::f32, shape);
      }
    }
  }
}

TEST(SimdReduce, PassesSpecialsOn) {
  for (const ReduceOp op : kReduceOps) {
    for (const float special : {static_cast<float>(NAN), static_cast<float>(INFINITY), static_cast<float>(-INFINITY)}) {
      for (const ReduceShape& shape : {ReduceShape{1, 3, 5000, 1}, ReduceShape{1, 1, 5000, 3}}) {
        for (const std::size_t place : {std::size_t{0}, std::size_t{1234}, std::size_t{14999}}) {
          Array x = random_array(DType::f32, 15000);
          x.set(place, special);
          expect_reduction(op, x, DType::f32, shape);
        }
      }
    }
  }
}

TEST(SimdReduce, SumsManyAccurately) {
  const std::int64_t n = 1 << 22;
  Array x(DType::f32, std::vector<double>(z(n), 0.1));
  Array y(DType::f32, 1);
  const ReduceKernel kernel = find_reduce(ReduceOp::sum, DType::f32, DType::f32, {1, 1, n, 1});
  std::vector<char> scratch(kernel.scratch_bytes());
  kernel(x.data(), y.data(), scratch.data());
  EXPECT_TRUE(close(DType::f32, y[0], static_cast<double>(0.1F) * static_cast<double>(n), 2));
}

struct Planes {
  std::int64_t outer, n, inner;
};

std::vector<Planes> softmax_planes() {
  std::vector<Planes> planes = {{32, 10, 1},   {5, 10, 7}, {3, 1000, 1}, {2, 21, 300},
                                {40, 100, 50}, {0, 4, 1},  {4, 3, 0}};
  for (const std::int64_t n : kSizes) planes.push_back({3, n, 1});
  return planes;
}

/// body(values, results) for the axis of every row.
void for_rows(const Planes& p, const std::function<void(const std::vector<std::size_t>&)>& body) {
  for (std::int64_t o = 0; o < p.outer; ++o) {
    for (std::int64_t i = 0; i < p.inner; ++i) {
      std::vector<std::size_t> row;
      for (std::int64_t k = 0; k < p.n; ++k) row.push_back(z((o * p.n + k) * p.inner + i));
      body(row);
    }
  }
}

TEST(SimdSoftmax, MatchesDouble) {
  for (const SoftmaxOp op : {SoftmaxOp::softmax, SoftmaxOp::log_softmax}) {
    for (const DType dtype : kFloats) {
      for (const Planes& p : softmax_planes()) {
        const std::int64_t size = p.outer * p.n * p.inner;
        const Array x = random_array(dtype, size, -10, 10);
        const Array y = with_any_threads([&] {
          Array result(dtype, size);
          find_softmax(op, dtype)(x.data(), result.data(), p.outer, p.n, p.inner);
          return result;
        });
        EXPECT_TRUE(y.guard_intact());
        const Array dy = random_array(dtype, size, -1, 1, 2);
        const Array dx = with_any_threads([&] {
          Array result(dtype, size);
          find_softmax_grad(op, dtype)(dy.data(), y.data(), result.data(), p.outer, p.n, p.inner);
          return result;
        });
        EXPECT_TRUE(dx.guard_intact());
        for_rows(p, [&](const std::vector<std::size_t>& row) {
          double sum = 0, dot = 0, total = 0, magnitude = 0;
          for (const std::size_t i : row) {
            sum += std::exp(x[i]);
            dot += dy[i] * y[i];
            total += dy[i];
            magnitude += std::abs(op == SoftmaxOp::softmax ? dy[i] * y[i] : dy[i]);
          }
          for (const std::size_t i : row) {
            if (op == SoftmaxOp::softmax) {
              // Half a unit of x - max, which is up to 20, is a relative error of 2^-20, 16 units of the result; the
              // sum of so many exponentials adds some.
              ASSERT_TRUE(close(dtype, y[i], std::exp(x[i]) / sum, 32));
              ASSERT_TRUE(close(dtype, dx[i], y[i] * (dy[i] - dot), 8, y[i] * (std::abs(dy[i]) + magnitude)));
            } else {
              ASSERT_TRUE(close(dtype, y[i], x[i] - std::log(sum), 2, 20));
              const double share = std::exp(y[i]);
              ASSERT_TRUE(close(dtype, dx[i], dy[i] - share * total, 8, std::abs(dy[i]) + share * magnitude));
            }
          }
        });
      }
    }
  }
}

TEST(SimdSoftmax, TakesLargeAndInfiniteLogits) {
  const double infinity = INFINITY;
  const Array x(DType::f32, std::vector<double>{1000, 999, -infinity, 1000, NAN, 0, -infinity, -infinity});
  Array y(DType::f32, 8);
  const SoftmaxKernel softmax = find_softmax(SoftmaxOp::softmax, DType::f32);
  softmax(x.data(), y.data(), 1, 4);
  EXPECT_TRUE(close(DType::f32, y[0], 1 / (2 + std::exp(-1.0)), 4));
  EXPECT_EQ(y[2], 0);
  softmax(static_cast<const float*>(x.data()) + 4, y.data(), 2, 2);  // a NaN, and nothing but -infinity
  for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(std::isnan(y[i]));
}

// exp(-100), which the masks of some models let through, would slow down all that is computed from it.
TEST(SimdSoftmax, LeavesNoSubnormalNumbers) {
  const std::vector<double> logits = {0, -20, -80, -87, -88, -90, -100, -103, -200};
  for (const std::int64_t inner : {1, 5}) {
    std::vector<double> repeated;
    for (const double logit : logits) repeated.insert(repeated.end(), z(inner), logit);
    const Array x(DType::f32, repeated);
    Array y(DType::f32, repeated.size());
    find_softmax(SoftmaxOp::softmax, DType::f32)(x.data(), y.data(), 1, static_cast<std::int64_t>(logits.size()),
                                                 inner);
    for (std::size_t i = 0; i < repeated.size(); ++i)
      EXPECT_TRUE(close(DType::f32, y[i], x[i] < -87.4 ? 0 : std::exp(x[i]), 100)) << x[i];
  }
}

struct EntropyCase {
  std::int64_t rows, classes;
  LossReduction reduction;
  bool weighted;
  std::optional<std::int64_t> ignore;
};

const EntropyCase kEntropy[] = {
    {32, 10, LossReduction::mean, false, {}},   {32, 10, LossReduction::sum, true, {}},
    {33, 17, LossReduction::none, true, 3},     {64, 1000, LossReduction::mean, true, -100},
    {5000, 10, LossReduction::mean, false, 0},  {1, 1, LossReduction::mean, false, {}},
    {300, 100, LossReduction::none, false, {}}, {7, 3, LossReduction::mean, true, 2},
};

template <class Label>
void expect_cross_entropy(const EntropyCase& c, DType dtype) {
  const CrossEntropyParams params = {c.rows, c.classes, c.reduction, c.ignore};
  const bool none = c.reduction == LossReduction::none, mean = c.reduction == LossReduction::mean;
  const Array logits = random_array(dtype, c.rows * c.classes, -5, 5), weights = random_array(dtype, c.classes, 0.5, 2);
  const Array dloss = random_array(dtype, c.rows, 0.5, 2, 3);
  std::vector<Label> labels;
  for (std::int64_t r = 0; r < c.rows; ++r) labels.push_back(static_cast<Label>(r * 7 % c.classes));
  if (c.ignore == -100) labels[2] = -100;

  const CrossEntropyKernel forward = find_cross_entropy(params, dtype, dtype_of<Label>());
  const CrossEntropyGradKernel backward = find_cross_entropy_grad(params, dtype, dtype_of<Label>(), dtype);
  ASSERT_TRUE(forward && backward);
  std::vector<char> scratch(std::max(forward.scratch_bytes(), backward.scratch_bytes()));
  const void* w = c.weighted ? weights.data() : nullptr;
  Array loss(dtype, none ? c.rows : 1), log_prob(dtype, c.rows * c.classes);
  forward(logits.data(), labels.data(), w, loss.data(), log_prob.data(), scratch.data());
  const Array dlogits = with_any_threads([&] {
    Array result(dtype, c.rows * c.classes);
    backward(dloss.data(), log_prob.data(), labels.data(), w, result.data(), scratch.data());
    return result;
  });
  EXPECT_TRUE(loss.guard_intact() && log_prob.guard_intact() && dlogits.guard_intact());

  const auto weight_of = [&](std::int64_t r) {
    const std::int64_t label = labels[z(r)];
    return c.ignore == label ? 0.0 : c.weighted ? weights[z(label)] : 1.0;
  };
  double total = 0, weight = 0;
  for (std::int64_t r = 0; r < c.rows; ++r) weight += weight_of(r);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const std::size_t row = z(r * c.classes);
    double sum = 0;
    for (std::size_t k = 0; k < z(c.classes); ++k) sum += std::exp(logits[row + k]);
    const double w_row = weight_of(r);
    const double loss_row = w_row == 0 ? 0 : w_row * (std::log(sum) - logits[row + z(labels[z(r)])]);
    if (none) {
      ASSERT_TRUE(close(dtype, loss[z(r)], loss_row, 8, 10));
    }
    total += loss_row;
    const double factor = dloss[none ? z(r) : 0] * w_row / (mean ? weight : 1);
    for (std::size_t k = 0; k < z(c.classes); ++k) {
      ASSERT_TRUE(close(dtype, log_prob[row + k], logits[row + k] - std::log(sum), 2, 10));
      const double hit = w_row != 0 && k == z(labels[z(r)]);
      ASSERT_TRUE(close(dtype, dlogits[row + k], factor * (std::exp(log_prob[row + k]) - hit), 5, factor));
    }
  }
  if (!none) {
    EXPECT_TRUE(close(dtype, loss[0], mean ? total / weight : total, 8, mean ? 10 : total));
  }
}

TEST(SimdCrossEntropy, MatchesDouble) {
  for (const EntropyCase& c : kEntropy) {
    for (const DType dtype : kFloats) {
      expect_cross_entropy<std::int64_t>(c, dtype);
      expect_cross_entropy<std::int32_t>(c, dtype);
    }
  }
}

TEST(SimdCrossEntropy, GivesNanForLabelsOutOfRangeAndNothingWhereNoRowCounts) {
  const Array logits = random_array(DType::f32, 6);
  float loss = 0, scratch[4];
  Array log_prob(DType::f32, 6);
  const CrossEntropyParams two_by_three = {2, 3, LossReduction::mean, {}};
  for (const std::int64_t label : {std::int64_t{3}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()}) {
    const std::int64_t labels[] = {0, label};
    find_cross_entropy(two_by_three, DType::f32, DType::i64)(logits.data(), labels, nullptr, &loss, log_prob.data(),
                                                             scratch);
    EXPECT_TRUE(std::isnan(loss));
    const float dloss = 1;
    Array dlogits(DType::f32, 6);
    find_cross_entropy_grad(two_by_three, DType::f32, DType::i64, DType::f32)(&dloss, log_prob.data(), labels, nullptr,
                                                                              dlogits.data(), scratch);
    EXPECT_TRUE(std::isnan(dlogits[4]));
  }
  const std::int64_t ignored[] = {1, 1};
  const CrossEntropyParams params = {2, 3, LossReduction::mean, 1};
  for (const DType dtype : kFloats) {
    const Array scores = random_array(dtype, 6);
    Array losses(dtype, 1), logs(dtype, 6), dlogits(dtype, 6);
    find_cross_entropy(params, dtype, DType::i64)(scores.data(), ignored, nullptr, losses.data(), logs.data(), scratch);
    EXPECT_EQ(losses[0], 0);
    const float dloss = 65536;
    find_cross_entropy_grad(params, dtype, DType::i64, DType::f32)(&dloss, logs.data(), ignored, nullptr,
                                                                   dlogits.data(), scratch);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(dlogits[i], 0);
  }
}

TEST(SimdLayerNorm, MatchesDouble) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t n : {1, 3, 16, 17, 65, 1000}) {
      for (const std::int64_t rows : {1, 33, 200}) {
        const LayerNormParams params = {rows, n, 1e-3F};
        const Array x = random_array(dtype, rows * n, 1, 3), dy = random_array(dtype, rows * n, -1, 1, 2);
        const Array scale = random_array(dtype, n, 0.5, 2, 3), bias = random_array(dtype, n, -1, 1, 4);
        Array y(dtype, rows * n), mean(DType::f32, rows), inv_std(DType::f32, rows);
        find_layer_norm(params, dtype)(x.data(), scale.data(), bias.data(), y.data(), mean.floats(), inv_std.floats());
        const LayerNormGradKernel backward = find_layer_norm_grad(params, dtype);
        std::vector<char> scratch(backward.scratch_bytes());
        Array dscale(DType::f32, n), dbias(DType::f32, n);
        const Array dx = with_any_threads([&] {
          Array result(dtype, rows * n);
          backward(dy.data(), x.data(), scale.data(), mean.floats(), inv_std.floats(), result.data(), dscale.floats(),
                   dbias.floats(), scratch.data());
          return result;
        });
        EXPECT_TRUE(y.guard_intact() && dx.guard_intact() && dscale.guard_intact() && dbias.guard_intact());

        std::vector<double> want_scale(z(n)), want_bias(z(n));
        for (std::int64_t r = 0; r < rows; ++r) {
          const auto at = [&](std::size_t i) { return z(r * n) + i; };
          double m = 0, v = 0, g_mean = 0, product = 0;
          for (std::size_t i = 0; i < z(n); ++i) m += x[at(i)] / static_cast<double>(n);
          for (std::size_t i = 0; i < z(n); ++i) v += (x[at(i)] - m) * (x[at(i)] - m) / static_cast<double>(n);
          const double inverse = 1 / std::sqrt(v + static_cast<double>(params.epsilon));
          for (std::size_t i = 0; i < z(n); ++i) {
            const double normal = (x[at(i)] - m) * inverse, g = dy[at(i)] * scale[i];
            g_mean += g / static_cast<double>(n);
            product += g * normal / static_cast<double>(n);
            want_scale[i] += dy[at(i)] * normal;
            want_bias[i] += dy[at(i)];
            ASSERT_TRUE(close(dtype, y[at(i)], normal * scale[i] + bias[i], 8, 4 * inverse));
          }
          for (std::size_t i = 0; i < z(n); ++i) {
            const double normal = (x[at(i)] - m) * inverse, g = dy[at(i)] * scale[i];
            ASSERT_TRUE(close(dtype, dx[at(i)], inverse * (g - g_mean - normal * product), 8, 4 * inverse * inverse));
          }
        }
        for (std::size_t i = 0; i < z(n); ++i) {
          ASSERT_TRUE(close(DType::f32, dscale[i], want_scale[i], 16, static_cast<double>(rows)));
          ASSERT_TRUE(close(DType::f32, dbias[i], want_bias[i], 8, static_cast<double>(rows)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace halfstep::simd
