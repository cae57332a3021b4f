#include "executors/onednn/tuning.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <limits>
#include <optional>
#include <utility>

namespace halfstep::onednn {
namespace {

thread_local Tuner* present = nullptr;

/// A slower candidate could win by chance; the first is left for what is not one.
constexpr double kClearly = 0.97;

double seconds_of(const core::Run& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

constexpr double kNever = std::numeric_limits<double>::infinity();

/// Nothing where the candidate cannot.
core::Run prepared(const Candidate& candidate) try { return candidate.prepare(); } catch (const std::exception&) {
  return {};
}

/// The best time of each of two, in turns: what else the machine does meets both. One that fails takes forever.
std::array<double, 2> best_times(core::Run& first, core::Run& second, Tuning tuning) {
  const bool is_full = tuning == Tuning::full;
  const double budget = is_full ? 0.2 : 0.04;  // seconds
  const int least = is_full ? 5 : 3, most = is_full ? 200 : 50;
  const std::array<core::Run*, 2> runs{&first, &second};
  std::array<double, 2> best{kNever, kNever};
  double spent = 0;
  for (int round = 0; round <= most; ++round) {  // the first one warms up
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (!*runs[i]) continue;
      try {
        const double seconds = seconds_of(*runs[i]);
        spent += seconds;
        if (round > 0) best[i] = std::min(best[i], seconds);
      } catch (const std::exception&) {
        *runs[i] = nullptr;
        best[i] = kNever;
      }
    }
    if (round >= least && spent > budget) break;
  }
  return best;
}

std::optional<std::size_t> index_of(const std::vector<Candidate>& candidates, const std::string& name) {
  const auto found = std::ranges::find(candidates, name, &Candidate::name);
  if (found == candidates.end()) return std::nullopt;
  return static_cast<std::size_t>(found - candidates.begin());
}

}  // namespace

Tuner::Tuner(Tuning tuning, std::string machine, std::filesystem::path file)
    : tuning_(tuning), choices_(std::move(file), std::move(machine)) {}

std::size_t Tuner::choose(const std::string& key, const std::vector<Candidate>& candidates) {
  if (candidates.size() < 2) return 0;
  if (const std::string* known = choices_.find(key))
    if (const auto index = index_of(candidates, *known)) return *index;
  std::size_t index = 0;
  double least = kClearly;  // of the time of the base
  core::Run base_run = prepared(candidates[0]);
  for (std::size_t i = 1; i < candidates.size(); ++i) {
    core::Run run = prepared(candidates[i]);
    const auto [base_time, time] = best_times(base_run, run, tuning_);
    if (time == kNever) continue;
    if (base_time == kNever) {  // a later one than a faster candidate becomes the base without being chosen
      if (index == 0) index = i;
      least = kClearly;
      base_run = std::move(run);
    } else if (time / base_time < least) {
      index = i;
      least = time / base_time;
    }
  }
  choices_.set(key, candidates[index].name);
  return index;
}

bool Tuner::takes_second(const std::string& key, Candidate first, Candidate second, bool by_rules) {
  std::vector<Candidate> both{std::move(first), std::move(second)};
  if (by_rules) std::swap(both[0], both[1]);
  return (choose(key, both) == 0) == by_rules;
}

Tuner* tuner() { return present; }

TunerScope::TunerScope(Tuner* tuner) : before_(present) { present = tuner; }
TunerScope::~TunerScope() { present = before_; }

}  // namespace halfstep::onednn
