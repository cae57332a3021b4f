// A profile as JSON, and as a trace.
#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/enum_names.h"
#include "base/printable.h"
#include <halfstep/session/profile.h>

namespace halfstep {
namespace {

using Json = nlohmann::ordered_json;

double in_us(double seconds) { return std::round(seconds * 1e9) / 1e3; }
/// The rate in units of 10^9 per second; 0 if no time was measured.
double rate(double amount, double seconds) { return seconds > 0 ? std::round(amount / seconds / 1e6) / 1e3 : 0; }

constexpr std::string_view kKinds[] = {"kernel", "reference", "fused", "view", "conversion"};
std::string_view name_of(EntryKind kind) { return name_in(kKinds, kind); }

/// The common members of entries and rows.
template <class Timed>
void add_numbers(Json& json, const Timed& timed, const Cost& cost) {
  json["us"] = in_us(timed.best);
  json["mean_us"] = in_us(timed.mean);
  json["share"] = timed.share;
  json["flops"] = cost.flops;
  json["bytes"] = cost.bytes;
  json["gflops_per_s"] = rate(cost.flops, timed.best);
  json["gbytes_per_s"] = rate(cost.bytes, timed.best);
  json["least_us"] = in_us(timed.least);
  json["over_least"] = timed.least > 0 ? std::round(timed.best / timed.least * 100) / 100 : 0;
}

Json json_of(const ProfileEntry& entry) {
  const auto& [kind, made_for, cost, computed] = entry.facts;
  Json json{{"node", entry.plan.node}, {"op", entry.plan.op}, {"kind", name_of(kind)}, {"kernel", entry.plan.kernel}};
  if (!entry.plan.reason.empty()) json["reason"] = entry.plan.reason;
  if (!made_for.empty()) json["made_for"] = made_for;
  json["scope"] = entry.scope;
  json["backward"] = entry.backward;
  if (computed != DType::undefined) json["type"] = halfstep::name_of(computed);
  add_numbers(json, entry, cost);
  return json;
}

Json json_of(const std::vector<ProfileRow>& rows, const char* name) {
  Json json = Json::array();
  for (const ProfileRow& row : rows) {
    Json& one = json.emplace_back(Json{{name, row.name}, {"entries", row.entries}});
    add_numbers(one, row, row.cost);
  }
  return json;
}

std::vector<std::string> parts_of(const std::string& scope) {
  std::vector<std::string> parts;
  for (std::size_t begin = scope.starts_with('/') ? 1 : 0; begin < scope.size();) {
    const std::size_t end = std::min(scope.find('/', begin), scope.size());
    if (end > begin) parts.push_back(scope.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// Slices of one thread, which viewers nest by their times.
class Trace {
 public:
  Trace(const Profile& profile) : profile_(profile) {
    name("process_name", "halfstep (" + profile.executor + ")");
    name("thread_name", "nodes");
    if (!profile.exchanges.empty()) name("thread_name", "all-reduces", kExchanges);
    for (const ProfileEntry& entry : profile.entries) {
      std::vector<std::string> parts = parts_of(entry.scope);
      if (entry.backward && !parts.empty()) parts.front() += " (backward)";
      scopes_.push_back(std::move(parts));
    }
    double start = 0;
    for (std::size_t i = 0; i < profile.executions.size(); ++i) start = add_step(i, start);
  }

  std::string text() const { return json_text(Json{{"displayTimeUnit", "ms"}, {"traceEvents", events_}}); }

 private:
  static constexpr int kNodes = 1, kExchanges = 2;  // threads

  void name(const char* what, const std::string& value, int thread = kNodes) {
    events_.push_back({{"name", what}, {"ph", "M"}, {"pid", 1}, {"tid", thread}, {"args", {{"name", value}}}});
  }

  Json& slice(const std::string& name, std::string_view category, double start, double seconds, int thread = kNodes) {
    events_.push_back({{"name", name},
                       {"cat", category},
                       {"ph", "X"},
                       {"pid", 1},
                       {"tid", thread},
                       {"ts", in_us(start)},
                       {"dur", in_us(seconds)}});
    return events_.back();
  }

  /// Start of the next slice.
  double add_step(std::size_t step, double start) {
    const std::vector<EntryTime>& times = profile_.executions[step];
    std::vector<std::size_t> ran;
    for (std::size_t i = 0; i < times.size(); ++i)
      if (times[i].seconds > 0) ran.push_back(i);
    if (ran.empty()) return start;
    slice("step " + std::to_string(step + 1), "step", start, end_of(times[ran.back()]));
    add_scopes(times, ran, 0, start);
    if (step < profile_.exchanges.size())
      for (const ExchangeTime& time : profile_.exchanges[step])
        slice("all-reduce", "exchange", start + time.start, time.seconds, kExchanges)["args"] = {{"bytes", time.bytes}};
    constexpr double kGap = 1e-5;
    return start + end_of(times[ran.back()]) + kGap;
  }

  /// Consecutive entries of the same scope form a slice, which contains the slices of the next part.
  void add_scopes(const std::vector<EntryTime>& times, std::span<const std::size_t> entries, std::size_t depth,
                  double start) {
    for (std::size_t first = 0, last = 0; first < entries.size(); first = last) {
      const std::vector<std::string>& parts = scopes_[entries[first]];
      last = first + 1;
      if (depth >= parts.size()) {
        add_entry(entries[first], times[entries[first]], start);
        continue;
      }
      while (last < entries.size() && scopes_[entries[last]].size() > depth &&
             scopes_[entries[last]][depth] == parts[depth])
        ++last;
      const double begin = times[entries[first]].start;
      slice(parts[depth], "scope", start + begin, end_of(times[entries[last - 1]]) - begin);
      add_scopes(times, entries.subspan(first, last - first), depth + 1, start);
    }
  }

  void add_entry(std::size_t index, const EntryTime& time, double start) {
    const ProfileEntry& entry = profile_.entries[index];
    slice(entry.plan.op, name_of(entry.facts.kind), start + time.start, time.seconds)["args"] = {
        {"node", entry.plan.node},
        {"kernel", entry.plan.kernel},
        {"flops", entry.facts.cost.flops},
        {"bytes", entry.facts.cost.bytes}};
  }

  static double end_of(const EntryTime& time) { return time.start + time.seconds; }

  const Profile& profile_;
  std::vector<std::vector<std::string>> scopes_;  // of each entry
  Json events_ = Json::array();
};

}  // namespace

std::string profile_json(const Profile& profile) {
  Json json{{"executor", profile.executor}};
  json["peaks"] = {{"gbytes_per_s", rate(profile.peaks.bytes, 1)},
                   {"gflops_per_s", Json::object()},
                   {"spread", std::round(profile.peaks.spread * 1e3) / 1e3}};
  for (const auto& [dtype, flops] : profile.peaks.flops)
    json["peaks"]["gflops_per_s"][std::string(halfstep::name_of(dtype))] = rate(flops, 1);
  json["step_us"] = in_us(profile.best);
  json["step_mean_us"] = in_us(profile.mean);
  json["least_us"] = in_us(profile.least);
  for (const ProfileEntry& entry : profile.entries) json["nodes"].push_back(json_of(entry));
  json["operators"] = json_of(rows_of(profile, ProfileBy::operators), "op");
  json["scopes"] = json_of(rows_of(profile, ProfileBy::scope), "scope");
  return json_text(json);
}

std::string trace_json(const Profile& profile) { return Trace(profile).text(); }

}  // namespace halfstep
