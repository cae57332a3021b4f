#include "passes/load/parameter_choice.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include "graph/abridged.h"
#include "passes/load/parameter_rules.h"
#include "passes/simplify/constant_values.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

// Patterns, and which of them matched something.
class Patterns {
 public:
  explicit Patterns(const std::vector<std::string>& patterns) : patterns_(patterns), used_(patterns.size()) {}

  bool empty() const { return patterns_.empty(); }
  /// The first pattern that matches, or nullptr; all that match count as used.
  const std::string* match(const std::string& name) {
    return find([&](const std::string& pattern) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
  }
  /// The same of patterns that are the name itself.
  bool name(const std::string& name) {
    return find([&](const std::string& pattern) { return pattern == name; }) != nullptr;
  }

  void require_used(const std::vector<std::string>& names) const {
    for (std::size_t i = 0; i < patterns_.size(); ++i)
      if (!used_[i])
        throw_input_error(fmt::format("a pattern that matches a parameter ({})", abridged(names)),
                          "'" + patterns_[i] + "'", "see halfstep inspect --parameters");
  }

 private:
  template <class Matches>
  const std::string* find(const Matches& matches) {
    const std::string* first = nullptr;
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
      if (!matches(patterns_[i])) continue;
      used_[i] = true;
      if (!first) first = &patterns_[i];
    }
    return first;
  }

  const std::vector<std::string>& patterns_;
  std::vector<bool> used_;
};

std::string are(const std::vector<std::string>& names) { return abridged(names) + (names.size() > 1 ? " are" : " is"); }

// The graph with every type that can be told before shapes are bound.
Graph with_types(Graph graph) {
  infer_graph(graph);
  return graph;
}

}  // namespace

std::vector<ParameterChoice> choose_parameters(const Graph& graph, const ParameterSelection& selection) {
  const Graph typed = with_types(graph);
  const ModelFacts model(typed, selection.exporter);
  const ValueMap<Verdict> verdicts = judge_constants(model);
  Patterns freeze(selection.freeze), trainable(selection.trainable);
  std::vector<ParameterChoice> choices;
  std::vector<std::string> parameters;
  for (const ValueId id : typed.values.ids()) {
    const Value& value = typed[id];
    // Nothing gives it: a constant, perhaps one that nobody reads any more.
    const bool is_given = model.producer(id) || typed.is_input(id);
    const std::string* frozen = is_given ? nullptr : freeze.match(value.name);
    if (!value.is_constant() || !is_float(value.dtype) || !typed.is_read(id)) continue;
    const Verdict& verdict = verdicts[id];
    const bool named = trainable.name(value.name);
    ParameterChoice choice{.value = id,
                           .is_parameter = verdict.is_parameter,
                           .reason = verdict.reason,
                           .is_guess = verdict.is_guess && !named,
                           .leading = named ? 0 : verdict.leading,
                           .uses = {model.uses(id).begin(), model.uses(id).end()}};
    if (choice.is_parameter) {
      parameters.push_back(value.name);
      choice.maybe_merged = choice.uses.size() > 1 && value.constant.count() > 0 && all_equal(value.constant);
      if (frozen)
        choice.reason = fmt::format("frozen by '{}'", *frozen);
      else if (!trainable.empty() && !trainable.match(value.name))
        choice.reason = "not among those chosen to be trained";
    } else if (named) {
      choice.reason = frozen ? fmt::format("frozen by '{}'", *frozen) : "";
    }
    choice.trained = choice.reason.empty();
    choice.is_guess = choice.is_guess && !frozen && choice.trained == choice.is_parameter;
    choices.push_back(std::move(choice));
  }
  freeze.require_used(parameters);
  trainable.require_used(parameters);
  return choices;
}

std::string guesses_of(const Graph& graph, const std::vector<ParameterChoice>& choices) {
  std::vector<std::string> trained, leading, left;
  for (const ParameterChoice& choice : choices) {
    if (!choice.is_guess) continue;
    const std::string name = fmt::format("'{}'", graph[choice.value].name);
    if (choice.trained)
      (choice.leading > 0 ? leading : trained).push_back(name);
    else
      left.push_back(fmt::format("{} ({})", name, choice.reason));
  }
  std::vector<std::string> parts;
  if (!trained.empty()) parts.push_back(fmt::format("{} trained, --freeze NAME excludes one", are(trained)));
  if (!leading.empty())
    parts.push_back(fmt::format(
        "of {} only the first half is trained, as the only bias of a layer, --trainable '*,NAME' trains all",
        abridged(leading)));
  if (!left.empty()) parts.push_back(fmt::format("{} not trained, --trainable '*,NAME' trains one", are(left)));
  return parts.empty() ? "" : fmt::format("guessed from names and uses: {}", fmt::join(parts, "; "));
}

std::vector<std::string> choose_untied(const Graph& model, const std::vector<std::string>& patterns,
                                       Exporter exporter) {
  std::vector<std::string> globs = patterns;
  std::replace(globs.begin(), globs.end(), std::string("all"), std::string("*"));
  Patterns chosen(globs);
  std::vector<std::string> untied, candidates;
  const Graph graph = run_pipeline(model, {separate_merged_parameters()});
  for (const ParameterChoice& choice : choose_parameters(graph, {.exporter = exporter})) {
    const std::string& name = graph[choice.value].name;
    const ValueId source = model.find(name);
    if (choice.uses.size() < 2 || !model[source].is_constant()) continue;
    if (choice.maybe_merged) candidates.push_back(name);
    const bool may_be_named = choice.is_parameter || model[source].is_initializer;
    const bool matches = choice.maybe_merged ? chosen.match(name) != nullptr : may_be_named && chosen.name(name);
    if (matches) untied.push_back(name);
  }
  // "all" of none is none.
  if (!(candidates.empty() && patterns == std::vector<std::string>{"all"})) chosen.require_used(candidates);
  return untied;
}

}  // namespace halfstep
