#include "training/automatic_precision.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <memory>
#include <sstream>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/machine_memory.h"
#include "distributed/gather.h"
#include "executors/core/choices.h"
#include "passes/step/step_values.h"
#include "training/fingerprint.h"
#include "training/memory_budget.h"
#include <halfstep/base/error.h>
#include <halfstep/training/example_data.h>

namespace halfstep {
namespace {

/// A slower type could win by chance.
constexpr double kClearly = 0.97;
constexpr double kBudget = 0.15;  // seconds of measuring a type in a round
/// Types take turns: what else runs on the machine for a moment does not fall on one of them alone.
constexpr int kRounds = 2;
constexpr int kLeastRuns = 2;
constexpr std::array kTypes{DType::f32, DType::bf16, DType::f16};

struct Timed {
  DType dtype = DType::f32;
  std::optional<double> seconds = {};  ///< of a step; none: it failed
};

/// In place of the seconds, in what is kept.
constexpr std::string_view kFailed = "failed";

/// A batch of the shapes of a step's inputs. Labels of 0 suit every loss.
struct MadeUpBatch {
  explicit MadeUpBatch(const Graph& graph) {
    const StepValues step(graph);
    NamedTensors inputs = example_inputs(graph, {});
    for (const ValueId id : step.data) x.push_back(std::move(inputs.at(graph[id].name)));
    for (const ValueId id : step.labels) labels.emplace_back(graph[id].dtype, graph[id].shape);
    for (const ValueId id : step.sample_weights) {
      weights.emplace_back(graph[id].dtype, graph[id].shape);
      std::ranges::fill(weights.back().span<float>(), 1.0f);
    }
  }
  std::vector<Tensor> x, labels, weights;
};

/// The best of several runs.
double seconds_of_step(const Graph& graph, Executor& executor, std::size_t memory_budget) {
  using Clock = std::chrono::steady_clock;
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<StepProgram> program = compile_within(memory_budget, graph, executor, *store);
  const MadeUpBatch batch(graph);
  const StepFeed feed{.x = batch.x, .labels = batch.labels, .sample_weights = batch.weights, .learning_rate = 0};
  program->run(feed);  // warms up
  double best = std::numeric_limits<double>::infinity(), spent = 0;
  for (int runs = 0; runs < kLeastRuns || spent < kBudget; ++runs) {
    const Clock::time_point begin = Clock::now();
    program->run(feed);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    spent += seconds;
    best = std::min(best, seconds);
  }
  return best;
}

std::string text_of(const std::vector<Timed>& times) {
  std::vector<std::string> parts;
  for (const Timed& timed : times)
    parts.push_back(fmt::format("{} {}", precision_name(timed.dtype),
                                timed.seconds ? fmt::format("{:.6g}", *timed.seconds) : std::string(kFailed)));
  return fmt::format("{}", fmt::join(parts, " "));
}

/// Nothing where the text is no such list.
std::vector<Timed> times_from(const std::string& text) {
  std::istringstream in(text);
  std::vector<Timed> times;
  for (std::string name, value; in >> name;) {
    Timed timed;
    const auto is_named = [&](DType dtype) { return precision_name(dtype) == name; };
    const auto dtype = std::ranges::find_if(kTypes, is_named);
    if (dtype == kTypes.end() || !(in >> value)) return {};
    timed.dtype = *dtype;
    if (value != kFailed) {
      double seconds = 0;
      const char* const end = value.data() + value.size();
      if (std::from_chars(value.data(), end, seconds).ptr != end || !(seconds > 0)) return {};
      timed.seconds = seconds;
    }
    times.push_back(timed);
  }
  return times;
}

/// Those of `types` that did not fail, in that order.
std::vector<Timed> times_of(const std::vector<DType>& types, const std::vector<Timed>& times) {
  std::vector<Timed> result;
  for (const DType dtype : types) {
    const auto at = std::ranges::find(times, dtype, &Timed::dtype);
    if (at != times.end() && at->seconds) result.push_back(*at);
  }
  return result;
}

std::string milliseconds(double seconds) {
  const double ms = seconds * 1e3;
  return ms < 100 ? fmt::format("{:.3g}", ms) : fmt::format("{:.0f}", ms);
}

ChosenPrecision fastest(const std::vector<Timed>& times) {
  Timed taken = times.front();
  for (const Timed& timed : times)
    if (*timed.seconds < kClearly * *taken.seconds) taken = timed;
  std::vector<std::string> others;
  std::string_view other;
  for (const Timed& timed : times) {
    if (timed.dtype == taken.dtype) continue;
    const std::string why =
        *timed.seconds < *taken.seconds ? fmt::format(" (taken only if {:.0f} % faster)", 100 * (1 - kClearly)) : "";
    others.push_back(fmt::format("{} in {}{}", milliseconds(*timed.seconds), precision_name(timed.dtype), why));
    if (other.empty()) other = precision_name(timed.dtype);
  }
  return {taken.dtype,
          fmt::format("measured {} ms a step against {}; --precision {} changes it", milliseconds(*taken.seconds),
                      fmt::join(others, " and "), other),
          true};
}

/// Nothing where the step cannot have that type, which is then no candidate.
std::optional<Graph> lowered(DType dtype, const std::function<Graph(DType)>& lower) {
  try {
    return lower(dtype);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

/// In the first type that the step can have; removes those before it.
std::optional<Graph> lowered_first(std::vector<DType>& types, const std::function<Graph(DType)>& lower) {
  while (!types.empty()) {
    if (std::optional<Graph> graph = lowered(types.front(), lower)) return graph;
    types.erase(types.begin());
  }
  return std::nullopt;
}

struct Unmeasured {
  DType dtype;
  Graph graph;
};

/// The steps of those types whose time is not known. Removes the types that a step cannot have.
std::vector<Unmeasured> unmeasured_of(std::vector<DType>& types, const std::vector<Timed>& known, const Graph& first,
                                      const std::function<Graph(DType)>& lower) {
  std::vector<Unmeasured> steps;
  std::erase_if(types, [&, front = types.front()](DType dtype) {
    if (std::ranges::find(known, dtype, &Timed::dtype) != known.end()) return false;
    std::optional<Graph> graph = dtype == front ? first : lowered(dtype, lower);
    if (graph) steps.push_back({dtype, *std::move(graph)});
    return !graph;
  });
  return steps;
}

/// nullptr where fixed rules choose.
core::Choices* choices_of(Executor& executor) {
  auto* keeps = dynamic_cast<core::KeepsChoices*>(&executor);
  return keeps ? keeps->choices() : nullptr;
}

}  // namespace

std::vector<DType> native_precisions(const Capabilities& capabilities) {
  std::vector<DType> result{DType::f32};
  for (const DType dtype : kTypes)
    if (is_half(dtype) && capabilities.is_native(OpClass::matmul, dtype)) result.push_back(dtype);
  return result;
}

bool measures_precision(Executor& executor) { return choices_of(executor) != nullptr; }

std::optional<ChosenPrecision> measured_precision(Executor& executor, const std::vector<DType>& candidates,
                                                  std::size_t memory_budget, std::size_t held,
                                                  const std::function<Graph(DType)>& lower) {
  core::Choices* const choices = choices_of(executor);
  if (!choices || candidates.size() < 2 || (memory_budget > 0 && held >= memory_budget)) return std::nullopt;
  const std::size_t room = memory_budget > 0 ? memory_budget - held : 0;
  std::vector<DType> types = candidates;
  const std::optional<Graph> first = lowered_first(types, lower);
  if (types.size() < 2) return std::nullopt;
  std::string key = fmt::format("precision of step {}", fingerprint_of_work(*first));
  if (room > 0) key += fmt::format(" in {} bytes", room);
  const auto kept = [&] {
    const std::string* text = choices->find(key);
    return text ? times_from(*text) : std::vector<Timed>();
  };
  std::vector<Timed> times = kept(), measured;
  const std::vector<Unmeasured> unmeasured = unmeasured_of(types, times, *first, lower);
  if (types.size() < 2) return std::nullopt;
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& [dtype, graph] : unmeasured) {
      const auto before = std::ranges::find(measured, dtype, &Timed::dtype);
      if (round > 0 && (before == measured.end() || !before->seconds)) continue;  // it failed
      try {
        const double seconds = seconds_of_step(graph, executor, room);
        if (round == 0)
          measured.push_back({dtype, seconds});
        else
          before->seconds = std::min(*before->seconds, seconds);
      } catch (const Error& error) {
        // It would fail again.
        if (round == 0 && error.kind() == Error::Kind::input) measured.push_back({dtype, std::nullopt});
      } catch (const std::exception&) {  // such as memory that others took
      }
      return_free_memory();
    }
  }
  if (!measured.empty()) {
    times.insert(times.end(), measured.begin(), measured.end());
    choices->set(key, text_of(times));
    choices->save();
  }
  std::vector<Timed> found = times_of(types, times);
  // Another process may have measured in the meantime.
  if (std::vector<Timed> now = times_of(types, kept()); now.size() >= found.size()) found = std::move(now);
  return found.size() > 1 ? std::optional(fastest(found)) : std::nullopt;
}

ChosenPrecision agreed_precision(Communicator* ranks, const std::function<ChosenPrecision()>& decide) {
  if (!ranks) return decide();
  nlohmann::json own;
  if (ranks->rank() == 0) {
    const ChosenPrecision chosen = decide();
    own = {{"precision", precision_name(chosen.dtype)}, {"reason", chosen.reason}, {"measured", chosen.is_measured}};
  }
  const nlohmann::json first = nlohmann::json::parse(gather(*ranks, own.dump()).front());
  return {resolve(parse_precision(first.at("precision").get<std::string>()), {}), first.at("reason").get<std::string>(),
          first.at("measured").get<bool>()};
}

}  // namespace halfstep
