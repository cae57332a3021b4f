// Steps or evaluations on successive batches, with the means of their losses and metrics: the inner loop of fit.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python/src/metrics.h"
#include "python/src/rows.h"
#include "python/src/training_step.h"
#include <halfstep/base/half.h>
#include <halfstep/base/visit.h>
#include <halfstep/passes/step/loss_options.h>
#include <halfstep/training/metrics.h>

namespace halfstep::python {
namespace {

const Tensor* find(const NamedTensors& batch, const std::string& name) {
  const auto at = name.empty() ? batch.end() : batch.find(name);
  return at == batch.end() ? nullptr : &at->second;
}

/// The weight of a batch's mean in the mean over several batches: the divisor of that mean.
double weight_in_mean(const LossTerm& term, const NamedTensors& batch, std::int64_t rows) {
  if (term.reduction == LossReduction::sum) return 1;
  const Tensor *labels = find(batch, term.labels), *given = find(batch, term.sample_weights);
  const std::vector<double> weights = given ? to_doubles(*given) : std::vector<double>();
  const auto all_rows = static_cast<double>(rows);
  if (!labels) return given ? std::accumulate(weights.begin(), weights.end(), 0.0) : all_rows;
  const auto count = static_cast<std::size_t>(labels->count());
  const bool plain = !given && term.class_weights.empty();
  if (count == 0 || (plain && !term.ignore_label)) return given ? 0 : all_rows;
  const std::size_t each = weights.empty() ? 1 : std::max<std::size_t>(count / weights.size(), 1);  // labels per weight
  double sum = 0;
  visit_dtype(labels->dtype(), [&]<class L>() {
    const auto elements = std::as_const(*labels).span<L>();
    for (std::size_t i = 0; i < count; ++i) {
      double label;
      if constexpr (std::is_arithmetic_v<L>)
        label = static_cast<double>(elements[i]);
      else
        label = static_cast<float>(elements[i]);
      if (term.ignore_label && label == static_cast<double>(*term.ignore_label)) continue;
      double weight = weights.empty() ? 1 : weights[std::min(i / each, weights.size() - 1)];
      if constexpr (std::is_integral_v<L>)
        if (label >= 0 && label < static_cast<double>(term.class_weights.size())) weight *= term.class_weights[label];
      sum += weight;
    }
  });
  return plain ? sum * all_rows / static_cast<double>(count) : sum;
}

enum class Mode { training, evaluation };
/// A term of the loss, and its metrics; unset: the default metrics of its labels.
using Measured = std::pair<std::size_t, std::optional<std::string>>;

class Running {
 public:
  /// `input` is an input of the model with rows along its first axis. The step must outlive this.
  Running(GuardedStep& step, std::vector<LossTerm> terms, std::string input, std::vector<Measured> measured, Mode mode)
      : step_(step),
        terms_(std::move(terms)),
        input_(std::move(input)),
        measured_(std::move(measured)),
        mode_(mode),
        losses_(terms_.size()) {}

  StepReport add(nb::handle batch) {
    if (nb::isinstance<Batch>(batch)) return add(nb::cast<const Batch&>(batch).tensors);
    return add(tensors_from(batch, "a batch"));
  }

  const std::vector<RunningMean>& losses() const { return losses_; }
  const std::vector<std::pair<std::size_t, Metrics>>& metrics() const { return metrics_; }

 private:
  StepReport add(const NamedTensors& batch) {
    const GuardedStep::Use use = step_.use();
    return unlocked([&] {
      TrainingStep& step = use->step;
      StepReport report = mode_ == Mode::training ? step.run(batch) : step.evaluate(batch);
      const Tensor* x = find(batch, input_);
      const std::int64_t rows = x && x->shape().rank() > 0 ? x->shape()[0] : 1;
      for (std::size_t i = 0; i < terms_.size(); ++i)
        losses_[i].add(terms_.size() > 1 ? report.terms.at(i) : report.loss, weight_in_mean(terms_[i], batch, rows));
      if (!has_metrics_) make_metrics(step);
      for (auto& [term, metrics] : metrics_) step.measure(metrics, batch, term);
      return report;
    });
  }

  /// Default metrics depend on the labels, so they are created with the first batch.
  void make_metrics(const TrainingStep& step) {
    for (const auto& [term, names] : measured_)
      metrics_.emplace_back(term, step.metrics(names ? std::optional(parse_metrics(*names)) : std::nullopt, term));
    has_metrics_ = true;
  }

  GuardedStep& step_;
  std::vector<LossTerm> terms_;
  std::string input_;
  std::vector<Measured> measured_;
  Mode mode_;
  std::vector<RunningMean> losses_;  // of the terms
  std::vector<std::pair<std::size_t, Metrics>> metrics_;
  bool has_metrics_ = false;
};

}  // namespace

void bind_running(nb::module_& m) {
  nb::class_<Running>(m, "Running", "Steps or evaluations on successive batches, and the means of their results.")
      .def(
          "__init__",
          [](Running* self, GuardedStep& step, std::vector<LossTerm> terms, const std::string& input,
             std::vector<Measured> measured, bool training) {
            new (self) Running(step, std::move(terms), input, std::move(measured),
                               training ? Mode::training : Mode::evaluation);
          },
          "step"_a, nb::kw_only(), "terms"_a, "input"_a, "measured"_a, "training"_a, nb::keep_alive<1, 2>())
      .def("add", nb::overload_cast<nb::handle>(&Running::add), "batch"_a,
           "Runs a step or an evaluation on a batch: a dictionary as for TrainingStep.run, or a Batch.")
      .def_prop_ro(
          "losses",
          [](const Running& self) {
            std::vector<double> means;
            for (const RunningMean& mean : self.losses()) means.push_back(mean.value());
            return means;
          },
          "The mean of each term of the loss over all labels; NaN before the first label that is not ignored.")
      .def(
          "metrics",
          [](const Running& self) {
            nb::list result;
            for (const auto& [term, metrics] : self.metrics()) result.append(nb::make_tuple(term, values_of(metrics)));
            return result;
          },
          "(term, {name: value}) for each term with metrics.");
}

}  // namespace halfstep::python
