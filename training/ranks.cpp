#include "training/ranks.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "distributed/gather.h"
#include "training/over_ranks.h"

namespace halfstep {
namespace {

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

// Behind the weights: how many ranks wish what, and what rank 0 says for all.
enum Wish : std::uint8_t { kStop, kEnded, kEnd, kSkip, kHasRate, kRate, kLow, kHigh, kLowSquare, kHighSquare, kWishes };

namespace {

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

Tensor of_first(Communicator& ranks, const Tensor& own) {
  Tensor value = own.clone();
  if (value.bytes() > 0) ranks.broadcast(value.raw(), value.bytes(), 0);
  return value;
}

void share_statistics(Communicator& ranks, const Graph& step, StateStore& store) {
  for (const State& state : step.states) {
    const std::string& name = step[state.value].name;
    if (state.role == StateRole::statistic && store.has(name)) store.write(name, of_first(ranks, store.read(name)));
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
