#include <fmt/format.h>

#include "graph/error.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

Shape bound_shape(const Value& input, const InputShapes& shapes) {
  Shape shape = input.shape;
  if (auto it = shapes.by_name.find(input.name); it != shapes.by_name.end()) {
    const Shape& given = it->second;
    bool fits = !shape.is_ranked() || shape.rank() == given.rank();
    for (std::size_t axis = 0; fits && shape.is_ranked() && axis < shape.rank(); ++axis)
      fits = shape[axis] == Shape::kUnknown || shape[axis] == given[axis];
    if (!fits)
      throw_input_error(fmt::format("input '{}' of shape {}, as the model says", input.name, shape.to_string()),
                        given.to_string(),
                        "give data of the model's shape, or export the model with that dimension dynamic");
    return given;
  }
  if (shape.is_ranked() && shape.rank() > 0 && shape[0] == Shape::kUnknown && shapes.batch != Shape::kUnknown)
    shape[0] = shapes.batch;
  if (!shape.is_static())
    throw_input_error(fmt::format("every extent of input '{}'", input.name), shape.to_string(),
                      "give the shape of this input");
  return shape;
}

}  // namespace

Pass bind_shapes(InputShapes shapes) {
  return {"bind_shapes", [shapes = std::move(shapes)](Graph& graph) {
            for (const auto& [name, shape] : shapes.by_name) {
              const ValueId id = graph.find(name);
              if (id == kNoValue || !graph.is_input(id)) {
                std::string known;
                for (ValueId in : graph.inputs) known += (known.empty() ? "" : ", ") + graph[in].name;
                throw_input_error("the name of a model input (" + known + ")", "'" + name + "'",
                                  "check the input's name");
              }
            }
            for (ValueId in : graph.inputs) graph[in].shape = bound_shape(graph[in], shapes);
            // What follows from the inputs is inferred by fold_constants, which knows the values shapes are made of.
          }};
}

}  // namespace halfstep
