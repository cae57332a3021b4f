#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/machine_memory.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/core/memory.h>
#include <halfstep/executors/core/schedule.h>

namespace halfstep {

namespace {

double bytes_of(const Value& value) {
  const Shape& shape = value.is_constant() ? value.constant.shape() : value.shape;
  if (!shape.is_static() || value.dtype == DType::undefined || value.dtype == DType::string) return 0;
  double bits = static_cast<double>(bits_of(value.dtype));
  for (const std::int64_t extent : shape) bits *= static_cast<double>(extent);
  return bits / 8;
}

ValueMap<bool> kept_all_the_time(const Graph& graph) {
  ValueMap<bool> kept(graph.values.size(), false);
  for (const ValueId id : kept.ids()) kept[id] = graph[id].is_constant();
  for (const ValueId id : graph.inputs) kept[id] = true;
  for (const ValueId id : graph.outputs) kept[id] = true;
  for (const State& state : graph.states) kept[state.value] = true;
  return kept;
}

/// The most that lives at once of what is not kept, when the nodes run in their order. What a node reads for the last
/// time may share memory with what it writes, and views have none of their own.
double peak_between_nodes(const Graph& graph, const ValueMap<bool>& kept) {
  const ValueMap<ValueId> root = core::view_roots(graph);
  ValueMap<std::size_t> last_use(graph.values.size(), 0);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (const ValueId id : graph.nodes[n].inputs)
      if (id != kNoValue) last_use[root[id]] = n;
  std::vector<double> freed(graph.nodes.size() + 1, 0);
  double live = 0, peak = 0;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    live -= freed[n];
    for (const ValueId id : graph.nodes[n].outputs) {
      if (id == kNoValue || kept[id] || root[id] != id) continue;
      const double bytes = bytes_of(graph[id]);
      live += bytes;
      freed[std::max(last_use[id], n + 1)] += bytes;
    }
    peak = std::max(peak, live);
  }
  return peak;
}

double sum_of(const Graph& graph, const ValueMap<bool>& chosen, bool which) {
  double sum = 0;
  for (const ValueId id : chosen.ids())
    if (chosen[id] == which) sum += bytes_of(graph[id]);
  return sum;
}

/// A device keeps states; of the rest it has what kernels read.
double bytes_kept(const Graph& graph, const ValueMap<bool>& kept, const MemoryRoom& room) {
  if (room.is_host) return sum_of(graph, kept, /*which=*/true);
  double sum = 0;
  for (const State& state : graph.states) sum += bytes_of(graph[state.value]);
  return sum;
}

std::string amount(double bytes) {
  constexpr double kMiB = 1 << 20, kGiB = 1 << 30;
  return bytes < kGiB / 10 ? fmt::format("{:.3g} MiB", bytes / kMiB) : fmt::format("{:.3g} GiB", bytes / kGiB);
}

std::string largest_tensors(const Graph& graph) {
  constexpr std::size_t kNamed = 3;
  std::vector<const Value*> largest;
  for (const Value& value : graph.values) largest.push_back(&value);
  const std::size_t named = std::min(kNamed, largest.size());
  std::partial_sort(largest.begin(), largest.begin() + static_cast<std::ptrdiff_t>(named), largest.end(),
                    [](const Value* a, const Value* b) { return bytes_of(*a) > bytes_of(*b); });
  std::string names;
  for (std::size_t i = 0; i < named; ++i)
    names += fmt::format("{}'{}' {}{} of {}", i == 0 ? "" : ", ", largest[i]->name, name_of(largest[i]->dtype),
                         largest[i]->shape.to_string(), amount(bytes_of(*largest[i])));
  return "the largest tensors are " + names;
}

/// Whether running it changes parameters, or sums of their gradients.
bool trains(const Graph& graph) {
  return std::ranges::any_of(graph.states, [](const State& state) {
    return state.next != kNoValue && (state.role == StateRole::parameter || state.role == StateRole::accumulator);
  });
}

/// What lives between nodes grows with the batch, which is the first extent of the first input.
std::string remedy(const Graph& graph, double between, double room) {
  std::int64_t batch = 0;
  for (const ValueId id : graph.inputs)
    if (batch == 0 && graph[id].shape.rank() > 0) batch = graph[id].shape[0];
  const double fits = between > 0 ? std::floor(static_cast<double>(batch) * std::max(room, 0.0) / between) : 0;
  if (fits >= 1 && fits < static_cast<double>(batch))
    return fmt::format("a batch of about {:.0f} instead of {} fits{}", fits, batch,
                       trains(graph) ? "; --memory-budget makes room for more" : "");
  if (room <= 0)
    return fmt::format(
        "not even a batch of 1 fits: use a device with more memory, or {}",
        trains(graph) ? "an optimizer with fewer moments" : "half precision, in which weights take half");
  return "check the model's shapes, use a smaller batch, or a machine with more memory";
}

void check_fits(const Graph& graph, double kept, double between, const MemoryRoom& room) {
  const auto there_is = static_cast<double>(room.bytes);
  if (room.bytes == 0 || kept + between <= there_is) return;
  throw BeyondMemory(
      Error::Kind::failure, fmt::format("a step that fits into the {} of memory of {}", amount(there_is), room.owner),
      fmt::format("{}; {}", amount(kept + between), largest_tensors(graph)), remedy(graph, between, there_is - kept));
}

}  // namespace

MemoryRoom machine_room() { return {.bytes = machine_memory(), .owner = "this machine"}; }

void check_step_fits(const Graph& graph, ValueMemory values, const MemoryRoom& room) {
  const ValueMap<bool> kept = kept_all_the_time(graph);
  const double between =
      values == ValueMemory::shared ? peak_between_nodes(graph, kept) : sum_of(graph, kept, /*which=*/false);
  check_fits(graph, bytes_kept(graph, kept, room), between, room);
}

void check_step_fits(const Graph& graph, std::size_t between, const MemoryRoom& room) {
  check_fits(graph, bytes_kept(graph, kept_all_the_time(graph), room), static_cast<double>(between), room);
}

void throw_too_little(const Graph& graph, const AskedMemory& asked, const TooLittleMemory& left,
                      const MemoryRoom& room) {
  const auto bytes = static_cast<double>(asked.bytes), before = static_cast<double>(asked.before),
             free = static_cast<double>(left.free());
  throw BeyondMemory(
      Error::Kind::failure,
      fmt::format("a step that fits into the {} of memory of {}", amount(static_cast<double>(room.bytes)), room.owner),
      fmt::format("{} free when memory for the {}{} was asked for; {}", amount(free), asked.what,
                  asked.bytes > 0 ? fmt::format(", {},", amount(bytes)) : "", largest_tensors(graph)),
      remedy(graph, before + bytes, asked.bytes > 0 ? before + free : 0) +
          "; other programs that use the device take of it, too (nvidia-smi lists them)");
}

namespace {

constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// No arena is smaller.
std::size_t most_at_once(const std::vector<Lifetime>& lifetimes) {
  std::map<std::int64_t, std::ptrdiff_t> change;
  for (const Lifetime& life : lifetimes) {
    change[life.first] += static_cast<std::ptrdiff_t>(life.bytes);
    change[std::int64_t{life.last} + 1] -= static_cast<std::ptrdiff_t>(life.bytes);
  }
  std::ptrdiff_t live = 0, most = 0;
  for (const auto& [step, bytes] : change) most = std::max(most, live += bytes);
  return static_cast<std::size_t>(most);
}

/// Each in this order at the lowest gap that fits it.
Arena place_in_order(const std::vector<Lifetime>& lifetimes, const std::vector<std::size_t>& order) {
  Arena arena;
  arena.offsets.assign(lifetimes.size(), 0);
  std::vector<std::size_t> placed;  // by offset
  for (std::size_t i : order) {
    const Lifetime& life = lifetimes[i];
    if (life.bytes == 0) continue;
    std::size_t offset = 0;
    for (std::size_t j : placed) {
      const Lifetime& other = lifetimes[j];
      if (other.last < life.first || life.last < other.first) continue;
      if (offset + life.bytes <= arena.offsets[j]) break;
      offset = std::max(offset, aligned(arena.offsets[j] + other.bytes));
    }
    arena.offsets[i] = offset;
    arena.bytes = std::max(arena.bytes, offset + life.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](std::size_t a, std::size_t b) { return arena.offsets[a] < arena.offsets[b]; }),
                  i);
  }
  return arena;
}

/// The parts of an arena that nobody needs at one step, by their offsets. None touches another.
class Gaps {
 public:
  /// The smallest that has the bytes, or else the end of the arena.
  std::size_t take(std::size_t bytes) {
    const auto found = by_size_.lower_bound({bytes, 0});
    std::size_t offset = end_, size = 0;
    if (found != by_size_.end()) {
      std::tie(size, offset) = *found;
    } else if (!by_offset_.empty()) {
      const auto& [last, last_size] = *by_offset_.rbegin();
      if (last + last_size == end_) std::tie(size, offset) = std::pair(last_size, last);
    }
    if (size > 0) remove(offset, size);
    if (size > bytes) add(offset + bytes, size - bytes);
    end_ = std::max(end_, offset + bytes);
    return offset;
  }
  void give_back(std::size_t offset, std::size_t bytes) {
    const auto next = by_offset_.lower_bound(offset);
    Gap after, before;
    if (next != by_offset_.end()) after = *next;
    if (next != by_offset_.begin()) before = *std::prev(next);
    if (after.second > 0 && offset + bytes == after.first) {
      remove(after.first, after.second);
      bytes += after.second;
    }
    if (before.second > 0 && before.first + before.second == offset) {
      remove(before.first, before.second);
      offset = before.first;
      bytes += before.second;
    }
    add(offset, bytes);
  }

 private:
  using Gap = std::pair<std::size_t, std::size_t>;  // its offset and its bytes

  void add(std::size_t offset, std::size_t bytes) {
    by_offset_.emplace(offset, bytes);
    by_size_.emplace(bytes, offset);
  }
  void remove(std::size_t offset, std::size_t bytes) {
    by_offset_.erase(offset);
    by_size_.erase({bytes, offset});
  }

  std::map<std::size_t, std::size_t> by_offset_;
  std::set<std::pair<std::size_t, std::size_t>> by_size_;
  std::size_t end_ = 0;
};

/// Each at the step at which it is needed first, in the smallest gap that there is then. Takes n log n for n buffers.
Arena place_in_time(const std::vector<Lifetime>& lifetimes) {
  Arena arena;
  arena.offsets.assign(lifetimes.size(), 0);
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return lifetimes[i].first; });
  Gaps gaps;
  std::multimap<std::int32_t, std::size_t> live;  // by their last steps
  for (const std::size_t i : order) {
    const Lifetime& life = lifetimes[i];
    if (life.bytes == 0) continue;
    for (; !live.empty() && live.begin()->first < life.first; live.erase(live.begin())) {
      const std::size_t over = live.begin()->second;
      gaps.give_back(arena.offsets[over], aligned(lifetimes[over].bytes));
    }
    arena.offsets[i] = gaps.take(aligned(life.bytes));
    arena.bytes = std::max(arena.bytes, arena.offsets[i] + life.bytes);
    live.emplace(life.last, i);
  }
  return arena;
}

/// What comes first is placed first, the larger the value the earlier.
using Weight = double (*)(const Lifetime&);
constexpr Weight kWeights[] = {
    [](const Lifetime& life) { return static_cast<double>(life.bytes); },
    [](const Lifetime& life) { return static_cast<double>(life.bytes) * (1.0 + life.last - life.first); },
    [](const Lifetime& life) { return static_cast<double>(life.last) - life.first; },
    [](const Lifetime& life) { return -static_cast<double>(life.first); },
    [](const Lifetime& life) { return static_cast<double>(life.last); },
};

}  // namespace

Arena plan_memory(const std::vector<Lifetime>& lifetimes) {
  constexpr double kTight = 1.01;        // of what no arena can do without
  constexpr std::size_t kMany = 10'000;  // to place one in an order takes time in proportion to those before it
  const double least = static_cast<double>(most_at_once(lifetimes));
  std::vector<std::size_t> order(lifetimes.size());
  Arena best;
  const bool are_many = lifetimes.size() > kMany;
  if (are_many) {
    best = place_in_time(lifetimes);
    if (static_cast<double>(best.bytes) <= kTight * least) return best;
  }
  for (const Weight weight : kWeights) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return weight(lifetimes[a]) > weight(lifetimes[b]); });
    Arena arena = place_in_order(lifetimes, order);
    if (best.offsets.empty() || arena.bytes < best.bytes) best = std::move(arena);
    if (are_many || static_cast<double>(best.bytes) <= kTight * least) break;
  }
  return best;
}

}  // namespace halfstep
