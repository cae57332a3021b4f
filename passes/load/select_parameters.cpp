#include "passes/load/parameter_choice.h"
#include "passes/load/recurrent_bias.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

void select(Graph& graph, const std::vector<ParameterChoice>& choices) {
  std::string frozen;
  bool any = false;
  for (const ParameterChoice& choice : choices) {
    if (choice.trained && choice.leading > 0) separate_leading(graph, choice.value, choice.leading);
    Value& value = graph[choice.value];
    if (choice.trained) {
      graph.states.push_back({.value = choice.value, .role = StateRole::parameter, .initial = value.constant});
      value.constant = Tensor();
      any = true;
    } else if (choice.is_parameter) {
      frozen += (frozen.empty() ? "" : ", ") + value.name;
    }
  }
  if (!any)
    throw_input_error("a parameter to train: an initializer, or a Constant node in the role of a weight",
                      frozen.empty() ? "none in the model" : "all of them frozen (" + frozen + ")",
                      frozen.empty() ? "name constants to train with --trainable; halfstep inspect --parameters "
                                       "lists those there are, and why they are not trained"
                                     : "freeze fewer; halfstep inspect --parameters lists the parameters");
}

}  // namespace

Pass select_parameters(ParameterSelection selection) {
  return {"select_parameters",
          [selection = std::move(selection)](Graph& graph) { select(graph, choose_parameters(graph, selection)); }};
}

Pass select_parameters(std::vector<ParameterChoice> choices) {
  return {"select_parameters", [choices = std::move(choices)](Graph& graph) { select(graph, choices); }};
}

}  // namespace halfstep
