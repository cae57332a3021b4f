// Peak rates of a machine, measured with two graphs that an executor compiles like any other.
#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include <unistd.h>

#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/session/profile.h>

namespace halfstep {
namespace {

struct Repeated {
  double best = 0, median = 0;  ///< 0: the executor does not report times
};

/// Times of the graph's last node, for this number of seconds.
Repeated times_of(Executor& executor, const Graph& graph, double seconds) {
  using Clock = std::chrono::steady_clock;
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  auto* timed = dynamic_cast<TimedProgram*>(program.get());
  if (!timed) return {};
  const std::string& node = graph.nodes.back().name;
  program->run();
  std::vector<double> all;
  const auto start = Clock::now();
  do {
    const std::vector<EntryTime> times = timed->run_timed();
    for (std::size_t i = 0; i < times.size(); ++i)
      if (timed->facts()[i].kind != EntryKind::conversion && program->plan().entries[i].node == node)
        all.push_back(times[i].seconds);
  } while (std::chrono::duration<double>(Clock::now() - start).count() < seconds);
  if (all.empty()) return {};
  std::ranges::sort(all);
  return {all.front(), all[all.size() / 2]};
}

/// An operation on two inputs. Conversions to the kernel's layout and type are separate entries and are not timed.
Graph operation(std::string_view op, DType dtype, const Shape& shape) {
  Graph graph;
  graph.opsets = {{"", kOnnxOpset}};
  Builder b(graph);
  const Expr left = b.expr(graph.add_input("", dtype, shape)), right = b.expr(graph.add_input("", dtype, shape));
  graph.outputs = {b.op(op, {left, right}).id()};
  return graph;
}

/// Size of one array in bytes: twice the largest cache, between 32 and 256 MiB.
std::int64_t beyond_caches() {
  constexpr long kLeast = 32L << 20, kMost = 256L << 20;
  return std::clamp(2 * sysconf(_SC_LEVEL3_CACHE_SIZE), kLeast, kMost);
}

}  // namespace

double MachinePeaks::least(const Cost& cost, DType computed) const {
  double rate = 0;
  if (const auto found = flops.find(computed); found != flops.end()) rate = found->second;
  if (const auto f32 = flops.find(DType::f32); rate == 0 && f32 != flops.end()) rate = f32->second;
  return std::max(rate > 0 ? cost.flops / rate : 0, bytes > 0 ? cost.bytes / bytes : 0);
}

MachinePeaks measure_peaks(Executor& executor, const std::set<DType>& types) {
  constexpr double kSeconds = 0.4;
  // Plain loops take seconds for such sizes, and are far from the limits of caches and memory.
  const bool plain = executor.name() == "reference";
  const std::int64_t side = plain ? 64 : 1024, bytes = plain ? 1 << 20 : beyond_caches();
  std::set<DType> measured{DType::f32};
  for (const DType dtype : types)
    if (is_half(dtype)) measured.insert(dtype);
  MachinePeaks peaks;
  const auto measured_by = [&](std::string_view op, DType dtype, const Shape& shape) {
    const Repeated times = times_of(executor, operation(op, dtype, shape), kSeconds);
    if (times.best > 0) peaks.spread = std::max(peaks.spread, times.median / times.best - 1);
    return times.best;
  };
  for (const DType dtype : measured) {
    const double best = measured_by("MatMul", dtype, {side, side});
    const auto n = static_cast<double>(side);
    if (best > 0) peaks.flops[dtype] = 2 * n * n * n / best;
  }
  const std::int64_t elements = bytes / static_cast<std::int64_t>(sizeof(float));
  const double best = measured_by("Add", DType::f32, {elements});
  if (best > 0) peaks.bytes = 3.0 * static_cast<double>(bytes) / best;
  return peaks;
}

}  // namespace halfstep
