#include "executors/onednn/tuning.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

thread_local Tuner* present = nullptr;

/// A slower candidate could win by chance; the first is left for what is not one.
constexpr double kClearly = 0.97;

double seconds_of(const core::Run& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The best time of each, in turns: what else the machine does meets all of them. A candidate that fails takes forever.
std::vector<double> best_times(const std::vector<Candidate>& candidates, Tuning tuning) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const bool is_full = tuning == Tuning::full;
  const double budget = is_full ? 0.1 : 0.02;  // seconds for each candidate
  const int least = is_full ? 5 : 3, most = is_full ? 200 : 50;
  std::vector<core::Run> runs(candidates.size());
  std::vector<double> best(candidates.size(), kNever);
  double spent = 0;
  for (int round = 0; round <= most; ++round) {  // the first one warms up
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      try {
        if (round == 0) runs[i] = candidates[i].prepare();
        if (!runs[i]) continue;
        const double seconds = seconds_of(runs[i]);
        spent += seconds;
        if (round > 0) best[i] = std::min(best[i], seconds);
      } catch (const std::exception&) {
        runs[i] = nullptr;
        best[i] = kNever;
      }
    }
    if (round >= least && spent > budget * static_cast<double>(candidates.size())) break;
  }
  return best;
}

std::optional<std::size_t> index_of(const std::vector<Candidate>& candidates, const std::string& name) {
  const auto found = std::ranges::find(candidates, name, &Candidate::name);
  if (found == candidates.end()) return std::nullopt;
  return static_cast<std::size_t>(found - candidates.begin());
}

}  // namespace

Tuner::Tuner(Tuning tuning, std::string machine, fs::path file)
    : tuning_(tuning), machine_(std::move(machine)), file_(std::move(file)) {
  if (file_.empty()) notice_ = "there is no cache folder: set XDG_CACHE_HOME or HOME";
  if (const Choices known = read(); known.contains(machine_)) chosen_ = known.at(machine_);
}

Tuner::Choices Tuner::read() const try {
  Choices choices;
  if (std::error_code ignored; !fs::is_regular_file(file_, ignored)) return choices;
  std::ifstream in(file_, std::ios::binary);
  const Json json = Json::parse(std::string(std::istreambuf_iterator<char>(in), {}), nullptr, false);
  if (!json.is_object()) return choices;
  for (const auto& [machine, entries] : json.items()) {
    if (!entries.is_object()) continue;
    for (const auto& [key, name] : entries.items())
      if (name.is_string()) choices[machine][key] = name.get<std::string>();
  }
  return choices;
} catch (const std::exception&) {  // a disk that fails, a file that is larger than memory
  return {};
}

std::size_t Tuner::choose(const std::string& key, const std::vector<Candidate>& candidates) {
  if (candidates.size() < 2) return 0;
  if (const auto known = chosen_.find(key); known != chosen_.end())
    if (const auto index = index_of(candidates, known->second)) return *index;
  const std::vector<double> best = best_times(candidates, tuning_);
  const auto fastest = static_cast<std::size_t>(std::ranges::min_element(best) - best.begin());
  const std::size_t index = best[fastest] < kClearly * best[0] ? fastest : 0;
  chosen_[key] = candidates[index].name;
  new_.insert(key);
  return index;
}

void Tuner::save() {
  if (new_.empty() || file_.empty()) return;
  try {
    fs::create_directories(file_.parent_path());
    Choices all = read();
    std::map<std::string, std::string>& mine = all[machine_];
    for (const std::string& key : new_) mine[key] = chosen_.at(key);
    new_.clear();
    write_atomically(file_, Json(all).dump(1, ' ', false, Json::error_handler_t::replace) + "\n", Durability::soon);
    notice_.clear();
  } catch (const Error& e) {
    notice_ = e.without_hint();
  } catch (const fs::filesystem_error& e) {
    notice_ = fmt::format("{}: {}", file_.parent_path().string(), e.code().message());
  }
}

Tuner* tuner() { return present; }

TunerScope::TunerScope(Tuner* tuner) : before_(present) { present = tuner; }
TunerScope::~TunerScope() { present = before_; }

}  // namespace halfstep::onednn
