#include "training/ranks.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "distributed/gather.h"

namespace halfstep {
namespace {

constexpr const char* kLoss = "loss";
constexpr std::string_view kMetric = "metric ";

void add_metrics(NamedTensors& to, const Metrics& metrics) {
  for (auto& [name, tensor] : metrics.state()) to[std::string(kMetric) + name] = tensor;
}

NamedTensors metrics_in(const NamedTensors& all) {
  NamedTensors result;
  for (const auto& [name, tensor] : all)
    if (name.starts_with(kMetric)) result[name.substr(kMetric.size())] = tensor;
  return result;
}

class Checksum {
 public:
  void add(const Tensor& tensor) {
    if (tensor.bytes() > 0) crc_ = crc32_z(crc_, static_cast<const Bytef*>(tensor.raw()), tensor.bytes());
  }
  std::string text() const { return fmt::format("{:08x}", crc_); }

 private:
  uLong crc_ = crc32_z(0, nullptr, 0);
};

}  // namespace

StepAgreement::StepAgreement(Communicator* ranks, std::size_t terms) : sums_(terms + 1), shares_(terms + 1, 1.0f) {
  if (ranks) reduction_ = ranks->make_all_reduce(sums_.data(), sums_.size(), DType::f64, Reduction::sum);
}

void StepAgreement::exchange(std::span<const double> weights, bool is_spare, bool stop) {
  std::ranges::copy(weights, sums_.begin());
  sums_.back() = stop ? 1 : 0;
  if (!reduction_) return;
  reduction_->start();
  reduction_->wait();
  shares_.back() = is_spare ? 0.0f : 1.0f;
  for (std::size_t i = 0; i < weights.size(); ++i)
    shares_[i] = sums_[i] > 0 ? static_cast<float>(weights[i] / sums_[i]) : 0.0f;
}

bool any_of(Communicator* ranks, bool holds) {
  std::int32_t any = holds ? 1 : 0;
  if (ranks) ranks->all_reduce(&any, 1, DType::i32, Reduction::most);
  return any != 0;
}

void merge(Communicator& ranks, LossMean& loss, Metrics& metrics) {
  NamedTensors own{{kLoss, loss.state()}};
  add_metrics(own, metrics);
  loss.reset();
  metrics.reset();
  for (const NamedTensors& one : gather(ranks, own)) {
    loss.add_state(one.at(kLoss));
    metrics.add_state(metrics_in(one));
  }
}

void merge(Communicator& ranks, Metrics& metrics) {
  NamedTensors own;
  add_metrics(own, metrics);
  metrics.reset();
  for (const NamedTensors& one : gather(ranks, own)) metrics.add_state(metrics_in(one));
}

void share_statistics(Communicator& ranks, const Graph& step, StateStore& store) {
  for (const State& state : step.states) {
    if (state.role != StateRole::statistic || !store.has(step[state.value].name)) continue;
    const std::string& name = step[state.value].name;
    Tensor value = store.read(name).clone();
    ranks.broadcast(value.raw(), value.bytes(), 0);
    store.write(name, value);
  }
}

std::string checksum(const Graph& model) {
  Checksum sum;
  for (const Value& value : model.values)
    if (value.is_constant()) sum.add(value.constant);
  return sum.text();
}

std::int64_t seed_of(std::uint64_t seed, int rank) {
  return static_cast<std::int64_t>(seed + static_cast<std::uint64_t>(rank) * 0x9e3779b97f4a7c15u);
}

void require_same_checkpoint(Communicator& ranks, const Checkpoint& checkpoint) {
  Checksum tensors;
  for (const auto& [name, tensor] : checkpoint.tensors) tensors.add(tensor);
  for (const auto& [owner, state] : checkpoint.kept)
    for (const auto& [name, tensor] : state) tensors.add(tensor);
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  require_same(ranks, {{"step of the checkpoint", number(checkpoint.state.step)},
                       {"epoch of the checkpoint", number(checkpoint.state.epoch)},
                       {"position of the checkpoint in its epoch", number(checkpoint.state.position)},
                       {"tensors of the checkpoint", tensors.text()}});
}

std::vector<std::vector<std::string>> agreed_buckets(Communicator& ranks,
                                                     const std::vector<std::vector<std::string>>& buckets) {
  const std::string text = nlohmann::json(buckets).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::vector<std::string> all = gather(ranks, text);
  return all[0] == text ? buckets : nlohmann::json::parse(all[0]).get<std::vector<std::vector<std::string>>>();
}

}  // namespace halfstep
