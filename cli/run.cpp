// halfstep run: the outputs of a model for given inputs.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/model_inputs.h"
#include "cli/output_paths.h"
#include "cli/signals.h"
#include "formats/npz.h"
#include <halfstep/base/error.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/formats/npy.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/session/session.h>

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

struct RunFlags {
  std::string model, output, config;
  std::vector<std::string> inputs;
  ExecutorFlags executor;
  PrecisionFlag precision{"fp32"};
  DataFlags rows;
  BatchAxisFlag batch_axis;
  bool json = false;
};

/// Checks before any computation: NPY does not support strings, and an NPY file holds one array.
void check_outputs(const Graph& model, const fs::path& path) {
  if (path.extension() == ".npy" && model.outputs.size() != 1)
    throw_input_error("an .npz file for several outputs", path.string(),
                      "write -o " + fs::path(path).replace_extension(".npz").string());
  for (const ValueId id : model.outputs)
    if (model[id].dtype == DType::string)
      throw_input_error("numeric or boolean outputs, as NPZ files store",
                        fmt::format("strings in '{}'", model[id].name), "remove this output from the model");
}

/// NPY does not support bf16: such an output is written as f32, which represents the same values.
Tensor to_npy_type(const Tensor& tensor) {
  return tensor.dtype() == DType::bf16 ? convert(tensor, DType::f32) : tensor;
}

/// All outputs by name, or for an .npy file the only one as an array.
void write_outputs(const fs::path& path, const std::vector<std::pair<std::string, Tensor>>& outputs) {
  if (path.extension() == ".npy")
    write_npy(path, outputs.front().second);
  else
    write_npz(path, outputs);
}

/// A model may contain an infinite loop, which only the user can decide to stop.
NamedTensors run_until_signal(Session& session, const NamedTensors& inputs) {
  const EndOnSignal end("halfstep: interrupted while the model ran; nothing was written\n");
  return session.run(inputs);
}

void run(const RunFlags& flags) {
  const std::unique_ptr<Executor> executor = flags.executor.open();  // first, because a plug-in may define operators
  LoadedModel model = load_model(flags.model);
  Session session(std::move(model.graph), *executor,
                  {.precision = flags.precision.value(), .batch_axes = flags.batch_axis.value()});
  check_outputs(session.graph(), flags.output);
  check_writable(flags.output);
  std::vector<fs::path> read = input_files(flags.inputs);
  read.insert(read.end(), model.data_files.begin(), model.data_files.end());
  read.emplace_back(flags.model);
  if (!flags.config.empty()) read.emplace_back(flags.config);
  check_distinct({{"--output", flags.output}}, read);
  NamedTensors results = run_until_signal(session, read_inputs(session.graph(), flags.inputs, flags.rows.input()));
  std::vector<std::pair<std::string, Tensor>> outputs;
  for (const TensorInfo& type : session.outputs()) outputs.emplace_back(type.name, to_npy_type(results.at(type.name)));
  write_outputs(flags.output, outputs);
  if (!flags.json) {
    for (const auto& [name, tensor] : outputs)
      print_out("{}: {} {}\n", name, name_of(tensor.dtype()), tensor.shape().to_string());
    return;
  }
  nlohmann::ordered_json json{{"file", flags.output},
                              {"outputs", nlohmann::ordered_json::array()},
                              {"executor", executor->name()},
                              {"precision", precision_name(session.precision())}};
  for (const auto& [name, tensor] : outputs)
    json["outputs"].push_back({{"name", name}, {"type", name_of(tensor.dtype())}, {"shape", tensor.shape().dims()}});
  print_json(json);
}

}  // namespace

void add_run(CLI::App& app, int&) {
  CLI::App* command = add_command(app, "run", "Runs a model on given inputs and writes its outputs.");
  command->footer("Example:\n  halfstep run model.onnx --input x.npy -o out.npz");
  auto flags = std::make_shared<RunFlags>();
  add_model(*command, flags->model);
  command
      ->add_option("--input", flags->inputs,
                   "FILE.npy, NAME=FILE.npy, or an .npz with arrays named like the inputs; may be repeated")
      ->required()
      ->allow_extra_args(false)
      ->type_name("[NAME=]FILE");
  command->add_option("-o,--output", flags->output, "writes all outputs by name; OUT.npy: for a single output")
      ->required()
      ->type_name("OUT.npz")
      ->check(not_empty());
  flags->rows.add_input_to(*command);
  flags->batch_axis.add_to(*command);
  flags->precision.add_to(*command);
  flags->executor.add_to(*command);
  flags->executor.add_arithmetic_to(*command);
  command->add_flag("--json", flags->json, "prints the outputs' names, types and shapes as JSON");
  command->callback([flags, command] {
    flags->config = config_file_of(*command);
    run(*flags);
  });
}

}  // namespace halfstep::cli
