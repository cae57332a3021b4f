#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ops/losses/loss_rows.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

bool is_in_range(const LossNumber& number, double value) {
  return value >= number.lowest && value <= number.highest && !(number.above_lowest && value == number.lowest);
}

/// The losses that have a number, by name.
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
    all.push_back({.kind = LossKind::output,
                   .name = "output",
                   .meaning = "the model computes it",
                   .source = "the model",
                   .labels = LossLabels::none});
    return all;
  }();
  return rows;
}

const LossDef& loss_of(LossKind kind) {
  return *std::find_if(losses().begin(), losses().end(), [&](const LossDef& row) { return row.kind == kind; });
}

std::string_view name_of(LossKind kind) { return loss_of(kind).name; }

LossKind parse_loss(std::string_view name) {
  std::vector<std::string_view> known;
  for (const LossDef& row : losses()) {
    if (row.name == name) return row.kind;
    known.push_back(row.name);
  }
  throw_input_error(fmt::format("a loss: {}", fmt::join(known, ", ")), fmt::format("'{}'", name), "check --loss");
}

std::vector<LossNumber> all_loss_numbers() {
  std::vector<LossNumber> all;
  for (const LossDef& loss : losses())
    for (const LossNumber& number : loss.numbers)
      if (std::none_of(all.begin(), all.end(), [&](const LossNumber& known) { return known.name == number.name; }))
        all.push_back(number);
  return all;
}

std::vector<double> numbers_of(LossKind kind, const LossNumbers& given) {
  const LossDef& loss = loss_of(kind);
  std::vector<double> values;
  for (const LossNumber& number : loss.numbers) {
    const auto at = given.find(number.name);
    values.push_back(at == given.end() ? number.fallback : at->second);
    if (!is_in_range(number, values.back()))
      throw_input_error(fmt::format("--{} {} {}, up to {}", number.name, number.above_lowest ? "above" : "of at least",
                                    number.lowest, number.highest),
                        fmt::format("{}", values.back()), "correct the number");
  }
  for (const auto& [name, value] : given)
    if (std::none_of(loss.numbers.begin(), loss.numbers.end(), [&](const LossNumber& n) { return n.name == name; }))
      throw_input_error(fmt::format("a loss that has --{}: {}", name, losses_with(name)), std::string(loss.name),
                        "leave it out, or choose another loss with --loss");
  return values;
}

Expr loss_mean(Expr x) { return x.builder().op("ReduceMean", {x}, {{"keepdims", std::int64_t{0}}}); }

Expr loss_mean_of_counted(Expr x, Expr labels, std::int64_t ignored) {
  Builder& b = x.builder();
  const Attributes to_scalar{{"keepdims", std::int64_t{0}}};
  const Expr counts = b.op("Not", {b.op("Equal", {labels, b.scalar(static_cast<double>(ignored), labels.dtype())})});
  const Expr count = b.op("ReduceSum", {b.cast(counts, x.dtype())}, to_scalar);
  return b.op("ReduceSum", {x}, to_scalar) / b.op("Max", {count, b.scalar(1, x.dtype())});
}

Expr focal_weight(Expr miss, double gamma) {
  // Off 0, where the gradient of a power below 1 is infinite.
  Builder& b = miss.builder();
  return b.op("Pow", {b.op("Clip", {miss, b.scalar(1e-7, miss.dtype())}), b.scalar(gamma, miss.dtype())});
}

std::vector<LossNumber> focal_numbers() {
  return {{.name = "focal-gamma",
           .meaning = "how much less a focal loss weighs what is nearly right; 0: not at all",
           .fallback = 2,
           .lowest = 0,
           .highest = 100},
          {.name = "focal-alpha",
           .meaning = "weight in a focal loss: of all classes, or in binary_focal of class 1, and 1 less it of class 0",
           .fallback = 0.25,
           .lowest = 0,
           .highest = 1}};
}

}  // namespace halfstep
