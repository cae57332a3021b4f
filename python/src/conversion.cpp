#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python/src/bindings.h"
#include "python/src/model.h"
#include "python/src/options.h"
#include "python/src/tensors.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/calibrate.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/executors/registry.h>

namespace halfstep::python {
namespace {

/// A conversion, and its report including the measured errors.
struct Converted {
  Conversion conversion;
  ConversionReport report;
};

/// The inputs of a model, converted to its types.
NamedTensors as_inputs(const Graph& graph, NamedTensors given) {
  NamedTensors inputs;
  for (const ValueId id : graph.inputs) {
    const auto at = given.find(graph[id].name);
    if (at == given.end())
      throw_input_error("an array for each input of the model", "none for '" + graph[id].name + "'", "add it");
    inputs[at->first] = as_type(at->second, graph[id].dtype, at->first);
    given.erase(at);
  }
  if (!given.empty())
    throw_input_error("names of inputs of the model", "'" + given.begin()->first + "'", "check the name");
  return inputs;
}

ConvertOptions options_from(const std::string& precision, bool keep_io_types, std::vector<std::string> keep_io_names,
                            const std::string& keep_f32, const std::string& force_half, bool keep_functions,
                            bool keep_metadata) {
  if (precision != "fp16" && precision != "bf16")
    throw_input_error("a precision of the conversion: fp16 or bf16", "'" + precision + "'", "");
  ConvertOptions options;
  options.half = precision == "bf16" ? DType::bf16 : DType::f16;
  options.keep_io_types = keep_io_types;
  options.keep_io_names = std::move(keep_io_names);
  if (!keep_f32.empty()) options.keep_f32 = parse_node_patterns(keep_f32);
  if (!force_half.empty()) options.force_half = parse_node_patterns(force_half);
  options.keep_functions = keep_functions;
  options.keep_metadata = keep_metadata;
  return options;
}

/// An interrupt by the user ends the search early with a KeyboardInterrupt.
Conversion search(const ModelFile& model, const ConvertOptions& options, const NamedTensors& inputs, Executor& executor,
                  double max_error) {
  std::atomic<bool> stop = false;
  SearchOptions search{.max_error = max_error, .stop = &stop};
  search.on_trial = [&](int, int, int, double) {
    const nb::gil_scoped_acquire lock;
    if (!stop && PyErr_CheckSignals() != 0) stop = true;
  };
  Conversion found = [&] {
    const nb::gil_scoped_release unlocked;
    return search_precision(model, options, inputs, executor, search).conversion;
  }();
  if (stop) throw nb::python_error();
  return found;
}

Converted convert_model(const ModelFile& file, const LoadedModel* loaded, const ConvertOptions& given,
                        const std::optional<nb::dict>& calibrate, const std::optional<nb::dict>& verify,
                        std::optional<double> max_error, const std::string& executor_name, const std::string& device) {
  ConvertOptions options = given;
  std::unique_ptr<Executor> executor;
  if (loaded) executor = make_executor(executor_name, {.device = device});
  NamedTensors inputs;
  if (calibrate) {
    inputs = as_inputs(loaded->graph, tensors_from(*calibrate, "calibrate"));
    const nb::gil_scoped_release unlocked;
    options.measured = measure_ranges(file, inputs, *executor);
  }
  Conversion conversion = max_error ? search(file, options, inputs, *executor, *max_error) : [&] {
    const nb::gil_scoped_release unlocked;
    return halfstep::convert(file, options);
  }();
  ConversionReport report = conversion.report();
  if (verify) {
    const NamedTensors data = as_inputs(loaded->graph, tensors_from(*verify, "verify"));
    const nb::gil_scoped_release unlocked;
    report.errors = compare_outputs(file, conversion, data, *executor);
  }
  return {std::move(conversion), std::move(report)};
}

}  // namespace

void bind_conversion(nb::module_& m) {
  nb::class_<ModelFile>(m, "ModelFile", "A model file.")
      .def_static("open", &ModelFile::open, "path"_a, nb::call_guard<nb::gil_scoped_release>())
      .def_static(
          "from_bytes",
          [](const nb::bytes& bytes) {
            const std::string_view view(bytes.c_str(), bytes.size());
            return unlocked([&] { return ModelFile::from_bytes(view); });
          },
          "data"_a);
  nb::class_<Converted>(m, "Converted", "A converted model.")
      .def("report_json", [](const Converted& c) { return report_json(c.report); })
      .def("report_html", [](const Converted& c) { return report_html(c.report); })
      .def("overflowing_outputs", [](const Converted& c) { return c.report.overflowing_outputs(); })
      .def("to_bytes",
           [](const Converted& c) {
             const std::string data = unlocked([&] { return c.conversion.bytes(); });
             return nb::bytes(data.data(), data.size());
           })
      .def(
          "save",
          [](Converted& c, const std::filesystem::path& path, const std::string& external_data) {
            const ExternalData external = external_data_of(external_data);
            const nb::gil_scoped_release unlocked;
            return c.report.bytes_after = c.conversion.save(path, external);
          },
          "path"_a, "external_data"_a, "Returns the total size of its files in bytes, which the report then has.");
  m.def(
      "convert",
      [](const ModelFile& file, const LoadedModel* loaded, const std::string& precision, bool keep_io_types,
         std::vector<std::string> keep_io_names, const std::string& keep_fp32, const std::string& force_half,
         bool keep_functions, bool keep_metadata, const std::optional<nb::dict>& calibrate,
         const std::optional<nb::dict>& verify, std::optional<double> max_error, const std::string& executor,
         const std::string& device) {
        return convert_model(file, loaded,
                             options_from(precision, keep_io_types, std::move(keep_io_names), keep_fp32, force_half,
                                          keep_functions, keep_metadata),
                             calibrate, verify, max_error, executor, device);
      },
      "file"_a, "loaded"_a.none(), nb::kw_only(), "precision"_a, "keep_io_types"_a, "keep_io_names"_a, "keep_fp32"_a,
      "force_half"_a, "keep_functions"_a, "keep_metadata"_a, "calibrate"_a.none(), "verify"_a.none(),
      "max_error"_a.none(), "executor"_a, "device"_a,
      "loaded is needed for calibrate and verify, calibrate for max_error.");
}

}  // namespace halfstep::python
