// SIMD optimizer steps, gradient norm and dropout against plain loops.
#include <array>
#include <limits>

#include "base/philox.h"
#include "executors/onednn/simd/dropout.h"
#include "executors/onednn/simd/optimizer.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

const std::vector<std::int64_t> kTensors = {1000, 0, 1, 3, 4096, 64, 100003, 17, 0};

/// One Array for each tensor.
std::vector<Array> arrays(double low, double high, unsigned seed) {
  std::vector<Array> result;
  for (const std::int64_t n : kTensors) result.push_back(random_array(DType::f32, n, low, high, seed++));
  return result;
}

struct StepScalars {
  float lr = 0.01F;
  std::int64_t step = 3;
  bool apply = true;
  float grad_factor = 0.25F;
  OptimizerScalars pointers() const { return {&lr, &step, &apply, &grad_factor}; }
};

using States = std::array<std::vector<Array>, 3>;  // p, m, v

States run_adam(const States& from, std::vector<Array>& g, const StepScalars& scalars, const AdamParams& params) {
  States to = from;
  std::vector<AdamTensor> tensors;
  for (std::size_t i = 0; i < kTensors.size(); ++i) {
    const auto f = [i](const std::vector<Array>& list) { return static_cast<const float*>(list[i].data()); };
    tensors.push_back(
        {f(from[0]), f(g), f(from[1]), f(from[2]), to[0][i].floats(), to[1][i].floats(), to[2][i].floats()});
  }
  adam_step(TensorList(kTensors), tensors, scalars.pointers(), params);
  return to;
}

TEST(SimdAdam, MatchesDouble) {
  const States from = {arrays(-1, 1, 1), arrays(-0.1, 0.1, 20), arrays(0, 0.01, 40)};
  std::vector<Array> g = arrays(-1, 1, 60);
  for (const AdamParams& c :
       {AdamParams{}, AdamParams{0.8, 0.99, 1e-6, 0.1, false}, AdamParams{0.9, 0.999, 1e-8, 0.1, true}}) {
    const StepScalars scalars;
    const States to = with_any_threads([&] { return run_adam(from, g, scalars, c); });
    const double t = 3, lr = scalars.lr;
    for (std::size_t k = 0; k < kTensors.size(); ++k) {
      for (std::size_t i = 0; i < g[k].size(); ++i) {
        double p = from[0][k][i], m = from[1][k][i], v = from[2][k][i];
        const double gradient = g[k][i] * 0.25 + (c.decoupled ? 0 : c.weight_decay * p);
        m = c.beta1 * m + (1 - c.beta1) * gradient;
        v = c.beta2 * v + (1 - c.beta2) * gradient * gradient;
        if (c.decoupled) p *= 1 - lr * c.weight_decay;
        p -= lr / (1 - std::pow(c.beta1, t)) * m / (std::sqrt(v) / std::sqrt(1 - std::pow(c.beta2, t)) + c.epsilon);
        ASSERT_TRUE(close(DType::f32, to[1][k][i], m, 4, 0.1));
        ASSERT_TRUE(close(DType::f32, to[2][k][i], v, 6));
        ASSERT_TRUE(close(DType::f32, to[0][k][i], p, 4, 1));
      }
      for (const std::vector<Array>& list : to) EXPECT_TRUE(list[k].guard_intact());
    }
  }
}

TEST(SimdAdam, LeavesEverythingAloneUnlessApplied) {
  States from = {arrays(-1, 1, 1), arrays(-1, 1, 2), arrays(0, 1, 3)};
  for (Array& p : from[0]) sprinkle_specials(p);
  std::vector<Array> g = arrays(-1, 1, 4);
  for (Array& gradient : g) sprinkle_specials(gradient);
  const StepScalars scalars = {.apply = false};
  const AdamParams params = {.weight_decay = 0.1};
  const States to = run_adam(from, g, scalars, params);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(to[i] == from[i]);
}

TEST(SimdAdam, LeavesNoSubnormalMoments) {
  constexpr float kLeast = std::numeric_limits<float>::min();
  States from = {arrays(-1, 1, 1), arrays(0, 0, 2), arrays(0, 0, 3)};
  std::vector<Array> g = arrays(0, 0, 4);
  for (std::size_t k = 0; k < kTensors.size(); ++k) {
    for (std::size_t i = 0; i < from[1][k].size(); ++i) {
      from[1][k].floats()[i] = (i % 2 ? -kLeast : kLeast) / static_cast<float>(i % 5 + 1);
      from[2][k].floats()[i] = kLeast / static_cast<float>(i % 7 + 1);
    }
  }
  const States to = run_adam(from, g, StepScalars{}, AdamParams{});
  for (std::size_t k = 0; k < kTensors.size(); ++k) {
    for (std::size_t i = 0; i < to[1][k].size(); ++i) {
      ASSERT_EQ(to[1][k][i], 0.0f);
      ASSERT_EQ(to[2][k][i], 0.0f);
    }
  }
}

TEST(SimdSgd, MatchesDouble) {
  const std::vector<Array> p0 = arrays(-1, 1, 1), b0 = arrays(-1, 1, 20);
  const std::vector<Array> g = arrays(-1, 1, 60);
  const SgdParams cases[] = {{}, {0, 0, 0.1}, {0.9, 0, 0.01}, {0.9, 0.5, 0}, {0.9, 0, 0.1, true}};
  for (const SgdParams& c : cases) {
    for (const std::int64_t step : {1, 5}) {
      for (const bool apply : {true, false}) {
        const StepScalars scalars = {.step = step, .apply = apply};
        const bool momentum = c.momentum != 0;
        const auto run = [&] {
          std::array<std::vector<Array>, 2> to = {p0, b0};
          std::vector<SgdTensor> tensors;
          for (std::size_t k = 0; k < kTensors.size(); ++k) {  // in place
            float* b = momentum ? to[1][k].floats() : nullptr;
            tensors.push_back({to[0][k].floats(), static_cast<const float*>(g[k].data()), b, to[0][k].floats(), b});
          }
          sgd_step(TensorList(kTensors), tensors, scalars.pointers(), c);
          return to;
        };
        const auto to = with_any_threads(run);
        if (!apply) {
          EXPECT_TRUE(to[0] == p0 && to[1] == b0);
          continue;
        }
        for (std::size_t k = 0; k < kTensors.size(); ++k) {
          for (std::size_t i = 0; i < g[k].size(); ++i) {
            const double p = p0[k][i];
            double gradient = g[k][i] * 0.25 + c.weight_decay * p;
            if (momentum) {
              const double b = step == 1 ? gradient : c.momentum * b0[k][i] + (1 - c.dampening) * gradient;
              ASSERT_TRUE(close(DType::f32, to[1][k][i], b, 4, 1));
              gradient = c.nesterov ? gradient + c.momentum * b : b;
            }
            ASSERT_TRUE(close(DType::f32, to[0][k][i], p - static_cast<double>(scalars.lr) * gradient, 2, 1));
          }
        }
      }
    }
  }
}

TEST(SimdGlobalNorm, MatchesDoubleAndFindsWhatIsNotFinite) {
  const TensorList list(kTensors);
  std::vector<double> scratch(global_norm_scratch_bytes(list) / sizeof(double));
  std::vector<Array> g = arrays(-1, 1, 5);
  const auto norm_of = [&] {
    std::vector<const float*> pointers;
    for (Array& gradient : g) pointers.push_back(gradient.floats());
    std::pair<float, bool> result;
    global_norm(list, pointers, &result.first, &result.second, scratch.data());
    return result;
  };
  double total = 0;
  for (const Array& gradient : g)
    for (std::size_t i = 0; i < gradient.size(); ++i) total += gradient[i] * gradient[i];
  const auto [norm, finite] = with_any_threads(norm_of);
  EXPECT_TRUE(close(DType::f32, norm, std::sqrt(total), 1));
  EXPECT_TRUE(finite);

  g[2].set(0, 3e38F);  // its square is no f32
  EXPECT_TRUE(norm_of().second);
  EXPECT_TRUE(std::isfinite(norm_of().first));
  for (const float special : {static_cast<float>(NAN), static_cast<float>(-INFINITY)}) {
    g[6].set(100002, special);
    EXPECT_FALSE(norm_of().second);
  }
  bool no_elements_finite = false;
  float no_elements_norm = 1;
  global_norm(TensorList({}), {}, &no_elements_norm, &no_elements_finite, nullptr);
  EXPECT_EQ(no_elements_norm, 0);
  EXPECT_TRUE(no_elements_finite);
}

TEST(SimdDropout, DrawsThePhiloxStream) {
  const std::int64_t seed = 0x123456789abcdef, stream = 7, counter = (std::int64_t{5} << 32) + 11;
  const PhiloxKey key = philox_key(static_cast<std::uint64_t>(seed));
  for (const DType dtype : kFloats) {
    for (const std::int64_t n : kSizes) {
      const Array x = random_array(dtype, n), dy = random_array(dtype, n, -1, 1, 2);
      std::vector<char> mask(x.size() + 1, 'x');
      const Array y = with_any_threads([&] {
        Array result(dtype, n);
        find_dropout(dtype, {seed, stream})(x.data(), result.data(), reinterpret_cast<bool*>(mask.data()), n, 0.3F,
                                            counter);
        return result;
      });
      Array dx(dtype, n);
      find_mask_scale(dtype)(dy.data(), reinterpret_cast<const bool*>(mask.data()), dx.data(), n, 1 / 0.7F);
      EXPECT_TRUE(y.guard_intact() && dx.guard_intact());
      EXPECT_EQ(mask.back(), 'x');
      for (std::size_t i = 0; i < x.size(); ++i) {
        const PhiloxCounter words = philox4x32_10({static_cast<std::uint32_t>(i / 4), 11, 5, 7}, key);
        const bool kept = uniform_float(words[i % 4]) >= 0.3F;
        ASSERT_EQ(mask[i], kept);
        ASSERT_TRUE(close(dtype, y[i], kept ? x[i] / 0.7 : 0, 2));
        ASSERT_TRUE(close(dtype, dx[i], kept ? dy[i] / 0.7 : 0, 2));
      }
    }
  }
}

TEST(SimdDropout, DropsNanAndKeepsNothingAtRatioOne) {
  Array x(DType::f32, std::vector<double>(100, NAN)), y(DType::f32, 100);
  find_dropout(DType::f32, {})(x.data(), y.data(), nullptr, 100, 1.0F, 0);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(y[i], 0);
  find_dropout(DType::f32, {})(x.data(), y.data(), nullptr, 100, 0.0F, 0);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_TRUE(std::isnan(y[i]));
}

}  // namespace
}  // namespace halfstep::simd
