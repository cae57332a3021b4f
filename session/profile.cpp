#include <algorithm>
#include <chrono>

#include <halfstep/base/error.h>
#include <halfstep/session/profile.h>

namespace halfstep {
namespace {

constexpr std::string_view kGradient = ".grad/";

/// Best and mean time of this number of calls.
struct Timing {
  double best = 0, mean = 0;

  void add(double seconds, int count) {
    best = mean == 0 ? seconds : std::min(best, seconds);
    mean += seconds / count;
  }
};

Timing time_steps(Program& program, int steps) {
  using Clock = std::chrono::steady_clock;
  Timing timing;
  for (int i = 0; i < steps; ++i) {
    const auto start = Clock::now();
    program.run();
    timing.add(std::chrono::duration<double>(Clock::now() - start).count(), steps);
  }
  return timing;
}

/// The node of a plan entry, or the node that it was created for.
const std::string& node_of(const ProfileEntry& entry) {
  return entry.facts.made_for.empty() ? entry.plan.node : entry.facts.made_for;
}

std::string first_parts(const std::string& scope, std::size_t depth) {
  if (depth == 0) return scope;
  std::size_t end = 0;
  for (std::size_t i = 0; i < depth && end != std::string::npos; ++i) end = scope.find('/', end + 1);
  return scope.substr(0, end);
}

std::string name_of(const ProfileEntry& entry, ProfileBy by, std::size_t depth) {
  switch (by) {
    case ProfileBy::node:
      return entry.plan.node;
    case ProfileBy::operators:
      return entry.plan.op;
    case ProfileBy::scope:
      return first_parts(entry.scope, depth);
  }
  return {};
}

}  // namespace

std::string scope_of(std::string_view node) {
  node = node.substr(0, node.find(kGradient));
  const std::size_t last = node.rfind('/');
  return std::string(node.substr(0, last == std::string_view::npos ? 0 : last));
}

Profile profile(Program& program, Executor& executor, const ProfileOptions& options) {
  constexpr int kWarmUp = 3;
  if (options.steps < 1) throw_input_error("at least 1 step to time", std::to_string(options.steps), "");
  auto* timed = dynamic_cast<TimedProgram*>(&program);
  if (!timed)
    throw_failure("an executor that reports the times of nodes", std::string(executor.name()), "use another executor");
  Profile result{.executor = std::string(executor.name()), .peaks = {}};
  for (int i = 0; i < kWarmUp; ++i) program.run();
  const Timing whole = time_steps(program, options.steps);
  result.best = whole.best;
  result.mean = whole.mean;
  for (int i = 0; i < options.steps; ++i) result.executions.push_back(timed->run_timed());

  std::set<DType> types;
  for (const EntryFacts& facts : timed->facts()) types.insert(facts.computed);
  result.peaks = measure_peaks(executor, types);
  double all = 0;
  for (std::size_t i = 0; i < timed->facts().size(); ++i) {
    ProfileEntry& entry =
        result.entries.emplace_back(ProfileEntry{.plan = program.plan().entries[i], .facts = timed->facts()[i]});
    Timing timing;
    for (const std::vector<EntryTime>& execution : result.executions) timing.add(execution[i].seconds, options.steps);
    entry.best = timing.best;
    entry.mean = timing.mean;
    entry.scope = scope_of(node_of(entry));
    entry.backward = node_of(entry).find(kGradient) != std::string::npos;
    const auto peak = result.peaks.flops.find(entry.facts.computed);
    if (peak != result.peaks.flops.end() && entry.best > 0)  // a peak that a node exceeds was none
      peak->second = std::max(peak->second, entry.facts.cost.flops / entry.best);
    all += entry.best;
  }
  for (ProfileEntry& entry : result.entries) {
    entry.least = result.peaks.least(entry.facts.cost, entry.facts.computed);
    result.least += entry.least;
    entry.share = all > 0 ? entry.best / all : 0;
  }
  return result;
}

std::vector<ProfileRow> rows_of(const Profile& profile, ProfileBy by, std::size_t depth) {
  std::vector<ProfileRow> rows;
  std::map<std::string, std::size_t> places;  // by name
  for (const ProfileEntry& entry : profile.entries) {
    std::string name = name_of(entry, by, depth);
    // Each entry has its own row, even if others have the same name: a value may be converted more than once.
    const std::size_t place = by == ProfileBy::node ? rows.size() : places.try_emplace(name, rows.size()).first->second;
    if (place == rows.size()) rows.push_back({.name = std::move(name)});
    ProfileRow& row = rows[place];
    if (by == ProfileBy::node) {
      row.op = entry.plan.op;
      row.kernel = entry.plan.kernel;
    }
    ++row.entries;
    row.best += entry.best;
    row.mean += entry.mean;
    row.share += entry.share;
    row.least += entry.least;
    row.cost += entry.facts.cost;
  }
  std::ranges::stable_sort(rows, std::greater<>(), &ProfileRow::best);
  return rows;
}

}  // namespace halfstep
