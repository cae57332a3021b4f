#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "passes/step/parameter_groups.h"
#include "session/tensor_types.h"
#include "training/batch_fit.h"
#include "training/default_loss.h"
#include "training/flat_tensors.h"
#include "training/gradient_sums.h"
#include "training/start.h"
#include "training/state_access.h"
#include "training/step_cache.h"
#include "training/step_program.h"
#include "training/step_ranks.h"
#include "training/term_weights.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/ops/builder.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/training_step.h>

namespace halfstep {
namespace {

/// In TrainingStep::state(): how many batches' gradients wait for an update.
constexpr const char* kWaiting = "gradients.count";

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

class TrainingStep::Impl {
 public:
  Impl(LoadedModel model, Executor& executor, const TrainingStepOptions& options)
      : source_(model.source),
        on_ranks_(options.ranks ? on_ranks(executor, options.ranks) : nullptr),
        executor_(on_ranks_ ? *on_ranks_ : executor),
        options_(options),
        precision_(resolve(options.precision, executor.capabilities())),
        prepared_(model.graph, {.batch_axes = options.batch_axes,
                                .parameters = knowing_exporter(options.parameters, model),
                                .observer = options.observer}),
        inputs_(inputs_of(prepared_.graph())),
        states_(prepared_.trainable(), model.graph, executor_),
        programs_(prepared_, inputs_, executor_, states_, options.programs, options.memory_budget, options.observer),
        sums_(states_) {
    options_.optimizer.loss_scale = starting(options.optimizer.loss_scale, options.loss_scale, precision_);
    check(options_.optimizer);
    set_learning_rate(options.learning_rate);
    std::vector<std::string> names;
    for (const TensorInfo& parameter : states_.parameters()) names.push_back(parameter.name);
    check_groups_have_members(options_.optimizer.groups, names);
    if (options.programs < 1) throw_input_error("at least 1 cached program", "0", "");
    ranks_.emplace(options_, precision_, model.graph, states_.parameters());
    if (options.ranks)
      options_.mode.seed = seed_of(static_cast<std::uint64_t>(options.mode.seed), options.ranks->rank());
    if (!prepared_.guesses().empty()) notices_.push_back(prepared_.guesses());
  }

  StepReport run(const NamedTensors& batch) {
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
    StepReport report = report_of(program);
    report.due = true;
    report.updated = report.gradients_finite;
    updates_ += report.updated;
    return report;
  }

  StepReport forward_backward(const NamedTensors& batch, double weight) {
    program(Purpose::gradients, batch);
    agree_on_shares();
    return add_gradients(weight);
  }

  StepReport backward(const NamedTensors& inputs, const NamedTensors& gradients, double weight) {
    if (gradients.empty()) throw_input_error("a gradient of an output", "none", "give one by the output's name");
    check_names(gradients, types_of(prepared_.graph(), prepared_.graph().outputs), "an output of the model", true);
    fitted_ = {.x = fit_inputs(inputs, inputs_), .labels = {}, .sample_weights = {}, .label_names = {}};
    for (const auto& [name, tensor] : gradients) {
      fitted_.label_names.push_back(name);
      fitted_.labels.push_back(as_type(tensor, DType::f32, name));
    }
    const LossOptions loss{.terms = {}, .function = of_output_gradients()};
    find({Purpose::gradients, true}, &loss);
    ranks_->forget_shares();
    StepReport report = add_gradients(weight);
    report.loss = 0;
    return report;
  }

  StepReport update() {
    require_gradients("an update");
    StepProgram& program = sums_.update_program([this](const SumStates& sums) { return make_update(sums); });
    program.run({.x = {}, .labels = {}, .learning_rate = static_cast<float>(learning_rate_)});
    StepReport report = report_of(program);
    report.due = true;
    report.updated = report.gradients_finite;
    updates_ += report.updated;
    forget_gradients();
    return report;
  }

  void forget_gradients() { sums_.forget(); }

  NamedTensors forward(const NamedTensors& inputs) { return outputs_for(Purpose::forward, inputs); }
  NamedTensors predict(const NamedTensors& inputs) { return outputs_for(Purpose::prediction, inputs); }

  StepReport evaluate(const NamedTensors& batch) {
    StepProgram& program = this->program(Purpose::validation, batch);
    program.run(feed());
    return report_of(program);
  }

  NamedTensors outputs() const {
    NamedTensors result;
    if (!latest_) return result;
    for (std::size_t i = 0; i < latest_->outputs.size(); ++i) result[latest_->outputs[i]] = latest_->program.output(i);
    return result;
  }

  Metrics metrics(const std::optional<std::vector<Metric>>& wanted, std::size_t term) const {
    const TermReading& read = reading(term);
    std::vector<Metric> metrics = wanted ? *wanted : default_metrics(*read.row, read.reading);
    check_metrics(metrics, read.reading, read.classes, fmt::format("labels for {}", read.row->name));
    return Metrics(std::move(metrics), read.reading);
  }
  void measure(Metrics& metrics, const NamedTensors& batch, std::size_t term) const {
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

  TrainedStates& states() { return states_; }
  const TrainedStates& states() const { return states_; }

  NamedTensors gradients() const {
    require_gradients("gradients to read");
    NamedTensors result;
    const double scale = loss_scale();
    for (const auto& [parameter, state] : sums_.states()) {
      Tensor gradient = states_.read(state);
      if (scale != 1) scale_by(gradient, 1 / scale);
      result[parameter] = std::move(gradient);
    }
    return result;
  }

  void set_gradients(const NamedTensors& values) {
    require_gradients("gradients to replace");
    NamedTensors scaled;
    std::vector<TensorInfo> types;
    for (const TensorInfo& type : states_.parameters())
      if (sums_.states().contains(type.name)) types.push_back(type);
    check_names(values, types, "a parameter with a gradient", true);
    const double scale = loss_scale();
    for (const TensorInfo& type : types) {
      if (!values.contains(type.name)) continue;
      Tensor gradient = fitted(values, type).clone();
      if (scale != 1) scale_by(gradient, scale);
      scaled[sums_.states().at(type.name)] = std::move(gradient);
    }
    for (const auto& [state, tensor] : scaled) states_.write(state, tensor);
  }

  NamedTensors state() const {
    NamedTensors result = states_.all();
    std::erase_if(result, [&](const auto& one) { return sums_.is_idle(one.first); });
    if (sums_.waiting() > 0) result[kWaiting] = Tensor::scalar(sums_.waiting());
    return result;
  }

  void load_state(const NamedTensors& given) {
    NamedTensors values = given;
    std::int64_t waiting = 0;
    if (const auto at = values.find(kWaiting); at != values.end()) {
      if (at->second.dtype() != DType::i64 || at->second.count() != 1 || *at->second.data<std::int64_t>() < 0)
        throw_input_error(fmt::format("one i64 from 0 on for '{}'", kWaiting), "another tensor", "load a whole state");
      waiting = *at->second.data<std::int64_t>();
      values.erase(at);
    }
    SumStates sums;
    for (const TensorInfo& parameter : states_.parameters())
      if (values.contains(sum_of(parameter.name))) sums[parameter.name] = sum_of(parameter.name);
    if ((waiting > 0) == sums.empty())
      throw_input_error("gradients in a state that counts batches, and none in another",
                        fmt::format("{} batches and {} gradients", waiting, sums.size()), "load a whole state");
    states_.check_numbers(values, options_.optimizer.loss_scale.enabled);
    states_.load(std::move(values));
    sums_.set(std::move(sums), waiting);
    updates_ = states_.updates();
  }

  double learning_rate() const { return learning_rate_; }
  void set_learning_rate(double learning_rate) {
    if (!(learning_rate >= 0 && learning_rate <= 1e30))
      throw_input_error("a learning rate from 0 on", fmt::format("{}", learning_rate), "correct it");
    learning_rate_ = learning_rate;
  }

  double loss_scale() const {
    const LossScaleOptions& scale = options_.optimizer.loss_scale;
    if (!scale.enabled) return 1;
    if (const std::optional<Tensor> now = states_.loss_scale()) return *now->data<float>();
    return scale.initial;
  }
  void set_loss_scale(double value) {
    const LossScaleOptions& scale = options_.optimizer.loss_scale;
    if (!scale.enabled)
      throw_input_error("a step with a loss scale", "one without", "set TrainingStepOptions::loss_scale");
    if (!(value >= scale.lowest() && value <= scale.highest()))
      throw_input_error(fmt::format("a loss scale from {} to {}", scale.lowest(), scale.highest()),
                        fmt::format("{}", value), "set LossScaleOptions::min and max");
    if (sums_.waiting() > 0)
      throw_input_error("no accumulated gradients, to change the loss scale",
                        fmt::format("those of {} batches", sums_.waiting()), "update, or forget them");
    if (!states_.set_loss_scale(static_cast<float>(value))) options_.optimizer.loss_scale.initial = value;
  }

  std::int64_t updates() const { return updates_; }
  DType precision() const { return precision_; }
  const std::vector<std::string>& notices() const { return notices_; }
  std::vector<double> loss_weights() const {
    if (!loss_inputs_ || fitted_.x.empty())
      throw_input_error("a batch, for its weights in the loss", "none so far", "run one first");
    return term_weights(*options_.loss, *loss_inputs_, readings_, fitted_);
  }
  const Plan& plan(const NamedTensors& batch) { return program(Purpose::training, batch).plan(); }
  Profile profile(const NamedTensors& batch, const ProfileOptions& profile_options) {
    if (sums_.waiting() > 0)
      throw_input_error("no accumulated gradients, to profile whole steps",
                        fmt::format("those of {} batches", sums_.waiting()), "update, or forget them");
    StepProgram& program = this->program(Purpose::training, batch);
    agree_on_shares();
    program.run(feed());
    Profile result = program.profile(executor_, profile_options);
    updates_ = states_.updates();
    return result;
  }

  void save(const std::filesystem::path& path, const SaveOptions& save) const {
    if (!source_) throw_input_error("a model that was read from a file", "another", "load it with load_model");
    NamedTensors values = states_.parameter_values();
    values.merge(states_.statistics());
    save_trained(*source_, values, path, save);
  }

 private:
  const TermReading& reading(std::size_t term) const {
    if (term >= readings_.size() || !readings_[term].row)
      throw_input_error("a term of the loss that has labels, after the first batch", "another", "run a batch first");
    return readings_[term];
  }

  StepFeed feed() const {
    return {.x = fitted_.x,
            .labels = fitted_.labels,
            .sample_weights = fitted_.sample_weights,
            .learning_rate = static_cast<float>(learning_rate_),
            .loss_shares = ranks_->shares()};
  }

  void agree_on_shares() {
    ranks_->agree_on_shares(*options_.loss, *loss_inputs_, readings_, fitted_, latest_->program.order(),
                            learning_rate_);
  }

  StepReport report_of(const StepProgram& program) const {
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

  void require_gradients(const char* what) const {
    if (sums_.waiting() == 0)
      throw_input_error(fmt::format("gradients, for {}", what), "none since the last update",
                        "call forward_backward first");
  }

  static std::string sum_of(const std::string& parameter) { return std::string(kAccumulatorPrefix) + parameter; }
  /// Runs the latest program, which sums gradients. Others may have summed those of other parameters.
  StepReport add_gradients(double weight) {
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

  std::unique_ptr<StepProgram> make_update(const SumStates& sums) {
    const std::string scale = options_.optimizer.loss_scale.enabled ? states_.loss_scale_name() : "";
    const Graph graph =
        run_pipeline(graph_of_sums(prepared_.trainable(), sums, scale),
                     update_pipeline(step_options(nullptr), executor_.capabilities()), options_.observer);
    auto program = std::make_unique<StepProgram>(graph, executor_, states_.store());
    states_.bind(graph);
    return program;
  }

  NamedTensors outputs_for(Purpose purpose, const NamedTensors& inputs) {
    check_names(inputs, inputs_, "an input of the model");
    fitted_ = {.x = fit_inputs(inputs, inputs_), .labels = {}, .sample_weights = {}, .label_names = {}};
    StepProgram& program = find({purpose}, nullptr);
    program.run(feed());
    NamedTensors result;
    for (const auto& [name, tensor] : outputs()) result[name] = tensor.clone();
    return result;
  }

  StepProgram& program(Purpose purpose, const NamedTensors& batch) {
    if (!options_.loss) {
      DefaultLoss chosen = default_loss(prepared_.graph(), inputs_, batch);
      options_.loss = std::move(chosen.loss);
      readings_ = {std::move(chosen.reading)};
      notices_.insert(notices_.end(), chosen.notices.begin(), chosen.notices.end());
    }
    if (!loss_inputs_) loss_inputs_.emplace(*options_.loss);
    fitted_ = fit_batch(batch, inputs_, *loss_inputs_);
    if (readings_.empty()) {
      std::vector<std::string> notices;
      readings_ = read_terms(prepared_.graph(), inputs_, batch, *options_.loss, notices);
      for (std::string& notice : notices)
        if (std::ranges::find(notices_, notice) == notices_.end()) notices_.push_back(std::move(notice));
    }
    return find({purpose}, &*options_.loss);
  }

  /// The program for `fitted_`, which is the latest one afterwards.
  StepProgram& find(const StepKey& key, const LossOptions* loss) {
    latest_ = &programs_.find(key, fitted_, [this, loss] { return step_options(loss); });
    sums_.know(latest_->sums);
    return latest_->program;
  }

  StepOptions step_options(const LossOptions* loss) const {
    return {.shapes = {},
            .precision = precision_,
            .loss = loss ? *loss : LossOptions(),
            .mode = options_.mode,
            .optimizer = options_.optimizer,
            .ranks = ranks_->options()};
  }

  std::shared_ptr<const SourceModel> source_;
  std::unique_ptr<Executor> on_ranks_;  // the caller's executor, as a part of them
  Executor& executor_;
  TrainingStepOptions options_;
  DType precision_;
  PreparedModel prepared_;
  std::vector<TensorInfo> inputs_;
  TrainedStates states_;
  StepCache programs_;
  GradientSums sums_;
  std::optional<LossInputs> loss_inputs_;
  FittedBatch fitted_;
  CompiledStep* latest_ = nullptr;
  std::vector<TermReading> readings_;
  double learning_rate_ = 0;
  std::int64_t updates_ = 0;
  std::vector<std::string> notices_;
  std::optional<StepRanks> ranks_;  // set once the options are known to be right
};

TrainingStep::TrainingStep(LoadedModel model, Executor& executor, const TrainingStepOptions& options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, options)) {}
TrainingStep::~TrainingStep() = default;
TrainingStep::TrainingStep(TrainingStep&&) noexcept = default;
TrainingStep& TrainingStep::operator=(TrainingStep&&) noexcept = default;

StepReport TrainingStep::run(const NamedTensors& batch) { return impl_->run(batch); }
StepReport TrainingStep::forward_backward(const NamedTensors& batch, double weight) {
  return impl_->forward_backward(batch, weight);
}
StepReport TrainingStep::update() { return impl_->update(); }
void TrainingStep::forget_gradients() { impl_->forget_gradients(); }
NamedTensors TrainingStep::forward(const NamedTensors& inputs) { return impl_->forward(inputs); }
StepReport TrainingStep::backward(const NamedTensors& inputs, const NamedTensors& gradients, double weight) {
  return impl_->backward(inputs, gradients, weight);
}
StepReport TrainingStep::evaluate(const NamedTensors& batch) { return impl_->evaluate(batch); }
NamedTensors TrainingStep::predict(const NamedTensors& inputs) { return impl_->predict(inputs); }
NamedTensors TrainingStep::outputs() const { return impl_->outputs(); }
Metrics TrainingStep::metrics(const std::optional<std::vector<Metric>>& metrics, std::size_t term) const {
  return impl_->metrics(metrics, term);
}
void TrainingStep::measure(Metrics& metrics, const NamedTensors& batch, std::size_t term) const {
  impl_->measure(metrics, batch, term);
}

std::vector<TensorInfo> TrainingStep::parameter_types() const { return impl_->states().parameters(); }
NamedTensors TrainingStep::parameters() const { return impl_->states().parameter_values(); }
void TrainingStep::set_parameters(const NamedTensors& values) { impl_->states().set_parameters(values); }
NamedTensors TrainingStep::statistics() const { return impl_->states().statistics(); }
NamedTensors TrainingStep::gradients() const { return impl_->gradients(); }
void TrainingStep::set_gradients(const NamedTensors& values) { impl_->set_gradients(values); }

Tensor TrainingStep::flat_parameters() const { return flat(parameters(), parameter_types()); }
void TrainingStep::set_flat_parameters(const Tensor& values) { set_parameters(unflat(values, parameter_types())); }
Tensor TrainingStep::flat_gradients() const { return flat(gradients(), parameter_types()); }
void TrainingStep::set_flat_gradients(const Tensor& values) {
  NamedTensors named = unflat(values, parameter_types());
  const NamedTensors present = gradients();
  std::erase_if(named, [&](const auto& gradient) { return !present.contains(gradient.first); });
  set_gradients(named);
}

NamedTensors TrainingStep::state() const { return impl_->state(); }
void TrainingStep::load_state(const NamedTensors& state) { impl_->load_state(state); }

double TrainingStep::learning_rate() const { return impl_->learning_rate(); }
void TrainingStep::set_learning_rate(double learning_rate) { impl_->set_learning_rate(learning_rate); }
double TrainingStep::loss_scale() const { return impl_->loss_scale(); }
void TrainingStep::set_loss_scale(double loss_scale) { impl_->set_loss_scale(loss_scale); }
std::int64_t TrainingStep::updates() const { return impl_->updates(); }
std::vector<double> TrainingStep::loss_weights() const { return impl_->loss_weights(); }
DType TrainingStep::precision() const { return impl_->precision(); }
std::vector<std::string> TrainingStep::notices() const { return impl_->notices(); }
const Plan& TrainingStep::plan(const NamedTensors& batch) { return impl_->plan(batch); }
Profile TrainingStep::profile(const NamedTensors& batch, const ProfileOptions& options) {
  return impl_->profile(batch, options);
}
void TrainingStep::save(const std::filesystem::path& path, const SaveOptions& options) const {
  impl_->save(path, options);
}

}  // namespace halfstep
