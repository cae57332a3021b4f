// The programs of a TrainingStep, run on batches.
#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "passes/step/parameter_groups.h"
#include "session/tensor_types.h"
#include "training/automatic_precision.h"
#include "training/start.h"
#include "training/training_step_impl.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>

namespace halfstep {
namespace {

/// The sum of outputs times gradients, whose own gradient with respect to each output is the one given.
LossFunction of_output_gradients() {
  return {.write = [](Builder& b, const NamedExprs& outputs, const NamedExprs& gradients) {
    Expr sum;
    for (const auto& [name, gradient] : gradients) {
      const Expr y = outputs.at(name);
      if (gradient.shape() != y.shape())
        throw_input_error(fmt::format("a gradient of '{}' of its shape {}", name, y.shape().to_string()),
                          gradient.shape().to_string(), "give the gradient of the loss with respect to this output");
      const Expr part = b.op("ReduceSum", {b.cast(y, DType::f32) * gradient}, {{"keepdims", std::int64_t{0}}});
      sum = sum ? sum + part : part;
    }
    return sum;
  }};
}

}  // namespace

TrainingStep::Impl::Impl(LoadedModel model, Executor& executor, const TrainingStepOptions& options)
    : source_(model.source),
      alone_(executor),
      on_ranks_(options.ranks ? on_ranks(executor, options.ranks) : nullptr),
      executor_(on_ranks_ ? *on_ranks_ : executor),
      options_(options),
      precision_(resolve(options.precision, executor.capabilities())),
      is_settled_(options.precision != Precision::automatic || !measures_precision(executor)),
      prepared_(model.graph, {.batch_axes = options.batch_axes,
                              .parameters = knowing_exporter(options.parameters, model),
                              .observer = options.observer}),
      inputs_(inputs_of(prepared_)),
      states_(prepared_.trainable(), model.graph, executor_),
      programs_(prepared_, inputs_, executor_, states_, options.programs, options.memory_budget, options.observer),
      sums_(states_) {
  set_precision(precision_);
  set_learning_rate(options.learning_rate);
  std::vector<std::string> names;
  for (const TensorInfo& parameter : states_.parameters()) names.push_back(parameter.name);
  check_groups_have_members(options_.optimizer.groups, names);
  if (options.programs < 1) throw_input_error("at least 1 cached program", "0", "");
  ranks_.emplace(options_, is_settled_ ? std::optional(precision_) : std::nullopt, model.graph, states_.parameters());
  if (options.ranks) options_.mode.seed = seed_of(static_cast<std::uint64_t>(options.mode.seed), options.ranks->rank());
  if (!prepared_.guesses().empty()) notices_.push_back(prepared_.guesses());
}

StepReport TrainingStep::Impl::run(const NamedTensors& batch) {
  const std::int64_t batches = options_.optimizer.accumulate;
  if (batches > 1 || sums_.waiting() > 0) {
    StepReport report = forward_backward(batch, 1 / static_cast<double>(batches));
    if (sums_.waiting() < batches) return report;
    const StepReport update = this->update();
    report.due = true;
    report.updated = update.updated;
    report.gradients_finite = update.gradients_finite;
    return report;
  }
  StepProgram& program = this->program(Purpose::training, batch);
  agree_on_shares();
  program.run(feed());
  return report_of_update(program);
}

StepReport TrainingStep::Impl::forward_backward(const NamedTensors& batch, double weight) {
  program(Purpose::gradients, batch);
  agree_on_shares();
  return add_gradients(weight);
}

StepReport TrainingStep::Impl::backward(const NamedTensors& inputs, const NamedTensors& gradients, double weight) {
  if (gradients.empty()) throw_input_error("a gradient of an output", "none", "give one by the output's name");
  check_names(gradients, types_of(prepared_.graph(), prepared_.graph().outputs), "an output of the model", true);
  fitted_ = {.x = fit_inputs(inputs, inputs_), .labels = {}, .sample_weights = {}, .label_names = {}};
  for (const auto& [name, tensor] : gradients) {
    fitted_.label_names.push_back(name);
    fitted_.labels.push_back(as_type(tensor, DType::f32, name));
  }
  const LossOptions loss{.terms = {}, .function = of_output_gradients()};
  const StepKey key{Purpose::gradients, true};
  settle_precision(key, &loss);
  find(key, &loss);
  ranks_->forget_shares();
  StepReport report = add_gradients(weight);
  report.loss = 0;
  return report;
}

StepReport TrainingStep::Impl::update() {
  require_gradients("an update");
  ranks_->agree_on_learning_rate(learning_rate_);
  StepProgram& program = sums_.update_program([this](const SumStates& sums) { return make_update(sums); });
  program.run({.x = {}, .labels = {}, .learning_rate = static_cast<float>(learning_rate_)});
  const StepReport report = report_of_update(program);
  forget_gradients();
  return report;
}

StepReport TrainingStep::Impl::evaluate(const NamedTensors& batch) {
  StepProgram& program = this->program(Purpose::validation, batch);
  program.run(feed());
  return report_of(program);
}

NamedTensors TrainingStep::Impl::outputs_for(Purpose purpose, const NamedTensors& inputs) {
  check_names(inputs, inputs_, "an input of the model");
  if (purpose == Purpose::forward && options_.ranks && options_.sync_batchnorm)
    throw_input_error("BatchNormalization by the rows of each rank, for outputs of a step",
                      "statistics of all ranks (sync_batchnorm)", "compute the loss in the step, or turn that off");
  fitted_ = {.x = fit_inputs(inputs, inputs_), .labels = {}, .sample_weights = {}, .label_names = {}};
  StepProgram& program = find({purpose}, nullptr);
  program.run(feed());
  NamedTensors result;
  for (const auto& [name, tensor] : outputs()) result[name] = tensor.clone();
  return result;
}

NamedTensors TrainingStep::Impl::outputs() const {
  NamedTensors result;
  if (!latest_) return result;
  for (std::size_t i = 0; i < latest_->outputs.size(); ++i) result[latest_->outputs[i]] = latest_->program.output(i);
  return result;
}

const Plan& TrainingStep::Impl::plan(const NamedTensors& batch) {
  fit(batch);
  const Plan& plan = find({Purpose::training}, &*options_.loss).plan();
  if (!is_settled_) loaded_scale_ = options_.optimizer.loss_scale.enabled;
  return plan;
}

Profile TrainingStep::Impl::profile(const NamedTensors& batch, const ProfileOptions& profile_options) {
  require_no_gradients("to profile whole steps");
  StepProgram& program = this->program(Purpose::training, batch);
  agree_on_shares();
  program.run(feed());
  Profile result = program.profile(executor_, profile_options);
  updates_ = states_.updates();
  return result;
}

std::vector<double> TrainingStep::Impl::loss_weights() {
  if (!weights_ || !latest_ || !has_loss(latest_->key.purpose) || latest_->key.external)
    throw_input_error("a batch with labels, for its weights in the loss", "none in the last call", "run one first");
  const std::span<const double> weights = weights_->of(fitted_);
  return {weights.begin(), weights.end()};
}

Metrics TrainingStep::Impl::metrics(const std::optional<std::vector<Metric>>& wanted, std::size_t term) const {
  const TermReading& read = reading(term);
  std::vector<Metric> metrics = wanted ? *wanted : default_metrics(*read.row, read.reading);
  check_metrics(metrics, read.reading, read.classes, fmt::format("labels for {}", read.row->name));
  return Metrics(std::move(metrics), read.reading);
}

void TrainingStep::Impl::measure(Metrics& metrics, const NamedTensors& batch, std::size_t term) const {
  reading(term);
  const std::string& labels = options_.loss->terms.at(term).labels;
  const auto at = batch.find(labels);
  // Terms without labels have no prediction.
  const auto place =
      static_cast<std::size_t>(std::count_if(readings_.begin(), readings_.begin() + static_cast<std::ptrdiff_t>(term),
                                             [](const TermReading& read) { return read.row != nullptr; }));
  if (!latest_ || latest_->program.predictions() <= place || at == batch.end())
    throw_input_error("a batch that was run with its labels", "another", "");
  metrics.add(latest_->program.prediction(place), as_labels(at->second, labels));
}

const TermReading& TrainingStep::Impl::reading(std::size_t term) const {
  if (term >= readings_.size() || !readings_[term].row)
    throw_input_error("a term of the loss that has labels, after the first batch", "another", "run a batch first");
  return readings_[term];
}

StepFeed TrainingStep::Impl::feed() const {
  return {.x = fitted_.x,
          .labels = fitted_.labels,
          .sample_weights = fitted_.sample_weights,
          .learning_rate = static_cast<float>(learning_rate_),
          .loss_shares = ranks_->shares()};
}

void TrainingStep::Impl::agree_on_shares() {
  if (ranks_->communicator()) ranks_->agree_on_shares(weights_->of(fitted_), latest_->program.order(), learning_rate_);
}

StepReport TrainingStep::Impl::report_of(const StepProgram& program) const {
  StepReport report;
  if (program.has_loss()) report.loss = program.loss();
  for (std::size_t i = 0; i < program.terms(); ++i) report.terms.push_back(program.term(i));
  if (program.has_grad_norm()) {
    report.gradient_norm = program.grad_norm();
    report.gradients_finite = program.grads_finite();
  }
  report.loss_scale = program.has_loss_scale() ? program.loss_scale() : static_cast<float>(loss_scale());
  return report;
}

StepReport TrainingStep::Impl::report_of_update(const StepProgram& program) {
  StepReport report = report_of(program);
  report.due = true;
  report.updated = report.gradients_finite;
  updates_ += report.updated;
  return report;
}

StepReport TrainingStep::Impl::add_gradients(double weight) {
  if (!std::isfinite(weight))
    throw_input_error("a finite weight of a batch's gradients", fmt::format("{}", weight), "correct the weight");
  StepFeed given = feed();
  given.loss_weight = static_cast<float>(weight);
  given.first = sums_.waiting() == 0;
  sums_.expect(latest_->sums);
  latest_->program.run(given);
  sums_.count_batch();
  return report_of(latest_->program);
}

std::unique_ptr<StepProgram> TrainingStep::Impl::make_update(const SumStates& sums) {
  const std::string scale = options_.optimizer.loss_scale.enabled ? states_.loss_scale_name() : "";
  const Graph graph = run_pipeline(graph_of_sums(prepared_.trainable(), sums, scale, states_.half_copies()),
                                   update_pipeline(step_options(nullptr), executor_.capabilities()), options_.observer);
  auto program = std::make_unique<StepProgram>(graph, executor_, states_.store());
  states_.bind(graph);
  return program;
}

void TrainingStep::Impl::fit(const NamedTensors& batch) {
  if (!options_.loss) {
    DefaultLoss chosen = default_loss(prepared_, inputs_, batch);
    options_.loss = std::move(chosen.loss);
    readings_ = {std::move(chosen.reading)};
    notices_.insert(notices_.end(), chosen.notices.begin(), chosen.notices.end());
  }
  if (!loss_inputs_) {
    loss_inputs_.emplace(*options_.loss);
    check_.emplace(*options_.loss, *loss_inputs_);
  }
  fitted_ = fit_batch(batch, inputs_, *loss_inputs_);
  check_->check(fitted_);
  if (!weights_) {
    if (readings_.empty()) {
      std::vector<std::string> notices;
      readings_ = read_terms(prepared_, inputs_, batch, *options_.loss, notices);
      for (std::string& notice : notices)
        if (std::ranges::find(notices_, notice) == notices_.end()) notices_.push_back(std::move(notice));
    }
    weights_.emplace(*options_.loss, *loss_inputs_, readings_);
  }
}

StepProgram& TrainingStep::Impl::program(Purpose purpose, const NamedTensors& batch) {
  fit(batch);
  if (purpose == Purpose::training || purpose == Purpose::gradients) settle_precision({purpose}, &*options_.loss);
  return find({purpose}, &*options_.loss);
}

void TrainingStep::Impl::set_precision(DType precision) {
  precision_ = precision;
  options_.optimizer.loss_scale = starting(options_.optimizer.loss_scale, options_.loss_scale, precision_);
  check(options_.optimizer);
  check_gradient_dtype(options_.gradient_dtype, options_.optimizer.loss_scale.enabled);
}

void TrainingStep::Impl::settle_precision(const StepKey& key, const LossOptions* loss) {
  if (is_settled_) return;
  is_settled_ = true;
  const auto lower_in = [&](DType dtype) {
    StepOptions options = step_options(loss);
    options.precision = dtype;
    options.ranks = {};
    options.optimizer.loss_scale = starting(options.optimizer.loss_scale, options_.loss_scale, dtype);
    check_gradient_dtype(options_.gradient_dtype, options.optimizer.loss_scale.enabled);
    return programs_.lower(key, fitted_, std::move(options));
  };
  const ChosenPrecision chosen = agreed_precision(ranks_->communicator(), [&] {
    std::vector<DType> candidates = native_precisions(alone_.capabilities());
    if (loaded_scale_)  // a state fits steps with a loss scale, or those without
      std::erase_if(candidates, [&](DType dtype) {
        return starting(options_.optimizer.loss_scale, options_.loss_scale, dtype).enabled != *loaded_scale_;
      });
    return measured_precision(alone_, candidates, options_.memory_budget,
                              options_.memory_budget > 0 ? states_.bytes() : 0, lower_in)
        .value_or(ChosenPrecision{.dtype = precision_});
  });
  if (chosen.is_measured)
    notices_.push_back(fmt::format("precision {}, {}", precision_name(chosen.dtype), chosen.reason));
  if (chosen.dtype == precision_) return;
  set_precision(chosen.dtype);
  programs_.clear();
  latest_ = nullptr;
}

StepProgram& TrainingStep::Impl::find(const StepKey& key, const LossOptions* loss) {
  latest_ = &programs_.find(key, fitted_, [this, loss] { return step_options(loss); });
  sums_.know(latest_->sums);
  return latest_->program;
}

StepOptions TrainingStep::Impl::step_options(const LossOptions* loss) const {
  return {.shapes = {},
          .precision = precision_,
          .loss = loss ? *loss : LossOptions(),
          .mode = options_.mode,
          .optimizer = options_.optimizer,
          .ranks = ranks_->options()};
}

}  // namespace halfstep
