// Steps or evaluations on successive batches, with the means of their losses and metrics: the inner loop of fit.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python/src/metrics.h"
#include "python/src/rows.h"
#include "python/src/training_step.h"
#include "training/over_ranks.h"
#include <halfstep/training/metrics.h>

namespace halfstep::python {
namespace {

enum class Mode { training, evaluation };
/// A term of the loss, and its metrics; unset: the default metrics of its labels.
using Measured = std::pair<std::size_t, std::optional<std::string>>;

class Running {
 public:
  /// `terms`: of the loss. The step must outlive this.
  Running(GuardedStep& step, std::size_t terms, std::vector<Measured> measured, Mode mode)
      : step_(step), measured_(std::move(measured)), mode_(mode), losses_(terms) {}

  StepReport add(nb::handle batch) {
    if (nb::isinstance<Batch>(batch)) return add(nb::cast<const Batch&>(batch).tensors);
    return add(tensors_from(batch, "a batch"));
  }

  /// Makes it what it is over the batches of all ranks, each of which has added its own. Collective.
  void merge(Communicator& ranks) {
    std::vector<Metrics*> metrics;
    for (auto& [term, one] : metrics_) metrics.push_back(&one);
    unlocked([&] { halfstep::merge(ranks, losses_, metrics); });
  }

  const std::vector<RunningMean>& losses() const { return losses_; }
  const std::vector<std::pair<std::size_t, Metrics>>& metrics() const { return metrics_; }

 private:
  StepReport add(const NamedTensors& batch) {
    const GuardedStep::Use use = step_.use();
    return unlocked([&] {
      TrainingStep& step = use->step;
      StepReport report = mode_ == Mode::training ? step.run(batch) : step.evaluate(batch);
      const std::vector<double> weights = step.loss_weights();
      for (std::size_t i = 0; i < losses_.size(); ++i)
        losses_[i].add(losses_.size() > 1 ? report.terms.at(i) : report.loss, weights.at(i));
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
          [](Running* self, GuardedStep& step, std::size_t terms, std::vector<Measured> measured, bool training) {
            new (self) Running(step, terms, std::move(measured), training ? Mode::training : Mode::evaluation);
          },
          "step"_a, nb::kw_only(), "terms"_a, "measured"_a, "training"_a, nb::keep_alive<1, 2>())
      .def("add", nb::overload_cast<nb::handle>(&Running::add), "batch"_a,
           "Runs a step or an evaluation on a batch: a dictionary as for TrainingStep.run, or a Batch.")
      .def("merge", &Running::merge, "ranks"_a,
           "Makes the results those of the batches of all ranks, each of which has added its own.")
      .def_prop_ro(
          "losses",
          [](const Running& self) {
            std::vector<double> means;
            for (const RunningMean& mean : self.losses()) means.push_back(mean.value());
            return means;
          },
          "The mean of each term of the loss over all labels; NaN before the first label that is not ignored.")
      .def_prop_ro(
          "weights",
          [](const Running& self) {
            std::vector<double> weights;
            for (const RunningMean& mean : self.losses()) weights.push_back(mean.weight());
            return weights;
          },
          "The weight of all labels of each term so far.")
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
