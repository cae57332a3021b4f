#include "training/over_ranks.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "distributed/gather.h"

namespace halfstep {
namespace {

constexpr const char* kMeans = "means";

std::string prefix_of(std::size_t metrics) { return fmt::format("metrics {} ", metrics); }

NamedTensors part_of(const NamedTensors& all, const std::string& prefix) {
  NamedTensors part;
  for (const auto& [name, tensor] : all)
    if (name.starts_with(prefix)) part[name.substr(prefix.size())] = tensor;
  return part;
}

}  // namespace

Tensor sums_of(std::span<const RunningMean> means) {
  Tensor sums(DType::f64, {static_cast<std::int64_t>(means.size()), 2});
  for (std::size_t i = 0; i < means.size(); ++i) {
    sums.data<double>()[2 * i] = means[i].sum();
    sums.data<double>()[2 * i + 1] = means[i].weight();
  }
  return sums;
}

void add_sums(std::span<RunningMean> means, const Tensor& sums) {
  for (std::size_t i = 0; i < means.size(); ++i)
    means[i] = RunningMean::of(means[i].sum() + sums.data<double>()[2 * i],
                               means[i].weight() + sums.data<double>()[2 * i + 1]);
}

bool any_of(Communicator* ranks, bool holds) {
  std::int32_t any = holds ? 1 : 0;
  if (ranks) ranks->all_reduce(&any, 1, DType::i32, Reduction::most);
  return any != 0;
}

void merge(Communicator& ranks, std::span<RunningMean> means, std::span<Metrics* const> metrics) {
  NamedTensors own{{kMeans, sums_of(means)}};
  for (RunningMean& mean : means) mean.reset();
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    for (auto& [name, tensor] : metrics[i]->state()) own[prefix_of(i) + name] = tensor;
    metrics[i]->reset();
  }
  for (const NamedTensors& one : gather(ranks, own)) {
    add_sums(means, one.at(kMeans));
    for (std::size_t i = 0; i < metrics.size(); ++i) metrics[i]->add_state(part_of(one, prefix_of(i)));
  }
}

}  // namespace halfstep
