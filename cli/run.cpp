// halfstep run: a model's outputs for given inputs.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "data/npz.h"
#include "data/row_transform.h"
#include "graph/atomic_file.h"
#include "graph/error.h"
#include "onnx_io/load.h"
#include "passes/pipelines.h"

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

struct RunFlags {
  std::string model, output;
  std::vector<std::string> inputs;
  ExecutorFlags executor;
  PrecisionFlag precision;
  DataFlags rows;
};

using Arrays = std::map<std::string, DataArray>;

std::vector<std::string> input_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const ValueId id : graph.inputs) names.push_back(graph[id].name);
  return names;
}

void add_array(Arrays& arrays, const std::string& name, DataArray array) {
  if (!arrays.emplace(name, std::move(array)).second)
    throw_input_error("each model input once", fmt::format("'{}' twice", name), "check --input");
}

/// One --input: NAME=FILE, FILE for the first input without one, or an .npz whose arrays are called as inputs are.
void add_input(Arrays& arrays, const std::vector<std::string>& names, const std::string& text) {
  const std::size_t equals = text.find('=');
  const bool named = equals != std::string::npos && !fs::exists(text);
  const fs::path path = named ? text.substr(equals + 1) : text;
  if (!fs::exists(path)) throw_input_error("a file of input", "nothing at " + path.string(), "check the path");
  const bool archive = path.extension() == ".npz";
  if (named) {
    const std::string name = text.substr(0, equals);
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw_input_error(fmt::format("one of the model's inputs ({})", fmt::join(names, ", ")),
                        fmt::format("'{}'", name), "check --input");
    return add_array(arrays, name, archive ? NpzFile(path).open(name) : open_array(path));
  }
  if (archive) {
    const NpzFile file(path);
    for (const std::string& name : names)
      if (file.contains(name)) add_array(arrays, name, file.open(name));
    return;
  }
  for (const std::string& name : names)
    if (!arrays.contains(name)) return add_array(arrays, name, open_array(path));
  throw_input_error(fmt::format("at most {} inputs ({})", names.size(), fmt::join(names, ", ")), text + " besides",
                    "check --input");
}

Arrays open_inputs(const std::vector<std::string>& names, const std::vector<std::string>& inputs) {
  Arrays arrays;
  for (const std::string& text : inputs) add_input(arrays, names, text);
  for (const std::string& name : names)
    if (!arrays.contains(name))
      throw_input_error(fmt::format("data for the model's input '{}'", name), "none",
                        fmt::format("--input {}=FILE.npy", name));
  return arrays;
}

/// The whole array in the type and shape the input wants; what the input leaves open comes from the array.
Tensor to_input(const DataArray& array, const Value& input, const InputOptions& options) {
  const bool same_rank = input.shape.is_ranked() && input.shape.rank() == array.shape().rank();
  if (array.dtype() == input.dtype && (same_rank || !input.shape.is_ranked())) return array.load();
  if (array.shape().rank() == 0 || !input.shape.is_ranked() || input.shape.rank() == 0)
    throw_input_error(
        fmt::format("{} {} for the input '{}'", name_of(input.dtype), input.shape.to_string(), input.name),
        fmt::format("{} {} in {}", name_of(array.dtype()), array.shape().to_string(), array.name()),
        "convert the array");
  const RowType wanted{input.dtype, Shape(std::vector<std::int64_t>(input.shape.begin() + 1, input.shape.end()))};
  const RowTransform transform = fit_input(array, wanted, options);
  std::vector<std::int64_t> shape{array.rows()};
  shape.insert(shape.end(), transform.to.shape.begin(), transform.to.shape.end());
  std::vector<std::int64_t> rows(static_cast<std::size_t>(array.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  Tensor result(transform.to.dtype, Shape(std::move(shape)));
  transform.apply(array.load().raw(), rows, result.raw());
  return result;
}

/// NPY has no bf16: such an output is written as f32, which holds the same values.
Tensor to_npy_type(const Tensor& tensor) {
  return tensor.dtype() == DType::bf16 ? convert(tensor, DType::f32) : tensor.clone();
}

void run(const RunFlags& flags) {
  LoadedModel model = load_model(flags.model);
  check_writable(flags.output);
  const std::vector<std::string> names = input_names(model.graph);
  const Arrays arrays = open_inputs(names, flags.inputs);
  std::map<std::string, Tensor> tensors;
  InputShapes shapes;
  for (const ValueId id : model.graph.inputs) {
    const Value& input = model.graph[id];
    Tensor tensor = to_input(arrays.at(input.name), input, flags.rows.input());
    shapes.by_name[input.name] = tensor.shape();
    tensors[input.name] = std::move(tensor);
  }
  std::vector<std::string> output_names;
  for (const ValueId id : model.graph.outputs) output_names.push_back(model.graph[id].name);

  const std::unique_ptr<Executor> executor = flags.executor.open();
  const DType precision = resolve(flags.precision.value(), executor->capabilities());
  const Graph graph =
      run_pipeline(std::move(model.graph), inference_pipeline(shapes, precision, executor->capabilities()));
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = executor->compile(graph, *store);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const Tensor& from = tensors.at(graph[graph.inputs[i]].name);
    Tensor to = program->input(i);
    std::memcpy(to.raw(), from.raw(), from.bytes());
  }
  program->run();
  std::vector<std::pair<std::string, Tensor>> outputs;
  for (std::size_t i = 0; i < output_names.size(); ++i)
    outputs.emplace_back(output_names[i], to_npy_type(program->output(i)));
  write_npz(flags.output, outputs);
  for (const auto& [name, tensor] : outputs)
    fmt::print("{}: {} {}\n", name, name_of(tensor.dtype()), tensor.shape().to_string());
}

}  // namespace

void add_run(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("run", "Runs a model on given inputs.");
  auto flags = std::make_shared<RunFlags>();
  add_model(*command, flags->model);
  command->add_option("--input", flags->inputs, "FILE.npy, NAME=FILE.npy, or an .npz with arrays of the inputs' names")
      ->required()
      ->allow_extra_args(false)
      ->type_name("[NAME=]FILE");
  command->add_option("-o,--output", flags->output, "all outputs under their names")->required()->type_name("OUT.npz");
  flags->rows.add_to(*command);
  flags->precision.add_to(*command);
  flags->executor.add_to(*command);
  command->callback([flags] { run(*flags); });
}

}  // namespace halfstep::cli
