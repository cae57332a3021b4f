#include "python/src/options.h"

#include <algorithm>
#include <optional>

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "python/src/bindings.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/step/loss_options.h>

namespace halfstep::python {
namespace {

std::string with(std::string text, char from, char to) {
  std::ranges::replace(text, from, to);
  return text;
}

LossReduction parse_reduction(const std::string& name) {
  if (name == "mean") return LossReduction::mean;
  if (name == "sum") return LossReduction::sum;
  throw_input_error("a reduction of a loss: mean or sum", "'" + name + "'", "");
}

LossTerm make_term(const std::string& loss, const std::string& output, const std::string& labels, double weight,
                   std::optional<std::int64_t> class_axis, std::optional<std::int64_t> ignore_label,
                   const Numbers& numbers, std::vector<double> class_weights, const std::string& sample_weights,
                   const std::string& labels_input, const std::string& reduction) {
  LossTerm term{.loss = std::string(loss_named(loss).name), .output = output};
  term.class_axis = class_axis;
  term.ignore_label = ignore_label;
  for (const auto& [name, value] : numbers) term.numbers[with(name, '_', '-')] = value;
  numbers_of(loss_named(loss), term.numbers);
  term.labels_input = labels_input;
  term.labels = labels;
  term.weight = weight;
  term.class_weights = std::move(class_weights);
  term.sample_weights = sample_weights;
  term.reduction = parse_reduction(reduction);
  return term;
}

}  // namespace

OptimizerOptions optimizer_options(const std::string& name, const Numbers& numbers,
                                   const std::vector<GroupOptions>& groups) {
  OptimizerOptions options{.name = std::string(optimizer_named(name).name)};
  for (const auto& [wanted, value] : numbers) {
    const std::vector<OptimizerNumber>& all = optimizer_numbers();
    const auto number = std::ranges::find(all, with(wanted, '_', '-'), &OptimizerNumber::name);
    if (number == all.end())
      throw_input_error("a hyperparameter of optimizer '" + name + "'", "'" + wanted + "'",
                        "help(optimizer) lists them");
    set_number(options, *number, value);
  }
  for (const auto& [pattern, lr_factor, frozen_updates, own] : groups)
    options.groups.push_back({pattern, lr_factor, frozen_updates, {own.begin(), own.end()}});
  check(options);
  return options;
}

ExternalData external_data_of(const std::string& name) {
  if (name == "auto") return ExternalData::automatic;
  if (name == "always") return ExternalData::always;
  if (name == "never") return ExternalData::never;
  throw_input_error("external_data: auto, always or never", "'" + name + "'", "");
}

void bind_options(nb::module_& m) {
  nb::class_<LossTerm>(m, "LossTerm", "A term of a loss.")
      .def(
          "__init__",
          [](LossTerm* self, const std::string& loss, const std::string& output, const std::string& labels,
             double weight, std::optional<std::int64_t> class_axis, std::optional<std::int64_t> ignore_label,
             const Numbers& numbers, std::vector<double> class_weights, const std::string& sample_weights,
             const std::string& labels_input, const std::string& reduction) {
            new (self) LossTerm(make_term(loss, output, labels, weight, class_axis, ignore_label, numbers,
                                          std::move(class_weights), sample_weights, labels_input, reduction));
          },
          nb::kw_only(), "loss"_a, "output"_a, "labels"_a, "weight"_a, "class_axis"_a.none(), "ignore_label"_a.none(),
          "numbers"_a, "class_weights"_a, "sample_weights"_a, "labels_input"_a, "reduction"_a);
  m.def(
      "check_optimizer",
      [](const std::string& name, const Numbers& numbers, const std::vector<GroupOptions>& groups) {
        optimizer_options(name, numbers, groups);
      },
      "name"_a, "numbers"_a, "groups"_a, "Raises InputError if a training step cannot use these options.");
}

}  // namespace halfstep::python
