// halfstep convert: a model's weights and computation in a half precision.
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "onnx_io/load.h"
#include "onnx_io/save.h"
#include "passes/pipelines.h"

namespace halfstep::cli {
namespace {

struct ConvertFlags {
  std::string model, output, precision;
  bool keep_io_types = false;
};

void convert(const ConvertFlags& flags) {
  LoadedModel model = load_model(flags.model);
  check_output_path(flags.output, file_bytes(flags.model) / 2);
  const DType half = flags.precision == "bf16" ? DType::bf16 : DType::f16;
  save_model(run_pipeline(std::move(model.graph), conversion_pipeline(half, flags.keep_io_types)), flags.output);
  fmt::print("{}: {} bytes, from {}\n", flags.output,
             with_thousands(static_cast<std::int64_t>(file_bytes(flags.output))),
             with_thousands(static_cast<std::int64_t>(file_bytes(flags.model))));
}

}  // namespace

void add_convert(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("convert", "Writes a model in fp16 or bf16.");
  auto flags = std::make_shared<ConvertFlags>();
  add_model(*command, flags->model);
  command->add_option("-o,--output", flags->output, "the converted model")->required()->type_name("OUT.onnx");
  command->add_option("--precision", flags->precision, "fp16 or bf16")
      ->required()
      ->check(CLI::IsMember({"fp16", "bf16"}));
  command->add_flag("--keep-io-types", flags->keep_io_types, "inputs and outputs stay fp32");
  command->callback([flags] { convert(*flags); });
}

}  // namespace halfstep::cli
