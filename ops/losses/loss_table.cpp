#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/row_named.h"
#include "ops/losses/loss_rows.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

bool is_in_range(const LossNumber& number, double value) {
  return value >= number.lowest && value <= number.highest && !(number.above_lowest && value == number.lowest);
}

/// The losses that have a parameter, by name.
std::string losses_with(std::string_view number) {
  std::vector<std::string_view> names;
  for (const LossDef& loss : losses())
    for (const LossNumber& n : loss.numbers)
      if (n.name == number) names.push_back(loss.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::span<const LossDef> losses() {
  static const std::vector<LossDef> rows = [] {
    std::vector<LossDef> all;
    for (std::vector<LossDef> (*family)() : {class_losses, binary_losses, value_losses})
      for (LossDef& row : family()) all.push_back(std::move(row));
    all.push_back(
        {.name = kOwnLoss, .meaning = "the model computes it", .source = "the model", .labels = LossLabels::none});
    return all;
  }();
  return rows;
}

const LossDef& loss_named(std::string_view name) { return row_named(losses(), name, "a loss: ", "check --loss"); }

std::vector<LossNumber> all_loss_numbers() {
  std::vector<LossNumber> all;
  for (const LossDef& loss : losses())
    for (const LossNumber& number : loss.numbers)
      if (std::none_of(all.begin(), all.end(), [&](const LossNumber& known) { return known.name == number.name; }))
        all.push_back(number);
  return all;
}

std::vector<double> numbers_of(const LossDef& loss, const LossNumbers& given) {
  std::vector<double> values;
  for (const LossNumber& number : loss.numbers) {
    const auto at = given.find(number.name);
    values.push_back(at == given.end() ? number.fallback : at->second);
    if (!is_in_range(number, values.back()))
      throw_input_error(fmt::format("--{} {} {}, up to {}", number.name, number.above_lowest ? "above" : "of at least",
                                    number.lowest, number.highest),
                        fmt::format("{}", values.back()), "correct the number");
  }
  for (const auto& number : given)
    if (std::none_of(loss.numbers.begin(), loss.numbers.end(),
                     [&](const LossNumber& n) { return n.name == number.first; }))
      throw_input_error(fmt::format("a loss that has --{}: {}", number.first, losses_with(number.first)),
                        std::string(loss.name), "omit it, or choose another --loss");
  return values;
}

namespace {

const Attributes& to_scalar() {
  static const Attributes attributes{{"keepdims", std::int64_t{0}}};
  return attributes;
}

/// `weights`, one per row or per loss, in the shape of the losses.
Expr spread(Expr weights, Expr losses) {
  Builder& b = losses.builder();
  const Shape shape = losses.shape(), given = weights.shape();
  weights = b.cast(weights, losses.dtype());
  if (given.count() == shape.count()) return b.reshape(weights, shape);
  std::vector<std::int64_t> dims(shape.rank(), 1);
  if (!dims.empty()) dims[0] = given.count();
  return b.op("Expand", {b.reshape(weights, Shape(dims)), b.ints(shape.dims())});
}

}  // namespace

Expr is_ignored(const LossOperands& o) {
  Builder& b = o.y.builder();
  return b.op("Equal", {o.labels, b.scalar(static_cast<double>(*o.ignored), o.labels.dtype())});
}

Expr reduced(const LossOperands& o, Expr losses, Expr weights) {
  Builder& b = losses.builder();
  if (weights) weights = spread(weights, losses);
  if (o.sample_weights) {
    const Expr given = spread(o.sample_weights, losses);
    losses = losses * given;
    weights = weights ? weights * given : given;
  }
  const bool counts_only = !weights;
  if (o.ignored) {
    const Expr counts = b.cast(b.op("Not", {is_ignored(o)}), losses.dtype());
    weights = weights ? weights * spread(counts, losses) : counts;
  }
  if (o.reduction == LossReduction::sum) return b.op("ReduceSum", {losses}, to_scalar());
  if (!weights) return b.op("ReduceMean", {losses}, to_scalar());
  const Expr total = b.op("ReduceSum", {weights}, to_scalar()), one = b.scalar(1, losses.dtype());
  const Expr divisor = counts_only ? b.op("Max", {total, one})
                                   : b.op("Where", {b.op("Equal", {total, b.scalar(0, total.dtype())}), one, total});
  return b.op("ReduceSum", {losses}, to_scalar()) / divisor;
}

Expr focal_weight(Expr miss, double gamma) {
  // Away from 0, where the gradient of a power below 1 is infinite.
  Builder& b = miss.builder();
  return b.op("Pow", {b.op("Clip", {miss, b.scalar(1e-7, miss.dtype())}), b.scalar(gamma, miss.dtype())});
}

LossNumber label_smoothing() {
  return {.name = "label-smoothing",
          .meaning = "label smoothing: share of each label spread evenly over the classes",
          .fallback = 0,
          .lowest = 0,
          .highest = 1};
}

std::vector<LossNumber> focal_numbers() {
  return {{.name = "focal-gamma",
           .meaning = "focusing parameter of a focal loss: down-weights easy examples; 0: none",
           .fallback = 2,
           .lowest = 0,
           .highest = 100},
          {.name = "focal-alpha",
           .meaning = "weight in a focal loss: of all classes; in binary_focal of class 1, and 1 minus it of class 0",
           .fallback = 0.25,
           .lowest = 0,
           .highest = 1}};
}

}  // namespace halfstep
