#include <utility>

#include "onnx_io/container_inputs.h"
#include "onnx_io/convert.h"
#include "onnx_io/detached.h"
#include "onnx_io/external_data.h"
#include "onnx_io/inlined_size.h"
#include "onnx_io/lift.h"
#include "onnx_io/message.h"
#include "onnx_io/normalize.h"
#include "onnx_io/source_model.h"
#include "onnx_io/unsupported.h"
#include "onnx_io/untie.h"
#include "ops/proto.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

LoadedModel load_from(onnx::ModelProto model, const std::filesystem::path& folder, bool has_folder,
                      const LoadOptions& options) {
  register_schemas();
  check_versions(model, kOldestOnnxOpset);
  if (!has_folder) refuse_external_data(model);
  // Before the checker, which would look for the files itself.
  std::vector<Tensor> outside;
  std::vector<std::filesystem::path> data_files = read_external_data(model, folder, outside);
  LoadedModel loaded = load_detached(std::move(model), std::move(outside), options);
  loaded.data_files = std::move(data_files);
  return loaded;
}

}  // namespace

LoadedModel load_detached(onnx::ModelProto model, std::vector<Tensor> outside, const LoadOptions& options) {
  auto source = std::make_shared<SourceModel>();
  source->outside = std::move(outside);
  normalize_message(model);
  densify(model, tensor_from_proto);
  check_detached(model);
  check_inlined_size(model);

  guarded("tensors whose data is whole", [&] { move_outside(model, source->outside); });
  source->model = std::move(model);
  const auto inline_source = [&] {
    if (source->model.functions_size() == 0) return;
    source->inlined = source->model;
    inline_functions(*source->inlined);
  };
  inline_source();
  if (separate_statistics(*source)) inline_source();
  onnx::ModelProto* flat = source->inlined ? &*source->inlined : &source->model;
  unsupported_operators(*flat).report();
  onnx::ModelProto spread;
  if (has_container_inputs(*flat) || !options.sequence_lengths.empty() || !options.absent_inputs.empty()) {
    spread = *flat;
    spread_container_inputs(spread, options);
    flat = &spread;
  }
  LoadedModel loaded;
  guarded("a model that fits into memory and halfstep's limits", [&] {
    loaded.graph = from_proto(*flat, [&](const onnx::TensorProto& tensor) { return source->read(tensor); });
    lift_to_supported(loaded.graph);
    verify(loaded.graph);
  });
  loaded.source = std::move(source);
  return loaded;
}

LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options) {
  return naming_file(path, [&] {
    onnx::ModelProto model = read_message(path);
    const std::filesystem::path folder = data_folder(model, path);
    return load_from(std::move(model), folder, true, options);
  });
}

LoadedModel load_model_from_bytes(std::string_view bytes, const std::filesystem::path& folder,
                                  const LoadOptions& options) {
  return load_from(parse_message(bytes), folder, !folder.empty(), options);
}

LoadedModel parse_model(std::string_view text, const LoadOptions& options) {
  return load_from(parse_text(text), {}, false, options);
}

}  // namespace halfstep
