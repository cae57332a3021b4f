#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/machine_memory.h"
#include "data/batch_loader.h"
#include "data/stream_reader.h"
#include "distributed/gather.h"
#include "graph/placeholder.h"
#include "passes/autodiff/gradient_flow.h"
#include "passes/load/parameter_choice.h"
#include "passes/step/reduce_over_ranks.h"
#include "passes/step/step_values.h"
#include "session/tensor_types.h"
#include "training/automatic_precision.h"
#include "training/fingerprint.h"
#include "training/memory_budget.h"
#include "training/ranks.h"
#include "training/start.h"
#include "training/trainer_impl.h"

namespace halfstep {
namespace {

std::set<std::string, std::less<>> names_of(const Graph& graph) {
  std::set<std::string, std::less<>> names;
  for (const Value& value : graph.values) names.insert(value.name);
  return names;
}

NamedTensors all_of(const LazyTensors& tensors) {
  NamedTensors result;
  for (const TensorInfo& type : tensors.types) result[type.name] = tensors.read(type.name);
  return result;
}

}  // namespace

Trainer::Impl::Impl(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options,
                    BatchStream* stream)
    : on_ranks_(options.ranks ? on_ranks(executor, options.ranks) : nullptr),
      executor_(on_ranks_ ? *on_ranks_ : executor),
      options_(std::move(options)),
      fingerprint_(fingerprint(model.graph)),
      source_names_(names_of(model.graph)),
      prepared_(model.graph, {.batch_axes = options_.batch_axes,
                              .parameters = knowing_exporter(options_.parameters, model),
                              .observer = options_.observer}),
      task_(make_task(prepared_, data, options_)),
      data_(fit_data(task_, data, options_.input)),
      stream_(stream),
      store_(executor.make_store()),
      // Building the step now finds whatever does not fit before anything is trained.
      first_graph_(first_lowered(executor)) {
  NameSet parameters;
  for (const State& state : prepared_.trainable().states) parameters.insert(prepared_.trainable()[state.value].name);
  contents_ = fingerprint_of_contents(model.graph, parameters);
  check_are_numbers(task_.metrics());
  if (ranks()) agree(model.graph);
  states_ = own_states();
  if (ranks()) states_ = states_of_ranks(*ranks(), states_);
  for (std::string note :
       {prepared_.guesses(),
        describe_cut_off(first_graph_, cut_off_parameters(first_graph_, {StepValues(first_graph_).loss}))})
    if (!note.empty()) task_.notices.push_back(std::move(note));
}

Graph Trainer::Impl::first_lowered(Executor& alone) {
  const Capabilities& capabilities = alone.capabilities();
  const auto lower_in = [&](DType dtype) {
    Task step = task_;
    set_precision(step, options_, dtype);
    step.step.ranks = {};
    return prepared_.lower(Purpose::training, step.step_options(step.batch), capabilities);
  };
  const Precision asked = options_.precision.value_or(Precision::automatic);
  const ChosenPrecision by_rule{.dtype = resolve(asked, capabilities), .reason = capabilities.auto_reason};
  ChosenPrecision chosen = agreed_precision(ranks(), [&]() -> ChosenPrecision {
    if (asked != Precision::automatic) return by_rule;
    if (const auto of_checkpoint = options_.resume.empty() ? std::nullopt : precision_of_checkpoint(options_.resume))
      return {.dtype = resolve(*of_checkpoint, capabilities), .reason = "that of the checkpoint"};
    std::size_t held = 0;
    for (const State& state : prepared_.trainable().states) held += state.initial.bytes();
    return measured_precision(alone, native_precisions(capabilities), options_.memory_budget, held, lower_in)
        .value_or(by_rule);
  });
  if (asked != Precision::automatic) chosen = {.dtype = by_rule.dtype};  // `agree` compares them
  precision_reason_ = chosen.reason;
  set_precision(task_, options_, chosen.dtype);
  return lower(Purpose::training, task_.batch, options_.observer);
}

void Trainer::Impl::agree(const Graph& model) {
  if (stream_)
    throw_input_error("a data set, of which each rank takes its part", "a stream of batches", "give a Dataset");
  std::vector<TensorInfo> trained;
  for (const State& state : first_graph_.states)
    if (state.role == StateRole::parameter)
      trained.push_back({first_graph_[state.value].name, state.initial.dtype(), state.initial.shape()});
  Settings all = step_settings(task_.step, model, trained, options_.batch_axes);
  all.merge(settings());
  all["--epochs"] = fmt::format("{}", options_.epochs);
  all["--steps"] = fmt::format("{}", options_.steps);
  all["--checkpoint"] = options_.checkpoint.empty() ? "none" : "a folder";
  all["--checkpoint-every"] = fmt::format("{}", options_.checkpoint_every);
  all["--resume"] = options_.resume.empty() ? "none" : "a folder";
  all["--max-skipped"] = fmt::format("{}", options_.max_skipped_in_a_row);
  std::vector<std::string> metrics;
  for (const Metric& metric : metrics_)
    metrics.push_back(metric.of.empty() ? metric.name() : fmt::format("{}.{}", metric.of, metric.name()));
  all["--metrics"] = metrics.empty() ? "none" : fmt::format("{}", fmt::join(metrics, ","));
  require_same(*ranks(), all);
  RankOptions& made = task_.step.ranks;
  const auto own = buckets_of(first_graph_);
  made.buckets = agreed_buckets(*ranks(), own);
  if (made.buckets != own) first_graph_ = lower(Purpose::training, task_.batch);
  const auto is_moved = [](const State& state) { return state.role == StateRole::statistic && state.next != kNoValue; };
  if (!options_.sync_batchnorm && std::ranges::any_of(first_graph_.states, is_moved))
    task_.notices.push_back(
        "BatchNormalization takes its statistics from the rows of each rank; those of rank 0 are validated and saved: "
        "--sync-batchnorm takes them from all");
}

LazyTensors Trainer::Impl::parameters() {
  LazyTensors result;
  for (const State& state : first_graph_.states) {
    if (state.role != StateRole::parameter && state.role != StateRole::statistic) continue;
    const std::string& name = first_graph_[state.value].name;
    if (source_names_.contains(name)) result.types.push_back({name, state.initial.dtype(), state.initial.shape()});
  }
  std::ranges::sort(result.types, {}, &TensorInfo::name);
  result.read = [this](const std::string& name) {
    if (store_->has(name)) return store_->read(name);
    const std::ptrdiff_t state = first_graph_.state_of(first_graph_.find(name));
    return first_graph_.states.at(static_cast<std::size_t>(state)).initial.clone();
  };
  return result;
}

void Trainer::Impl::release_parameters() {
  const auto has = [this](const std::string& name) { return store_->has(name); };
  prepared_.release_parameters(has);
  for (State& state : first_graph_.states)
    if (has(first_graph_[state.value].name)) state.initial = placeholder_of(state.initial);
}

void Trainer::Impl::set_parameters(const NamedTensors& values) {
  training_program();  // the store has its states from then on
  const std::vector<TensorInfo> types = parameters().types;
  check_names(values, types, "a parameter", true);
  NamedTensors fitting;
  for (const TensorInfo& type : types)
    if (values.contains(type.name)) fitting[type.name] = fitted(values, type);
  for (const auto& [name, tensor] : fitting) store_->write(name, tensor);
}

StepProgram& Trainer::Impl::program(Purpose purpose, std::int64_t rows) {
  auto& program = programs_[{purpose, rows}];
  if (!program) {
    const bool trains = purpose == Purpose::training, first = trains && rows == task_.batch;
    program = compile_within(trains ? options_.memory_budget : 0, first ? first_graph_ : lower(purpose, rows),
                             executor_, *store_, first ? options_.observer : PassObserver());
    if (first) {
      release_parameters();
      return_free_memory();
    }
  }
  return *program;
}

std::unique_ptr<BatchReader> Trainer::Impl::reader(const Cursor& start) {
  std::optional<std::int64_t> end;
  if (options_.steps == 0) end = options_.epochs;
  if (stream_) {
    StreamOptions streaming = stream_options(start);
    streaming.end_epoch = end;
    return std::make_unique<StreamReader>(*stream_, std::move(streaming));
  }
  LoaderOptions loading;
  loading.batch_size = task_.all_rows;
  loading.share = task_.share;
  loading.shuffle = options_.shuffle;
  loading.drop_last = task_.drop_last;
  loading.seed = options_.seed;
  loading.start = start;
  loading.end_epoch = end;
  return std::make_unique<BatchLoader>(data_.columns, loading);
}

StreamOptions Trainer::Impl::stream_options(const Cursor& start) const {
  StreamOptions options;
  options.start = start;
  for (std::size_t i = 0; i < task_.x.size(); ++i) options.x.push_back({task_.x_names[i], task_.x[i]});
  for (const TaskTerm& term : task_.terms) {
    if (term.rows) options.labels.push_back({term.labels.empty() ? kStreamLabels : term.labels, *term.rows});
    if (term.weight_rows) options.sample_weights.push_back({term.sample_weights, *term.weight_rows});
  }
  if (task_.drop_last) options.batch_size = task_.batch;
  return options;
}

std::vector<OwnedState> Trainer::Impl::own_states() const {
  std::vector<OwnedState> result;
  for (const StoredState& stored : stored_states(first_graph_)) {
    if (stored.role == StateRole::residual) continue;  // see residuals()
    const Value& value = first_graph_[first_graph_.find(stored.name)];
    result.push_back({.type = {stored.key, value.dtype, value.shape}, .role = stored.role, .name = stored.name});
  }
  std::ranges::sort(result, {}, [](const OwnedState& state) { return state.type.name; });
  return result;
}

void Trainer::Impl::read_states(const std::function<void(const LazyTensors&)>& use) const {
  if (options_.sharded_optimizer && ranks()) {
    StateReading reading(*ranks(), states_, *store_);
    return is_first_rank() ? reading.lead(use) : reading.follow();
  }
  if (!is_first_rank()) return;
  LazyTensors tensors;
  std::map<std::string, std::string> names;  // by key
  for (const OwnedState& state : states_) {
    tensors.types.push_back(state.type);
    names[state.type.name] = state.name;
  }
  tensors.read = [this, &names](const std::string& key) { return store_->read(names.at(key)); };
  use(tensors);
}

NamedTensors Trainer::Impl::residuals() const {
  NamedTensors sums;
  for (const State& state : first_graph_.states) {
    if (state.role != StateRole::residual) continue;
    const std::string& name = first_graph_[state.value].name;
    Tensor sum = sum_of(*ranks(), store_->read(name));
    if (is_first_rank()) sums[name] = std::move(sum);
  }
  return sums;
}

void Trainer::Impl::set_residuals(const NamedTensors& sums) {
  for (const State& state : first_graph_.states) {
    const std::string& name = first_graph_[state.value].name;
    const auto at = sums.find(name);
    if (state.role != StateRole::residual || at == sums.end()) continue;
    store_->write(name, share_of(*ranks(), fitted(sums, {name, state.initial.dtype(), state.initial.shape()})));
  }
}

std::int64_t Trainer::Impl::updates() const {
  return to_int64s(store_->read(first_graph_[StepValues(first_graph_).updates].name))[0];
}

Evaluation Trainer::Impl::evaluate(const Dataset& data) {
  if (ranks()) share_statistics(*ranks(), first_graph_, *store_);
  return halfstep::evaluate(
      task_, options_.input, data,
      [this](std::int64_t rows) -> StepProgram& { return program(Purpose::validation, rows); }, ranks());
}

BesideStep Trainer::Impl::beside_step() {
  const std::optional<MemoryUse> use = training_program().memory();
  return use && use->is_of_device ? BesideStep() : halfstep::beside_step(first_graph_);
}

Profile Trainer::Impl::profile(const ProfileOptions& options) {
  LoaderOptions loading;
  loading.batch_size = task_.all_rows;
  loading.share = task_.share;
  loading.shuffle = false;
  BatchLoader loader(data_.columns, loading);
  const Batch* batch = loader.next();
  StepAgreement agreement(ranks(), task_.terms.size());
  std::vector<double> weights(task_.terms.size());
  task_.weigh(*batch, weights);
  StepProgram& program = training_program();
  agreement.exchange(weights, batch->is_spare, program.order(), {});
  program.run(*batch, options_.schedule.at(0), true, agreement.shares());
  return program.profile(executor_, options);
}

Trainer::Trainer(LoadedModel model, Executor& executor, const Dataset& data, TrainerOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, data, std::move(options))) {}
Trainer::Trainer(LoadedModel model, Executor& executor, BatchStream& stream, TrainerOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, first_batch(stream), std::move(options), &stream)) {}
Trainer::~Trainer() = default;
bool Trainer::fit(const TrainerCallbacks& callbacks, const Dataset* validation, const std::atomic<bool>* stop) {
  return impl_->fit(callbacks, validation, stop);
}
const std::optional<Error>& Trainer::failure() const { return impl_->failure(); }
Evaluation Trainer::evaluate(const Dataset& data) { return impl_->evaluate(data); }
NamedTensors Trainer::parameters() const { return all_of(impl_->parameters()); }
LazyTensors Trainer::lazy_parameters() const { return impl_->parameters(); }
void Trainer::set_parameters(const NamedTensors& values) { impl_->set_parameters(values); }
RunControl& Trainer::control() { return impl_->control(); }
bool Trainer::is_first_rank() const { return impl_->is_first_rank(); }
DType Trainer::precision() const { return impl_->task().precision; }
const std::string& Trainer::precision_reason() const { return impl_->precision_reason(); }
const LossDef& Trainer::loss() const { return *impl_->task().loss().row; }
std::string Trainer::loss_text() const { return impl_->task().loss_text(); }
const std::vector<Metric>& Trainer::metrics() const { return impl_->metrics(); }
std::int64_t Trainer::batch_size() const { return impl_->task().all_rows; }
const std::vector<std::string>& Trainer::notices() const { return impl_->task().notices; }
std::vector<std::size_t> Trainer::bucket_bytes() const {
  const Graph& graph = impl_->first_graph();
  std::vector<std::size_t> result;
  for (const std::vector<std::string>& names : impl_->buckets()) {
    std::size_t& bytes = result.emplace_back();
    for (const std::string& name : names) {
      const auto state = static_cast<std::size_t>(graph.state_of(graph.find(name)));
      const Tensor& value = graph.states.at(state).initial;
      bytes += bytes_of(DType::f32, static_cast<std::size_t>(value.count()));
    }
  }
  return result;
}
std::int64_t Trainer::parameter_count() const {
  std::int64_t count = 0;
  for (const State& state : impl_->first_graph().states)
    if (state.role == StateRole::parameter && state.next != kNoValue) count += state.initial.count();
  return count;
}
const Plan& Trainer::plan() { return impl_->training_program().plan(); }
std::optional<MemoryUse> Trainer::memory() { return impl_->training_program().memory(); }
BesideStep Trainer::beside_step() { return impl_->beside_step(); }
Profile Trainer::profile(const ProfileOptions& options) { return impl_->profile(options); }

}  // namespace halfstep
