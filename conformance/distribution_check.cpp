#include "conformance/distribution_check.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "conformance/cases.h"
#include "conformance/compare.h"
#include "conformance/run_graph.h"

namespace halfstep {
namespace {

constexpr double kDeviations = 5;
// Of the Kolmogorov-Smirnov statistic times the root of the count: exceeded once in 100 million draws.
constexpr double kMostDifference = 3.1;
constexpr std::int64_t kDistances[] = {1, 2, 3, 4, 8, 16, 32, 64, 255, 1024};

double uniform_below(double x) { return std::clamp((x + 1) / 4, 0.0, 1.0); }         // between -1 and 3
double normal_below(double x) { return std::erfc((1 - x) / 2 / std::sqrt(2)) / 2; }  // of mean 1 and deviation 2

// Of classes 0, 1 and 2 with log-probabilities 0, 1 and 2.
ExpectedDraws classes() {
  const double weights[] = {1, std::exp(1.0), std::exp(2.0)};
  const double total = weights[0] + weights[1] + weights[2];
  const double mean = (weights[1] + 2 * weights[2]) / total, square = (weights[1] + 4 * weights[2]) / total;
  return {mean, std::sqrt(square - mean * mean)};
}

/// A graph of one operator; {} stands for its seed and, in PhiloxRandom, stream, and for the step.
struct Generator {
  std::string_view op;
  const char* text;
  ExpectedDraws expected;
  double operand = 0;  ///< what every element of the float input is
};

const std::vector<Generator>& generators() {
  static const std::vector<Generator> all = {
      {"RandomUniform",
       "() => (float[257,255] y) {{ y = RandomUniform<shape = [257, 255], low = -1.0, high = 3.0, seed = {}.0>() }}",
       {1, std::sqrt(16.0 / 12), uniform_below}},
      {"RandomUniformLike",
       "(float[257,255] x) => (float[257,255] y) {{ y = RandomUniformLike<low = -1.0, high = 3.0, seed = {}.0>(x) }}",
       {1, std::sqrt(16.0 / 12), uniform_below}},
      {"RandomNormal",
       "() => (float[257,255] y) {{ y = RandomNormal<shape = [257, 255], mean = 1.0, scale = 2.0, seed = {}.0>() }}",
       {1, 2, normal_below}},
      {"RandomNormalLike",
       "(float[257,255] x) => (float[257,255] y) {{ y = RandomNormalLike<mean = 1.0, scale = 2.0, seed = {}.0>(x) }}",
       {1, 2, normal_below}},
      {"Bernoulli",
       "(float[257,255] x) => (float[257,255] y) {{ y = Bernoulli<seed = {}.0>(x) }}",
       {0.25, std::sqrt(3.0) / 4},
       0.25},
      {"Multinomial",
       "() => (int32[1,65535] y) <float[1,3] x = {{0.0, 1.0, 2.0}}> "
       "{{ y = Multinomial<sample_size = 65535, seed = {}.0>(x) }}",
       classes()},
      {"PhiloxRandom",
       "() => (float[257,255] y) <int64 step = {{{2}}}> {{ y = ai.halfstep.PhiloxRandom<shape = [257, 255], "
       "first = -1.0, spread = 4.0, seed = {0}, stream = {1}>(step) }}",
       {1, std::sqrt(16.0 / 12), uniform_below}},
      {"PhiloxRandom",
       "() => (float[257,255] y) <int64 step = {{{2}}}> {{ y = ai.halfstep.PhiloxRandom<shape = [257, 255], "
       "normal = 1, first = 1.0, spread = 2.0, seed = {0}, stream = {1}>(step) }}",
       {1, 2, normal_below}},
  };
  return all;
}

bool is_of(const Generator& generator, const OpDef& op) {
  return generator.op == op.name && op.domain == (op.name == "PhiloxRandom" ? kOwnDomain : kOnnxDomain);
}

std::vector<double> run(const OpDef& op, const Generator& generator, int seed, int stream, int step, DType dtype,
                        Executor& executor) {
  const std::string text = fmt::format(fmt::runtime(generator.text), seed, stream, step);
  OpDef row = op;
  row.cases = {{text, generator.operand, generator.operand}};
  const std::optional<ConformanceCase> made = make_case(row, 0, dtype);
  return made ? to_doubles(run_graph(executor, made->graph, made->inputs)[0]) : std::vector<double>();
}

std::string outlier(const std::string& what, double found, double expected, double deviation) {
  constexpr double kRounding = 1e-9;  // of sums, relative
  if (std::fabs(found - expected) <= kDeviations * deviation + kRounding * std::fabs(expected)) return {};
  return fmt::format("{} of {:.5f}, and {:.5f} ± {:.5f} expected", what, found, expected, deviation);
}

double correlation(std::span<const double> a, std::span<const double> b, const ExpectedDraws& expected) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - expected.mean) * (b[i] - expected.mean);
  return sum / static_cast<double>(a.size()) / (expected.deviation * expected.deviation);
}

double largest_difference(std::span<const double> numbers, double (*share_below)(double)) {
  std::vector<double> sorted(numbers.begin(), numbers.end());
  std::sort(sorted.begin(), sorted.end());
  const auto count = static_cast<double>(sorted.size());
  double most = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const double share = share_below(sorted[i]), below = static_cast<double>(i) / count;
    most = std::max({most, std::fabs(share - below), std::fabs(share - below - 1 / count)});
  }
  return most;
}

std::string fault(const OpDef& op, const Generator& generator, DType dtype, Executor& executor) {
  const auto draw = [&](int seed, int stream, int step) {
    return run(op, generator, seed, stream, step, dtype, executor);
  };
  const std::vector<double> first = draw(7, 0, 3);
  if (first.empty()) return fmt::format("no case in {}", name_of(dtype));
  if (std::string wrong = distribution_fault(first, generator.expected, precision_of(dtype)); !wrong.empty())
    return wrong;
  if (draw(7, 0, 3) != first) return "the same seed draws something else";
  if (std::string wrong = correlation_fault(first, draw(8, 0, 3), generator.expected); !wrong.empty())
    return "another seed: " + wrong;
  if (op.domain != kOwnDomain) return {};
  if (std::string wrong = correlation_fault(first, draw(7, 1, 3), generator.expected); !wrong.empty())
    return "another stream: " + wrong;
  if (std::string wrong = correlation_fault(first, draw(7, 0, 4), generator.expected); !wrong.empty())
    return "another step: " + wrong;
  return {};
}

}  // namespace

std::string distribution_fault(std::span<const double> numbers, const ExpectedDraws& expected, double rounding) {
  const auto count = static_cast<double>(numbers.size());
  double sum = 0, squares = 0, fourths = 0;
  for (const double x : numbers) {
    const double d = x - expected.mean;
    sum += x;
    squares += d * d;
    fourths += d * d * d * d;
  }
  const double variance = expected.deviation * expected.deviation, root = std::sqrt(count);
  if (std::string wrong = outlier("a mean", sum / count, expected.mean, expected.deviation / root); !wrong.empty())
    return wrong;
  const double of_squares = std::sqrt(std::max(fourths / count - variance * variance, 0.0)) / root;
  if (std::string wrong = outlier("a variance", squares / count, variance, of_squares); !wrong.empty()) return wrong;
  if (expected.share_below) {
    const double difference = largest_difference(numbers, expected.share_below),
                 most = kMostDifference / root + rounding;
    if (difference > most)
      return fmt::format("shares below a number that differ by {:.5f} from those expected, and {:.5f} at most",
                         difference, most);
  }
  for (const std::int64_t distance : kDistances) {
    const auto apart = static_cast<std::size_t>(distance);
    if (apart >= numbers.size()) break;
    const double r = correlation(numbers.first(numbers.size() - apart), numbers.subspan(apart), expected);
    if (std::string wrong = outlier(fmt::format("a correlation at a distance of {}", distance), r, 0, 1 / root);
        !wrong.empty())
      return wrong;
  }
  return {};
}

std::string correlation_fault(std::span<const double> a, std::span<const double> b, const ExpectedDraws& expected) {
  if (a.size() != b.size()) return "another number of draws";
  return outlier("a correlation", correlation(a, b, expected), 0, 1 / std::sqrt(static_cast<double>(a.size())));
}

bool draws_numbers(const OpDef& op) {
  return std::any_of(generators().begin(), generators().end(), [&](const Generator& g) { return is_of(g, op); });
}

std::string number_fault(const OpDef& op, DType dtype, Executor& executor) {
  for (const Generator& generator : generators()) {
    if (!is_of(generator, op)) continue;
    if (std::string wrong = fault(op, generator, dtype, executor); !wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace halfstep
