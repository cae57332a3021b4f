#include "python/src/training_step.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "distributed/topology.h"
#include "python/src/model.h"
#include "python/src/options.h"
#include <halfstep/base/byte_count.h>
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>

namespace halfstep::python {
namespace {

LossFunction loss_function(const LoadedModel& model) { return loss_of_model(model.graph); }

SaveOptions save_options(const std::string& form, const std::string& external_data) {
  SaveOptions options;
  if (form != "inference" && form != "training")
    throw_input_error("a form to save: inference or training", "'" + form + "'", "");
  if (form == "training") options.form = OutputForm::training;
  options.external_data = external_data_of(external_data);
  return options;
}

void bind_report(nb::module_& m) {
  nb::class_<StepReport>(m, "StepReport", "The results of a call of a training step.")
      .def_ro("loss", &StepReport::loss, "The loss of the batch; 0 if there is none.")
      .def_ro("terms", &StepReport::terms, "The unweighted terms of a loss of several terms.")
      .def_ro("gradient_norm", &StepReport::gradient_norm,
              "L2 norm of all unscaled gradients together, before clipping.")
      .def_ro("gradients_finite", &StepReport::gradients_finite, "False: the whole update is skipped.")
      .def_ro("due", &StepReport::due, "Whether the batch completes an update, which may have been skipped.")
      .def_ro("updated", &StepReport::updated, "Whether the parameters changed.")
      .def_ro("loss_scale", &StepReport::loss_scale, "The loss scale used by this call.")
      .def("__repr__", [](const StepReport& r) {
        return nb::str(
                   "StepReport(loss={:.7g}, gradient_norm={:.7g}, gradients_finite={}, updated={}, loss_scale={:g})")
            .attr("format")(r.loss, r.gradient_norm, r.gradients_finite, r.updated, r.loss_scale);
      });
}

}  // namespace

void bind_training_step(nb::module_& m) {
  bind_report(m);
  using Step = GuardedStep;
  nb::class_<Step>(m, "TrainingStep", "Trains a model step by step.")
      .def(
          "__init__",
          [](Step* self, const LoadedModel& model, std::optional<std::vector<LossTerm>> terms,
             const LoadedModel* loss_model, const std::string& optimizer, const Numbers& numbers,
             const std::vector<GroupOptions>& groups, double learning_rate, const std::string& precision,
             std::optional<double> loss_scale, std::vector<std::string> freeze, std::vector<std::string> trainable,
             bool train_batchnorm, bool train_dropout, std::uint64_t seed,
             const std::map<std::string, std::int64_t>& batch_axes, std::size_t programs, const std::string& executor,
             int threads, const std::string& fp32_math, const std::string& tune, bool deterministic,
             const std::string& device, const std::string& memory_budget, const std::shared_ptr<Communicator>& ranks,
             bool sync_batchnorm, bool sharded_optimizer, const std::string& gradient_precision) {
            threads = unlocked([&] { return share_cores(ranks.get(), threads); });
            const ExecutorOptions on{.threads = threads,
                                     .fp32_math = parse_fp32_math(fp32_math),
                                     .tuning = parse_tuning(tune),
                                     .deterministic = deterministic,
                                     .device = device};
            TrainingStepOptions options{
                .optimizer = optimizer_options(optimizer, numbers, groups),
                .learning_rate = learning_rate,
                .precision = parse_precision(precision),
                .loss_scale = loss_scale,
                .parameters = {.freeze = std::move(freeze), .trainable = std::move(trainable)},
                .mode = {train_batchnorm, train_dropout, static_cast<std::int64_t>(seed)},
                .batch_axes = batch_axes,
                .memory_budget = memory_budget.empty() ? 0 : parse_byte_count(memory_budget, "memory_budget"),
                .ranks = ranks,
                .sync_batchnorm = sync_batchnorm,
                .sharded_optimizer = sharded_optimizer,
                .gradient_dtype = resolve(parse_precision(gradient_precision), {}),
                .programs = programs};
            if (loss_model)
              options.loss = LossOptions{.terms = {}, .function = loss_function(*loss_model)};
            else if (terms)
              options.loss = LossOptions{.terms = *std::move(terms), .function = {}};
            std::unique_ptr<StepOnExecutor> made = unlocked([&] {
              std::unique_ptr<Executor> e = make_executor(executor, on);
              warn_without_effect(on, *e);
              TrainingStep step(model, *e, options);
              return std::make_unique<StepOnExecutor>(StepOnExecutor{std::move(e), std::move(step)});
            });
            new (self) Step("training step", std::move(made));
          },
          "model"_a, nb::kw_only(), "terms"_a.none(), "loss_model"_a.none(), "optimizer"_a, "numbers"_a, "groups"_a,
          "learning_rate"_a, "precision"_a, "loss_scale"_a.none(), "freeze"_a, "trainable"_a, "train_batchnorm"_a,
          "train_dropout"_a, "seed"_a, "batch_axes"_a, "programs"_a, "executor"_a, "threads"_a, "fp32_math"_a, "tune"_a,
          "deterministic"_a, "device"_a, "memory_budget"_a, "ranks"_a.none(), "sync_batchnorm"_a, "sharded_optimizer"_a,
          "gradient_precision"_a)

      .def("run", &Step::with_batch<&TrainingStep::run>, "batch"_a,
           "Forward and backward pass and update for a batch: a dictionary with the model's inputs and the labels by "
           "name, with batch axis 0. Raises InputError for other names, types or shapes, without changing anything.")
      .def(
          "forward_backward",
          [](Step& self, nb::handle batch, double weight) {
            const Step::Use use = self.use();
            const NamedTensors given = tensors_from(batch, "a batch");
            return unlocked([&] { return use->step.forward_backward(given, weight); });
          },
          "batch"_a, "weight"_a = 1.0,
          "Forward and backward pass. Gradients are multiplied by weight and added to those since the last update.")
      .def(
          "update",
          [](Step& self) {
            const Step::Use use = self.use();
            return unlocked([&] { return use->step.update(); });
          },
          "Updates the parameters with the accumulated gradients and clears these; skips the update if they are not "
          "finite. Raises InputError if there are none.")
      .def("forget_gradients", [](Step& self) { self.use()->step.forget_gradients(); })

      .def("forward", &Step::outputs_for<&TrainingStep::forward>, "inputs"_a,
           "The model's outputs by name, as in a training step: with batch statistics and dropout.")
      .def(
          "backward",
          [](Step& self, nb::handle inputs, nb::handle output_gradients, double weight) {
            const Step::Use use = self.use();
            const NamedTensors x = tensors_from(inputs, "inputs"),
                               dy = tensors_from(output_gradients, "gradients of outputs");
            return unlocked([&] { return use->step.backward(x, dy, weight); });
          },
          "inputs"_a, "output_gradients"_a, "weight"_a = 1.0,
          "Like forward_backward, from the gradients of a loss with respect to outputs, with the outputs' shapes.")
      .def("evaluate", &Step::with_batch<&TrainingStep::evaluate>, "batch"_a,
           "The loss in inference form. Does not change the state.")
      .def("predict", &Step::outputs_for<&TrainingStep::predict>, "inputs"_a,
           "The model's outputs in inference form, with the current parameters.")
      .def(
          "outputs",
          [](Step& self) {
            const Step::Use use = self.use();
            return arrays_from(unlocked([&] {
              NamedTensors copies;  // the next call overwrites the originals
              for (const auto& [name, tensor] : use->step.outputs()) copies[name] = tensor.clone();
              return copies;
            }));
          },
          "Copies of the model's outputs of the last call that had any, without one that is the loss; if a loss is "
          "computed from scores, the input of a final Softmax replaces its output.")

      .def(
          "metrics",
          [](Step& self, const std::optional<std::string>& names, std::size_t term) {
            const Step::Use use = self.use();
            return use->step.metrics(names ? std::optional(parse_metrics(*names)) : std::nullopt, term);
          },
          "names"_a.none() = nb::none(), "term"_a = 0,
          "Running metrics of the output of a term of the loss, after the first batch; without names the default "
          "metrics of its labels.")
      .def(
          "measure",
          [](Step& self, Metrics& metrics, nb::handle batch, std::size_t term) {
            const Step::Use use = self.use();
            const NamedTensors given = tensors_from(batch, "a batch");
            unlocked([&] { use->step.measure(metrics, given, term); });
          },
          "metrics"_a, "batch"_a, "term"_a = 0,
          "Adds the output of the last call and the labels of its batch to metrics.")

      .def_prop_ro(
          "parameter_types", [](Step& self) { return infos_from(self.use()->step.parameter_types()); },
          "(name, type, shape) of each parameter, in the model's order.")
      .def("parameters", &Step::read<&TrainingStep::parameters>, "Copies of the parameters by name, in f32.")
      .def("set_parameters", &Step::write<&TrainingStep::set_parameters>, "values"_a, "Sets some or all of them.")
      .def("statistics", &Step::read<&TrainingStep::statistics>, "Running statistics of BatchNormalization by name.")
      .def(
          "share_statistics",
          [](Step& self) {
            const Step::Use use = self.use();
            unlocked([&] { use->step.share_statistics(); });
          },
          "Gives all ranks those of rank 0, which each has taken from its own rows. All ranks call it.")
      .def("gradients", &Step::read<&TrainingStep::gradients>,
           "The unscaled sums since the last update. Raises InputError if there are none.")
      .def("set_gradients", &Step::write<&TrainingStep::set_gradients>, "values"_a, "Sets some or all of them.")
      .def("flat_parameters", &Step::read_flat<&TrainingStep::flat_parameters>,
           "All parameters concatenated in the order of parameter_types, as float32[number of elements].")
      .def("set_flat_parameters", &Step::write_flat<&TrainingStep::set_flat_parameters>, "values"_a)
      .def("flat_gradients", &Step::read_flat<&TrainingStep::flat_gradients>,
           "All gradients in the same form, 0 for parameters without one.")
      .def("set_flat_gradients", &Step::write_flat<&TrainingStep::set_flat_gradients>, "values"_a)

      .def(
          "state",
          [](Step& self) {
            const Step::Use use = self.use();
            return arrays_from(unlocked([&] { return use->step.state(); }));
          },
          "Everything that a step changes, by name. A step of the same model and options that loads it continues with "
          "bitwise equal results. With sharded_optimizer or gradients in half precision all ranks call it, and each "
          "gets the moments of all, and the sums of what rounded gradients lack.")
      .def("load_state", &Step::write<&TrainingStep::load_state>, "state"_a,
           "Raises InputError that names entries that are missing, unknown, or of another type or shape.")

      .def_prop_rw(
          "learning_rate", [](Step& self) { return self.use()->step.learning_rate(); },
          [](Step& self, double value) { self.use()->step.set_learning_rate(value); })
      .def_prop_rw(
          "loss_scale", [](Step& self) { return self.use()->step.loss_scale(); },
          [](Step& self, double value) { self.use()->step.set_loss_scale(value); }, "1 without loss scaling.")
      .def_prop_ro(
          "updates", [](Step& self) { return self.use()->step.updates(); },
          "Number of applied updates, without skipped ones.")
      .def_prop_ro(
          "precision", [](Step& self) { return text(precision_name(self.use()->step.precision())); },
          "fp32, bf16 or fp16.")
      .def_prop_ro("executor", [](Step& self) { return text(self.use()->executor->name()); })
      .def_prop_ro(
          "notices",
          [](Step& self) {
            nb::list lines;
            for (const std::string& notice : self.use()->step.notices()) lines.append(text(with_arguments(notice)));
            return lines;
          },
          "Choices made by heuristics, one line each.")
      .def(
          "plan",
          [](Step& self, nb::handle batch) {
            const Step::Use use = self.use();
            const NamedTensors given = tensors_from(batch, "a batch");
            return describe(unlocked([&]() -> const Plan& { return use->step.plan(given); }));
          },
          "batch"_a, "The kernels of the training step for this batch, with reasons.")
      .def(
          "profile",
          [](Step& self, nb::handle batch, int steps) {
            const Step::Use use = self.use();
            const NamedTensors given = tensors_from(batch, "a batch");
            return unlocked([&] {
              const Profile profile = use->step.profile(given, {.steps = steps});
              return std::pair(profile_json(profile), trace_json(profile));
            });
          },
          "batch"_a, "steps"_a, "Profiles training steps: the JSON text of halfstep.profile, and the trace.")
      .def(
          "save",
          [](Step& self, const std::filesystem::path& path, const std::string& form, const std::string& external_data) {
            const Step::Use use = self.use();
            const SaveOptions options = save_options(form, external_data);
            unlocked([&] { use->step.save(path, options); });
          },
          "path"_a, nb::kw_only(), "form"_a = "inference", "external_data"_a = "auto",
          "Writes the source model with the current parameters and statistics. form: inference or training.")
      .def("close", &Step::close, "Releases its resources.")
      .def_prop_ro("closed", &Step::is_closed);
}

}  // namespace halfstep::python
