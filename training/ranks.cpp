#include "training/ranks.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "distributed/gather.h"
#include "graph/crc.h"
#include "training/flat_tensors.h"
#include "training/over_ranks.h"

namespace halfstep {
namespace {

// Behind the weights: how many ranks wish what, and what rank 0 says for all.
enum Wish : std::uint8_t { kStop, kEnded, kEnd, kSkip, kHasRate, kRate, kLow, kHigh, kLowSquare, kHighSquare, kWishes };

std::string text_of(std::uint32_t crc) { return fmt::format("{:08x}", crc); }

/// Whether `size` numbers below 2^16 are the same, by their sum and that of their squares, which are exact: so that all
/// ranks find the same, or none does.
bool are_same(double sum, double squares, int size) {
  return static_cast<std::uint64_t>(squares) * static_cast<std::uint64_t>(size) ==
         static_cast<std::uint64_t>(sum) * static_cast<std::uint64_t>(sum);
}

}  // namespace

StepAgreement::StepAgreement(Communicator* ranks, std::size_t terms)
    : sums_(terms + kWishes), shares_(terms + 1, 1.0f) {
  if (!ranks) return;
  rank_ = ranks->rank();
  size_ = ranks->size();
  reduction_ = ranks->make_all_reduce(sums_.data(), sums_.size(), DType::f64, Reduction::sum);
}

void StepAgreement::exchange(std::span<const double> weights, bool is_spare, std::uint32_t order,
                             const StepWishes& own) {
  std::ranges::copy(weights, sums_.begin());
  wishes_ = own;
  if (!reduction_) return;
  const std::span<double> wishes = std::span(sums_).last(kWishes);
  wishes[kStop] = own.stop ? 1 : 0;
  wishes[kEnded] = own.ended ? 1 : 0;
  wishes[kEnd] = own.end ? 1 : 0;
  wishes[kSkip] = own.skip ? 1 : 0;
  wishes[kHasRate] = rank_ == 0 && own.learning_rate ? 1 : 0;
  wishes[kRate] = rank_ == 0 ? own.learning_rate.value_or(0) : 0;
  wishes[kLow] = order & 0xffff;
  wishes[kHigh] = order >> 16;
  wishes[kLowSquare] = wishes[kLow] * wishes[kLow];
  wishes[kHighSquare] = wishes[kHigh] * wishes[kHigh];
  reduction_->start();
  reduction_->wait();
  if (!are_same(wishes[kLow], wishes[kLowSquare], size_) || !are_same(wishes[kHigh], wishes[kHighSquare], size_))
    throw SharedError(Error::Kind::failure, "the same gradients to be added up in the same order on all ranks",
                      "another order on one of them", "start all ranks with the same executor and version");
  wishes_ = {.stop = wishes[kStop] > 0,
             .ended = wishes[kEnded] > 0,
             .end = wishes[kEnd] > 0,
             .skip = wishes[kSkip] > 0,
             .learning_rate = wishes[kHasRate] > 0 ? std::optional(wishes[kRate]) : std::nullopt};
  shares_.back() = is_spare ? 0.0f : 1.0f;
  for (std::size_t i = 0; i < weights.size(); ++i)
    shares_[i] = sums_[i] > 0 ? static_cast<float>(weights[i] / sums_[i]) : 0.0f;
}

std::optional<Error> first_of(Communicator* ranks, const std::optional<Error>& failure) {
  if (!any_of(ranks, failure.has_value()) || !ranks) return failure;
  nlohmann::json own;
  if (failure)
    own = {{"input", failure->kind() == Error::Kind::input},
           {"required", failure->required()},
           {"found", failure->found()},
           {"remedy", failure->remedy()}};
  for (const std::string& text : gather(*ranks, own.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))) {
    const nlohmann::json one = nlohmann::json::parse(text);
    if (one.is_null()) continue;
    return Error(one.at("input").get<bool>() ? Error::Kind::input : Error::Kind::failure,
                 one.at("required").get<std::string>(), one.at("found").get<std::string>(),
                 one.at("remedy").get<std::string>());
  }
  return failure;
}

void broadcast(Communicator& ranks, Tensor& tensor, int root) {
  if (tensor.bytes() > 0) ranks.broadcast(tensor.raw(), tensor.bytes(), root);
}

Tensor of_first(Communicator& ranks, const Tensor& own) {
  Tensor value = own.clone();
  broadcast(ranks, value, 0);
  return value;
}

Tensor sum_of(Communicator& ranks, const Tensor& own) {
  Tensor sum = own.clone();
  ranks.all_reduce(sum.raw(), static_cast<std::size_t>(sum.count()), sum.dtype(), Reduction::sum);
  return sum;
}

Tensor share_of(const Communicator& ranks, const Tensor& sum) {
  Tensor share = sum.clone();
  scale_by(share, 1.0 / ranks.size());
  return share;
}

void share_statistics(Communicator& ranks, const Graph& step, StateStore& store) {
  for (const State& state : step.states) {
    const std::string& name = step[state.value].name;
    if (state.role == StateRole::statistic && store.has(name)) store.write(name, of_first(ranks, store.read(name)));
  }
}

std::string checksum(const Graph& model) {
  std::uint32_t crc = 0;
  for (const Value& value : model.values)
    if (value.is_constant()) crc = crc_of(value.constant, crc);
  return text_of(crc);
}

std::int64_t seed_of(std::uint64_t seed, int rank) {
  return static_cast<std::int64_t>(seed + static_cast<std::uint64_t>(rank) * 0x9e3779b97f4a7c15u);
}

void require_same_checkpoint(Communicator& ranks, const Checkpoint& checkpoint) {
  std::uint32_t tensors = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) tensors = crc_of(tensor, tensors);
  for (const auto& [owner, state] : checkpoint.kept)
    for (const auto& [name, tensor] : state) tensors = crc_of(tensor, tensors);
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  require_same(ranks, {{"step of the checkpoint", number(checkpoint.state.step)},
                       {"epoch of the checkpoint", number(checkpoint.state.epoch)},
                       {"position of the checkpoint in its epoch", number(checkpoint.state.position)},
                       {"tensors of the checkpoint", text_of(tensors)}});
}

std::vector<std::vector<std::string>> agreed_buckets(Communicator& ranks,
                                                     const std::vector<std::vector<std::string>>& buckets) {
  const std::string text = nlohmann::json(buckets).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::vector<std::string> all = gather(ranks, text);
  return all[0] == text ? buckets : nlohmann::json::parse(all[0]).get<std::vector<std::vector<std::string>>>();
}

}  // namespace halfstep
