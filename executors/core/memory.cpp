#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>

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

/// What lives between nodes grows with the batch, which is the first extent of the first input.
std::string remedy(const Graph& graph, double between, double room) {
  std::int64_t batch = 0;
  for (const ValueId id : graph.inputs)
    if (batch == 0 && graph[id].shape.rank() > 0) batch = graph[id].shape[0];
  const double fits = between > 0 ? std::floor(static_cast<double>(batch) * std::max(room, 0.0) / between) : 0;
  if (fits >= 1 && fits < static_cast<double>(batch))
    return fmt::format("a batch of about {:.0f} instead of {} fits; --memory-budget makes room for more", fits, batch);
  if (room <= 0) return "not even a batch of 1 fits: use a device with more memory, or an optimizer with fewer moments";
  return "check the model's shapes, use a smaller batch, or a machine with more memory";
}

void check_fits(const Graph& graph, double kept, double between, const MemoryRoom& room) {
  const auto there_is = static_cast<double>(room.bytes);
  if (room.bytes == 0 || kept + between <= there_is) return;
  throw_failure(fmt::format("a step that fits into the {} of memory of {}", amount(there_is), room.owner),
                fmt::format("{}; {}", amount(kept + between), largest_tensors(graph)),
                remedy(graph, between, there_is - kept));
}

}  // namespace

MemoryRoom machine_room() { return {.bytes = machine_memory(), .owner = "this machine"}; }

void check_step_fits(const Graph& graph, ValueMemory values, const MemoryRoom& room) {
  const ValueMap<bool> kept = kept_all_the_time(graph);
  const double between =
      values == ValueMemory::shared ? peak_between_nodes(graph, kept) : sum_of(graph, kept, /*which=*/false);
  check_fits(graph, bytes_kept(graph, kept, room), between, room);
}

void check_step_fits(const Graph& graph, std::size_t arena_bytes, const MemoryRoom& room) {
  check_fits(graph, bytes_kept(graph, kept_all_the_time(graph), room), static_cast<double>(arena_bytes), room);
}

void throw_too_little(const Graph& graph, std::size_t arena_bytes, const TooLittleMemory& left,
                      const MemoryRoom& room) {
  const auto between = static_cast<double>(arena_bytes), free = static_cast<double>(left.free());
  const char* what = arena_bytes > 0 ? "values between its nodes" : "states and constants";
  throw_failure(
      fmt::format("a step that fits into the {} of memory of {}", amount(static_cast<double>(room.bytes)), room.owner),
      fmt::format("{} free when memory for the {}{} was asked for; {}", amount(free), what,
                  arena_bytes > 0 ? fmt::format(", {},", amount(between)) : "", largest_tensors(graph)),
      remedy(graph, between, arena_bytes > 0 ? free : 0) +
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
  constexpr double kTight = 1.01;  // of what no arena can do without
  const double least = static_cast<double>(most_at_once(lifetimes));
  std::vector<std::size_t> order(lifetimes.size());
  Arena best;
  for (const Weight weight : kWeights) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return weight(lifetimes[a]) > weight(lifetimes[b]); });
    Arena arena = place_in_order(lifetimes, order);
    if (best.offsets.empty() || arena.bytes < best.bytes) best = std::move(arena);
    if (static_cast<double>(best.bytes) <= kTight * least) break;
  }
  return best;
}

}  // namespace halfstep
