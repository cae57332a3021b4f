#include "conformance/statistics_check.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "conformance/attempt.h"
#include "conformance/cases.h"
#include "conformance/compare.h"
#include "conformance/distribution_check.h"
#include "conformance/run_graph.h"

namespace halfstep {
namespace {

constexpr double kDeviations = 5;
constexpr double kRatios[] = {0.1, 0.5, 0.75};
// Elements that one call of a generator, or one vector register, may make together.
constexpr std::int64_t kDistances[] = {1, 2, 4, 8, 16, 32, 64, 255, 1024};

/// What decides a draw besides the ratio.
struct Stream {
  int seed = 7, stream = 0, step = 3;  ///< Dropout has a seed alone
};

std::string case_text(const OpDef& op, double ratio, const Stream& s) {
  const bool counts = op.domain == kOwnDomain;
  return fmt::format(
      "(float[257,255] x) => (float[257,255] y, bool[257,255] mask) <float ratio = {{{}}}, {} = {{{}}}> "
      "{{ y, mask = {}<seed = {}{}>(x, ratio, {}) }}",
      ratio, counts ? "int64 step" : "bool training", counts ? s.step : 1, qualified_name(op), s.seed,
      counts ? fmt::format(", stream = {}", s.stream) : "", counts ? "step" : "training");
}

struct Draws {
  double ratio = 0;  ///< as the element type holds it
  Tensor x, y, mask;
};

Draws draw(const OpDef& op, double ratio, const Stream& stream, DType dtype, Executor& executor) {
  const std::string text = case_text(op, ratio, stream);
  OpDef row = op;
  row.cases = {{text, 1, 2}};
  const std::optional<ConformanceCase> made = make_case(row, 0, dtype);
  if (!made) return {};
  const std::vector<Tensor> out = run_graph(executor, made->graph, made->inputs);
  return {to_doubles(made->graph[made->graph.find("ratio")].constant)[0], made->inputs[0], out[0], out[1]};
}

std::string outlier(const std::string& what, double found, double expected, double deviation) {
  if (std::fabs(found - expected) <= kDeviations * deviation) return {};
  return fmt::format("{} {}, and {:.1f} ± {:.1f} expected", found, what, expected, deviation);
}

std::string fault(const OpDef& op, double ratio, DType dtype, Executor& executor) {
  const Stream stream;
  const Draws first = draw(op, ratio, stream, dtype, executor);
  if (!first.x.is_defined()) return fmt::format("no case in {}", name_of(dtype));
  if (std::string wrong = dropout_fault(first.x, first.ratio, first.y, first.mask); !wrong.empty()) return wrong;
  const Draws again = draw(op, ratio, stream, dtype, executor);
  if (!identical(first.y, again.y) || !identical(first.mask, again.mask)) return "the same seed draws something else";
  std::vector<std::pair<const char*, Stream>> others{{"seed", {.seed = 8}}};
  if (op.domain == kOwnDomain) others.insert(others.end(), {{"stream", {.stream = 1}}, {"step", {.step = 4}}});
  for (const auto& [name, other] : others) {
    const std::string wrong = mask_dependence(first.mask, draw(op, ratio, other, dtype, executor).mask, first.ratio);
    if (!wrong.empty()) return fmt::format("another {}: {}", name, wrong);
  }
  return {};
}

}  // namespace

bool draws_at_random(const OpDef& op) {
  return draws_numbers(op) || (op.name == "Dropout" && op.domain == kOnnxDomain) ||
         (op.name == "PhiloxDropout" && op.domain == kOwnDomain);
}

std::string statistics_name(const OpDef& op) { return qualified_name(op) + "/statistics"; }

std::string dropout_fault(const Tensor& x, double ratio, const Tensor& y, const Tensor& mask) {
  if (mask.dtype() != DType::boolean || mask.shape() != x.shape()) return "the mask is no bool for each element";
  const std::span<const bool> kept = mask.span<bool>();
  std::vector<double> wanted = to_doubles(x);
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = kept[i] ? wanted[i] / (1 - ratio) : 0;
  const Tensor exact = convert(Tensor::of(wanted, x.shape()), x.dtype());
  std::string wrong = difference("y", y, exact, {.relative = 4 * precision_of(x.dtype())}, "by the mask");
  if (!wrong.empty()) return wrong;

  const auto n = static_cast<std::int64_t>(kept.size());
  const auto count = static_cast<double>(n);
  const auto dropped = static_cast<double>(std::count(kept.begin(), kept.end(), false));
  wrong = outlier(fmt::format("of {} dropped", n), dropped, count * ratio, std::sqrt(count * ratio * (1 - ratio)));
  for (const std::int64_t distance : kDistances) {
    if (!wrong.empty() || distance >= n) break;
    std::int64_t both = 0;
    for (auto i = static_cast<std::size_t>(distance); i < kept.size(); ++i)
      both += !kept[i] && !kept[i - static_cast<std::size_t>(distance)];
    const auto pairs = static_cast<double>(n - distance);
    const double p = ratio * ratio;
    // Nearly all elements are in two pairs, which is the second term.
    const double variance = pairs * (p * (1 - p) + 2 * (p * ratio - p * p));
    wrong = outlier(fmt::format("of {} pairs at a distance of {} dropped", pairs, distance), static_cast<double>(both),
                    pairs * p, std::sqrt(variance));
  }
  return wrong;
}

std::string mask_dependence(const Tensor& a, const Tensor& b, double ratio) {
  if (a.shape() != b.shape()) return "a mask of another shape";
  const std::span<const bool> first = a.span<bool>(), second = b.span<bool>();
  std::int64_t alike = 0;
  for (std::size_t i = 0; i < first.size(); ++i) alike += first[i] == second[i];
  const auto count = static_cast<double>(first.size());
  const double p = ratio * ratio + (1 - ratio) * (1 - ratio);
  return outlier(fmt::format("of {} elements treated alike", count), static_cast<double>(alike), count * p,
                 std::sqrt(count * p * (1 - p)));
}

CheckReport check_statistics(const OpDef& op, DType dtype, Executor& executor) {
  const CheckReport empty{
      .op = qualified_name(op), .case_name = statistics_name(op), .kind = CheckKind::statistics, .dtype = dtype};
  return attempt(empty, [&](const CheckReport&) {
    if (draws_numbers(op)) return number_fault(op, dtype, executor);
    for (const double ratio : kRatios)
      if (const std::string wrong = fault(op, ratio, dtype, executor); !wrong.empty())
        return fmt::format("ratio {}: {}", ratio, wrong);
    return std::string();
  });
}

}  // namespace halfstep
