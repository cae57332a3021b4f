#include "graph/error.h"
#include "passes/parameter_choice.h"
#include "passes/passes.h"

namespace halfstep {

Pass select_parameters(ParameterSelection selection) {
  return {
      "select_parameters", [selection = std::move(selection)](Graph& graph) {
        std::string frozen;
        bool any = false;
        for (const ParameterChoice& choice : choose_parameters(graph, selection)) {
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
          throw_input_error("a parameter to train: a float initializer of rank 1 or more",
                            frozen.empty() ? "none in the model" : "all of them frozen (" + frozen + ")",
                            "export the model with its weights as initializers, or freeze less; halfstep inspect "
                            "--trainable lists what there is");
      }};
}

}  // namespace halfstep
