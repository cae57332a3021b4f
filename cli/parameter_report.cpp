#include "cli/parameter_report.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "cli/json_table.h"
#include "graph/abridged.h"
#include "onnx_io/declared.h"
#include "onnx_io/untie.h"
#include "ops/operand_name.h"
#include "passes/autodiff/gradient_flow.h"
#include "passes/load/free_batch.h"
#include "passes/load/parameter_choice.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

bool only_moves(const Node& node) { return keeps_elements(traits_of(node).movement); }

/// "B of MatMul 'fc', through Transpose": followed to a node that computes with the value.
std::string describe_use(const Graph& graph, Use use) {
  std::string through;
  for (const Node* node = &graph.nodes[use.node]; use.input == 0 && only_moves(*node); node = &graph.nodes[use.node]) {
    const std::span<const Use> readers = graph.users(node->outputs[0]);
    if (readers.empty()) break;
    through += (through.empty() ? ", through " : ", ") + node->op;
    use = readers[0];
  }
  const Node& node = graph.nodes[use.node];
  return fmt::format("{} of {} '{}'{}", operand_name(node, use.input), node.op, node.name, through);
}

Json describe(const Value& value) {
  return {{"name", value.name},
          {"type", name_of(value.dtype)},
          {"shape", shape_json(value.shape)},
          {"elements", value.constant.count()},
          {"stored_in", value.is_initializer ? "initializer" : "Constant"}};
}

/// The model in the form that is differentiated, as far as its shapes are known.
Graph training_form(const Graph& source, const ParameterSelection& selection, std::int64_t batch) {
  Pipeline chosen = repair_pipeline(Purpose::training);
  chosen.push_back(select_parameters(selection));
  Pipeline whole = chosen;
  whole.insert(whole.end(),
               {bind_shapes({.by_name = {}, .batch = batch}), fold_constants(), canonicalize(), to_training_mode()});
  try {
    return run_pipeline(source, whole);
  } catch (const Error&) {
    return run_pipeline(source, chosen);  // an extent other than the batch is unknown
  }
}

}  // namespace

Json parameter_report(const LoadedModel& model, ParameterSelection selection, std::int64_t batch) {
  selection.exporter = exporter_of(*model.source);
  const Graph graph = run_pipeline(model.graph, repair_pipeline(Purpose::training));
  Json json{{"parameters", Json::array()},
            {"not_trained", Json::array()},
            {"blocked_by", Json::array()},
            {"notes", exporter_notes(model)}};
  if (const std::string obstacle = batch_obstacle_in_training(model.graph); !obstacle.empty())
    json["notes"].push_back(fmt::format("the batch size is fixed ({})", obstacle));
  const std::vector<ParameterChoice> choices = choose_parameters(graph, selection);
  if (const std::string guesses = guesses_of(graph, choices); !guesses.empty()) json["notes"].push_back(guesses);
  bool any = false;
  for (const ParameterChoice& choice : choices) {
    const Value& value = graph[choice.value];
    Json& row = json[choice.trained ? "parameters" : "not_trained"].emplace_back(describe(value));
    if (const ValueId stored = model.graph.find(value.name); stored != kNoValue)
      row["type"] = name_of(model.graph[stored].dtype);
    any = any || choice.trained;
    if (choice.trained) {
      if (choice.leading > 0) row["elements"] = value.constant.count() / value.shape.dim(-1) * choice.leading;
      row["use"] = Json::array();
      for (const Use& use : choice.uses)
        row["use"].push_back(describe_use(graph, use) +
                             (choice.leading > 0 ? fmt::format(", its first {} columns", choice.leading) : ""));
    } else {
      row["reason"] = choice.reason;
    }
  }
  if (!any) return json;
  const Graph trained = training_form(model.graph, selection, batch);
  std::vector<std::size_t> blocking = blocking_nodes(trained);
  const std::vector<CutOff> cut_off = cut_off_parameters(trained, trained.outputs);
  for (const CutOff& parameter : cut_off)
    blocking.insert(blocking.end(), parameter.nodes.begin(), parameter.nodes.end());
  std::sort(blocking.begin(), blocking.end());
  blocking.erase(std::unique(blocking.begin(), blocking.end()), blocking.end());
  for (std::size_t i : blocking)
    json["blocked_by"].push_back({{"node", trained.nodes[i].name}, {"op", trained.nodes[i].op}});
  if (const std::string note = describe_cut_off(trained, cut_off); !note.empty()) json["notes"].push_back(note);
  return json;
}

std::vector<std::string> exporter_notes(const LoadedModel& model) {
  std::vector<std::string> notes;
  const Graph separated = run_pipeline(model.graph, {separate_merged_parameters()});
  const Graph graph = run_pipeline(separated, {undo_batch_expansion_for_training()});
  for (const ParameterChoice& choice : choose_parameters(graph, {.exporter = exporter_of(*model.source)})) {
    const Value& value = graph[choice.value];
    const Shape& before = separated[choice.value].shape;
    if (before != value.shape)
      notes.push_back(
          fmt::format("'{}' of shape {} is one row that the exporter expanded over the batch: it is trained "
                      "as {}",
                      value.name, before.to_string(), value.shape.to_string()));
    if (choice.is_parameter && choice.maybe_merged)
      notes.push_back(
          fmt::format("'{}' has {} readers and equal elements: probably parameters that the exporter merged, "
                      "which now train as one; --untie {} separates them",
                      value.name, choice.uses.size(), value.name));
  }
  std::vector<std::string> gone;
  for (const std::string& name : declared_parameters(*model.source))
    if (graph.find(name) == kNoValue || !graph[graph.find(name)].is_constant()) gone.push_back(name);
  if (!gone.empty())
    notes.push_back(
        fmt::format("{} of the module's parameters are not in the file under their names: the exporter "
                    "folded, merged or dropped them ({}); torch.onnx.export(…, optimize=False) keeps all but the "
                    "second name of a tied weight",
                    gone.size(), abridged(gone)));
  return notes;
}

LoadedModel untie_merged(LoadedModel model, const std::vector<std::string>& patterns) {
  const std::vector<std::string> names = choose_untied(model.graph, patterns, exporter_of(*model.source));
  return names.empty() ? std::move(model) : untie(model, names);
}

}  // namespace halfstep::cli
