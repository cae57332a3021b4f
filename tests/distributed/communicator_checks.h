// What every communicator promises: each check is what one rank does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "distributed/gather.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>

namespace halfstep::test {

inline void require(bool holds, const std::string& what) {
  if (!holds) throw_failure(what, "another", "");
}

template <class T>
void check_reductions(Communicator& ranks, DType dtype) {
  const int n = ranks.size();
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{30000}}) {
    const auto own = [&](std::size_t i) { return static_cast<float>(ranks.rank() + 1 + static_cast<int>(i % 5)); };
    const auto expect = [&](const std::vector<T>& values, const auto& wanted, const char* what) {
      for (std::size_t i = 0; i < values.size(); ++i)
        if (static_cast<float>(values[i]) != static_cast<float>(wanted(i)))
          throw_failure(fmt::format("{} of {} {}", what, count, name_of(dtype)), fmt::format("another at {}", i), "");
    };
    const auto sum = [&](std::size_t i) { return n * (n + 1) / 2 + n * static_cast<int>(i % 5); };
    std::vector<T> values(count);
    const auto fill = [&] {
      for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<T>(own(i));
    };
    fill();
    ranks.all_reduce(values.data(), count, dtype, Reduction::sum);
    expect(values, sum, "sum");
    // Two are under way at once, again and again.
    std::vector<T> others(count);
    const auto first = ranks.make_all_reduce(values.data(), count, dtype, Reduction::sum);
    const auto second = ranks.make_all_reduce(others.data(), count, dtype, Reduction::sum);
    for (int round = 0; round < 3; ++round) {
      fill();
      others = values;
      first->start();
      second->start();
      second->wait();
      first->wait();
      expect(values, sum, "sum of the first");
      expect(others, sum, "sum of the second");
    }
    if (is_half(dtype)) continue;
    fill();
    ranks.all_reduce(values.data(), count, dtype, Reduction::least);
    expect(
        values, [](std::size_t i) { return 1 + static_cast<int>(i % 5); }, "least");
    fill();
    ranks.all_reduce(values.data(), count, dtype, Reduction::most);
    expect(
        values, [&](std::size_t i) { return n + static_cast<int>(i % 5); }, "most");
    std::vector<T> all(count * static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<T>(i / std::max<std::size_t>(1, count));
    ranks.reduce_scatter(all.data(), values.data(), count, dtype, Reduction::sum);
    expect(
        values, [&](std::size_t) { return n * ranks.rank(); }, "part");
  }
}

inline void check_communicator(Communicator& ranks) {
  check_reductions<float>(ranks, DType::f32);
  check_reductions<double>(ranks, DType::f64);
  check_reductions<f16>(ranks, DType::f16);
  check_reductions<bf16>(ranks, DType::bf16);
  check_reductions<std::int64_t>(ranks, DType::i64);
  check_reductions<std::int32_t>(ranks, DType::i32);

  const int own = 10 * ranks.rank();
  std::vector<int> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(&own, all.data(), sizeof own);
  for (int rank = 0; rank < ranks.size(); ++rank)
    require(all[static_cast<std::size_t>(rank)] == 10 * rank, fmt::format("what rank {} gave", rank));

  for (int root = 0; root < ranks.size(); ++root) {
    std::string text = ranks.rank() == root ? "from the root" : "             ";
    ranks.broadcast(text.data(), text.size(), root);
    require(text == "from the root", fmt::format("the text of rank {}", root));
  }

  // Nothing has no address.
  ranks.all_gather(nullptr, nullptr, 0);
  ranks.broadcast(nullptr, 0, 0);
  ranks.all_reduce(nullptr, 0, DType::f32, Reduction::sum);
  ranks.reduce_scatter(nullptr, nullptr, 0, DType::f32, Reduction::sum);

  // Sums whose order shows are the same bits everywhere, and each time.
  std::vector<float> first;
  for (int round = 0; round < 3; ++round) {
    std::vector<float> values(1000);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = (ranks.rank() % 2 == 0 ? 1e8f : -1e8f) + static_cast<float>(i) * 0.37f;
    ranks.all_reduce(values.data(), values.size(), DType::f32, Reduction::sum);
    if (round == 0) first = values;
    require(values == first, "the same bits in each round");
    std::vector<float> of_first = values;
    ranks.broadcast(of_first.data(), of_first.size() * sizeof(float), 0);
    require(values == of_first, "the same bits on each rank");
  }

  // Texts and tensors of different lengths.
  const std::vector<std::string> texts = gather(ranks, std::string(static_cast<std::size_t>(ranks.rank()), 'x'));
  for (std::size_t rank = 0; rank < texts.size(); ++rank)
    require(texts[rank] == std::string(rank, 'x'), fmt::format("the text of rank {}", rank));
  NamedTensors mine;
  if (ranks.rank() != 1) mine["a\tname"] = Tensor::of<double>({1.5, static_cast<double>(ranks.rank())});
  mine["scalar"] = Tensor::scalar(std::int64_t{7});
  const std::vector<NamedTensors> tensors = gather(ranks, mine);
  for (std::size_t rank = 0; rank < tensors.size(); ++rank) {
    require(tensors[rank].size() == (rank == 1 ? 1u : 2u), "the tensors of each rank");
    require(*tensors[rank].at("scalar").data<std::int64_t>() == 7, "a scalar");
    if (rank != 1)
      require(tensors[rank].at("a\tname").data<double>()[1] == static_cast<double>(rank), "elements of each rank");
  }
  ranks.barrier();
}

}  // namespace halfstep::test
