#include "training/state_access.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "passes/step/reduce_over_ranks.h"
#include "passes/step/step_values.h"
#include "session/tensor_types.h"
#include "training/ranks.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

std::string type_text(const Tensor& tensor) {
  return fmt::format("{}{}", name_of(tensor.dtype()), tensor.shape().to_string());
}

void require_like(const std::string& name, const Tensor& wanted, const Tensor& given) {
  if (given.dtype() != wanted.dtype() || given.shape() != wanted.shape())
    throw_input_error(fmt::format("'{}' as {}", name, type_text(wanted)), type_text(given),
                      "load the state of the same model and options");
}

/// The first element.
Tensor first_of(const Tensor& tensor) {
  Tensor first(tensor.dtype(), {1});
  std::memcpy(first.raw(), tensor.raw(), first.bytes());
  return first;
}

/// The tensor itself where it has as many elements.
Tensor filled_with(const Tensor& first, const Shape& shape) {
  if (first.shape() == shape) return first;
  Tensor result(first.dtype(), shape);
  auto* out = static_cast<std::byte*>(result.raw());
  for (std::int64_t i = 0; i < result.count(); ++i) std::memcpy(out + i * first.bytes(), first.raw(), first.bytes());
  return result;
}

bool is_sum(const std::string& state) { return state.starts_with(kAccumulatorPrefix); }
bool is_residual(const std::string& state) { return state.starts_with(kResidualPrefix); }

[[noreturn]] void throw_unknown(const std::string& name) {
  throw_input_error("the names of the step's states in a state that is loaded", fmt::format("'{}'", name),
                    "load the state of the same model and options");
}

}  // namespace

TrainedStates::TrainedStates(const Graph& trainable, const Graph& model, Executor& executor)
    : trainable_(trainable), store_(executor.make_store()) {
  for (const State& state : trainable.states)
    if (state.role == StateRole::parameter)
      parameters_.push_back({trainable[state.value].name, state.initial.dtype(), state.initial.shape()});
  for (const Value& value : model.values) of_source_.insert(value.name);
}

void TrainedStates::bind(const Graph& graph) {
  const StepValues step(graph);
  if (step.loss_scale != kNoValue) loss_scale_ = graph[step.loss_scale].name;
  if (step.updates != kNoValue) updates_ = graph[step.updates].name;
  for (const State& state : graph.states) {
    if (state.role == StateRole::copy) {
      half_copies_[graph[state.source].name] = graph[state.value].dtype;
      continue;
    }
    const std::string& name = graph[state.value].name;
    if (state.role == StateRole::statistic && of_source_.contains(name) &&
        std::ranges::find(statistics_, name) == statistics_.end()) {
      statistics_.push_back(name);
      std::erase_if(parameters_, [&](const TensorInfo& type) { return type.name == name; });
    }
    const bool begins_even = state.role == StateRole::optimizer || state.role == StateRole::loss_scale ||
                             state.role == StateRole::random || state.role == StateRole::residual;
    if (begins_even && state.initial.count() > 0) initial_.try_emplace(name, first_of(state.initial));
    if (state.role == StateRole::statistic) initial_.try_emplace(name, state.initial.clone());
    const auto value = waiting_.find(name);
    if (value == waiting_.end()) continue;
    require_like(name, state.initial, value->second);
    store_->write(name, value->second);
    waiting_.erase(value);
  }
  if (step.updates == kNoValue || step.loss == kNoValue) return;
  whole_ = true;
  std::erase_if(waiting_, [](const auto& state) { return is_residual(state.first); });
  const auto unknown = std::ranges::find_if(waiting_, [](const auto& state) { return !is_sum(state.first); });
  if (unknown == waiting_.end()) return;
  const std::string name = unknown->first;
  waiting_.erase(unknown);
  throw_unknown(name);
}

Tensor TrainedStates::read(const std::string& name) const {
  if (const auto at = waiting_.find(name); at != waiting_.end()) return at->second.clone();
  if (store_->has(name)) return store_->read(name);
  const ValueId id = trainable_.find(name);
  const std::ptrdiff_t state = id == kNoValue ? -1 : trainable_.state_of(id);
  if (state < 0) throw_input_error("the name of a state", fmt::format("'{}'", name), "");
  return trainable_.states[state].initial.clone();
}

NamedTensors TrainedStates::parameter_values() const {
  NamedTensors values;
  for (const TensorInfo& type : parameters_) values[type.name] = read(type.name);
  return values;
}

void TrainedStates::set_parameters(const NamedTensors& values) {
  check_names(values, parameters_, "a parameter", true);
  NamedTensors fitting;
  for (const TensorInfo& type : parameters_)
    if (values.contains(type.name)) fitting[type.name] = fitted(values, type);
  for (const auto& [name, value] : fitting) write(name, value);
}

void TrainedStates::write(const std::string& name, const Tensor& value) {
  if (store_->has(name))
    store_->write(name, value);
  else
    waiting_[name] = value.clone();
}

NamedTensors TrainedStates::statistics() const {
  NamedTensors values;
  for (const std::string& name : statistics_) values[name] = read(name);
  return values;
}

void TrainedStates::share_statistics(Communicator& ranks) {
  std::set<std::string> names(statistics_.begin(), statistics_.end());
  for (const auto& [name, value] : waiting_)
    if (of_source_.contains(name)) names.insert(name);  // before a program shows which are
  for (const std::string& name : names) write(name, of_first(ranks, read(name)));
}

NamedTensors TrainedStates::all() const {
  NamedTensors values = parameter_values();
  for (const std::string& name : store_->names()) values[name] = store_->read(name);
  for (const auto& [name, value] : waiting_) values[name] = value.clone();
  return values;
}

std::size_t TrainedStates::bytes() const {
  std::size_t bytes = 0;
  for (const State& state : trainable_.states)
    if (!store_->has(trainable_[state.value].name)) bytes += state.initial.bytes();
  for (const std::string& name : store_->names()) bytes += store_->read(name).bytes();
  for (const auto& [name, value] : waiting_) bytes += value.bytes();
  return bytes;
}

void TrainedStates::check_numbers(const NamedTensors& values, bool has_loss_scale) const {
  const auto scale = values.find(loss_scale_name());
  if (has_loss_scale && scale != values.end() && scale->second.dtype() == DType::f32 && scale->second.count() == 1) {
    const float value = *scale->second.data<float>();
    if (!(value > 0 && std::isfinite(value)))
      throw_input_error("a loss scale above 0", fmt::format("{}", value), "load a whole state");
  }
  const auto updates = values.find(updates_name());
  if (updates != values.end() && updates->second.dtype() == DType::i64 && updates->second.count() == 1) {
    const std::int64_t value = *updates->second.data<std::int64_t>();
    if (value < 0 || value > (std::int64_t{1} << 53))
      throw_input_error("a number of updates from 0 on", fmt::format("{}", value), "load a whole state");
  }
}

void TrainedStates::load(NamedTensors values) {
  const NamedTensors present = all();
  std::vector<std::string> missing;
  if (whole_)
    std::erase_if(values,
                  [&](const auto& state) { return is_residual(state.first) && !present.contains(state.first); });
  const bool starts_anew = !values.contains(updates_name());
  for (const auto& [name, initial] : initial_)
    if ((starts_anew || is_residual(name)) && !values.contains(name))
      values[name] = filled_with(initial, present.at(name).shape());
  for (const auto& [name, tensor] : present) {
    const auto at = values.find(name);
    if (at != values.end())
      require_like(name, tensor, at->second);
    else if (!is_sum(name))
      missing.push_back(name);
  }
  for (const auto& [name, tensor] : values)
    if (whole_ && !present.contains(name) && !is_sum(name)) throw_unknown(name);
  if (!missing.empty())
    throw_input_error("a state with all that the step has", fmt::format("none of {}", fmt::join(missing, ", ")),
                      "load the state of the same model and options");
  for (auto& [name, tensor] : values) {
    // What the model has and is no parameter is a statistic: which of them there are shows with the first program.
    if (of_source_.contains(name) && std::ranges::find(parameters_, name, &TensorInfo::name) == parameters_.end() &&
        std::ranges::find(statistics_, name) == statistics_.end())
      statistics_.push_back(name);
    write(name, tensor);
  }
}

std::optional<Tensor> TrainedStates::loss_scale() const {
  const std::string name = loss_scale_name();
  if (const auto at = waiting_.find(name); at != waiting_.end()) return at->second;
  if (loss_scale_.empty()) return {};
  return store_->read(loss_scale_);
}

bool TrainedStates::set_loss_scale(float value) {
  if (loss_scale_.empty()) return false;
  store_->write(loss_scale_, Tensor::scalar(value));
  return true;
}

std::int64_t TrainedStates::updates() const {
  const std::string name = updates_name();
  if (const auto at = waiting_.find(name); at != waiting_.end()) return to_int64s(at->second).at(0);
  return updates_.empty() ? 0 : to_int64s(store_->read(updates_)).at(0);
}

}  // namespace halfstep
