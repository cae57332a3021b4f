#include "python/src/model.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "onnx_io/outline.h"
#include "python/src/tensors.h"
#include "session/tensor_types.h"
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/passes.h>
#include <halfstep/training/example_data.h>

namespace halfstep::python {
namespace {

/// Plug-ins may define operators, so they are loaded before a model is read.
void load_plugins() { make_executor("reference", {}); }

}  // namespace

nb::dict describe(const Graph& graph) {
  nb::dict result;
  result["inputs"] = infos_from(types_of(graph, graph.inputs));
  result["outputs"] = infos_from(types_of(graph, graph.outputs));
  const ModelOutline outline = outline_of(graph);
  nb::dict operators, initializers;
  for (const auto& [op, count] : outline.operators) operators[text(op)] = count;
  result["operators"] = operators;
  initializers["tensors"] = outline.tensors;
  initializers["elements"] = outline.elements;
  result["initializers"] = initializers;
  return result;
}

nb::dict describe(const Plan& plan) {
  nb::dict result;
  result["arena_bytes"] = plan.arena_bytes;
  result["state_bytes"] = plan.state_bytes;
  nb::list notes, nodes;
  for (const std::string& note : plan.notes) notes.append(text(note));
  for (const PlanEntry& entry : plan.entries) {
    nb::dict node;
    node["node"] = text(entry.node);
    node["op"] = text(entry.op);
    node["kernel"] = text(entry.kernel);
    node["reason"] = text(entry.reason);
    node["scratch_bytes"] = entry.scratch_bytes;
    nodes.append(node);
  }
  result["notes"] = notes;
  result["nodes"] = nodes;
  return result;
}

void bind_model(nb::module_& m) {
  nb::class_<LoadedModel>(m, "LoadedModel", "A loaded model. It is immutable.")
      .def_static(
          "open",
          [](const std::filesystem::path& path) {
            const nb::gil_scoped_release unlocked;
            load_plugins();
            return load_model(path);
          },
          "path"_a)
      .def_static(
          "from_bytes",
          [](const nb::bytes& bytes, const std::filesystem::path& folder) {
            const std::string_view view(bytes.c_str(), bytes.size());
            const nb::gil_scoped_release unlocked;
            load_plugins();
            return load_model_from_bytes(view, folder);
          },
          "data"_a, "folder"_a)
      .def_static(
          "parse",
          [](const std::string& model) {
            const nb::gil_scoped_release unlocked;
            load_plugins();
            return parse_model(model);
          },
          "text"_a)
      .def_prop_ro("inputs",
                   [](const LoadedModel& model) { return infos_from(types_of(model.graph, model.graph.inputs)); })
      .def_prop_ro("outputs",
                   [](const LoadedModel& model) { return infos_from(types_of(model.graph, model.graph.outputs)); })
      .def("describe", [](const LoadedModel& model) { return describe(model.graph); })
      .def(
          "fixed_batch",
          [](const LoadedModel& model) -> nb::object {
            const nb::object none = nb::none();
            const std::int64_t batch = fixed_batch(model.graph);
            return batch == Shape::kUnknown || batch_obstacle(model.graph).empty() ? none : nb::cast(batch);
          },
          "The batch size that the model was exported for, or None if it takes others.")
      .def(
          "with_values",
          [](const LoadedModel& model, const nb::dict& values) {
            const NamedTensors given = tensors_from(values, "values");
            const nb::gil_scoped_release unlocked;
            return load_model_from_bytes(trained_model_bytes(*model.source, given, OutputForm::training));
          },
          "values"_a, "The model with these values of parameters and statistics, otherwise as it was read.")
      .def(
          "example",
          [](const LoadedModel& model, const std::map<std::string, std::vector<std::int64_t>>& shapes,
             std::int64_t batch, const std::optional<std::string>& loss, bool labels) {
            InputShapes wanted{.by_name = {}, .batch = batch};
            for (const auto& [name, dims] : shapes) wanted.by_name.emplace(name, Shape(dims));
            return arrays_from(unlocked([&] {
              NamedTensors tensors = example_inputs(model.graph, wanted);
              if (labels)
                if (auto made = example_labels(model.graph, wanted, {}, loss))
                  tensors.emplace("labels", *std::move(made));
              return tensors;
            }));
          },
          "shapes"_a, "batch"_a, "loss"_a, "labels"_a, "Example inputs and labels for the model.")
      .def(
          "to_bytes",
          [](const LoadedModel& model, const nb::dict& parameters) {
            const NamedTensors given = tensors_from(parameters, "parameters");
            const std::string data = unlocked([&] { return trained_model_bytes(*model.source, given); });
            return nb::bytes(data.data(), data.size());
          },
          "parameters"_a);
}

}  // namespace halfstep::python
