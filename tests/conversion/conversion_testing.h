// What the tests of conversion share: models from ONNX's text form, and looking at what became of them.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>

#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/calibrate.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing {

inline std::string header(int opset = 20) {
  return "<ir_version: 10, opset_import: [\"\": " + std::to_string(opset) +
         ", \"com.microsoft\": 1, \"local\": 1]> test ";
}

/// A conversion with its message parsed.
struct Converted {
  std::string bytes;
  onnx::ModelProto model;
  ConversionReport report;

  const onnx::GraphProto& graph() const { return model.graph(); }
  const onnx::NodeProto* node_of(const std::string& op) const {
    for (const auto& node : graph().node())
      if (node.op_type() == op) return &node;
    return nullptr;
  }
  const onnx::TensorProto* initializer(const std::string& name) const {
    for (const auto& tensor : graph().initializer())
      if (tensor.name() == name) return &tensor;
    return nullptr;
  }
  /// "f16", or "" when there is no such initializer.
  std::string type_of(const std::string& name) const {
    const auto* tensor = initializer(name);
    return tensor ? std::string(name_of(static_cast<DType>(tensor->data_type()))) : "";
  }
  std::vector<double> values(const std::string& name) const {
    return to_doubles(tensor_from_proto(*initializer(name)));
  }
  const NodeReport* reported(const std::string& op) const {
    for (const NodeReport& node : report.nodes)
      if (node.op == op) return &node;
    return nullptr;
  }
};

inline std::vector<std::string> ops_of(const onnx::GraphProto& graph) {
  std::vector<std::string> ops;
  for (const auto& node : graph.node()) ops.push_back(node.op_type());
  return ops;
}

inline std::string element_type(const onnx::ValueInfoProto& info) {
  return std::string(name_of(static_cast<DType>(info.type().tensor_type().elem_type())));
}

/// Converts and holds the result to what every conversion promises: the checker accepts it with full type and shape
/// inference, no two casts follow each other, and converting it again, or the source again, gives the same bytes.
inline Converted convert_model(const ModelFile& source, const ConvertOptions& options) {
  const Conversion conversion = convert(source, options);
  Converted result{.bytes = conversion.bytes(), .model = {}, .report = conversion.report()};
  EXPECT_TRUE(result.model.ParseFromString(result.bytes));
  EXPECT_NO_THROW(onnx::checker::check_model(result.model, true)) << result.model.DebugString();
  for (const auto& node : result.graph().node())
    for (const auto& other : result.graph().node())
      EXPECT_FALSE(node.op_type() == "Cast" && other.op_type() == "Cast" && node.output(0) == other.input(0))
          << node.output(0) << ": two casts in a row";
  EXPECT_EQ(convert(source, options).bytes(), result.bytes) << "another result from the same source";
  onnx::ModelProto again;
  again.ParseFromString(convert(ModelFile::from_bytes(result.bytes), options).bytes());
  EXPECT_EQ(again.DebugString(), result.model.DebugString()) << "converting the result changed it";
  return result;
}

inline Converted convert_text(const std::string& text, const ConvertOptions& options = {}, int opset = 20) {
  return convert_model(ModelFile::parse(header(opset) + text), options);
}

inline const ConvertOptions kKeepIo{.keep_io_types = true};

/// The outputs that the reference executor computes from `inputs` (given as f32 where the model wants floats).
inline std::vector<std::vector<double>> run_bytes(const std::string& bytes, const NamedTensors& inputs) {
  InputShapes shapes;
  for (const auto& [name, tensor] : inputs) shapes.by_name[name] = tensor.shape();
  const std::unique_ptr<Executor> executor = make_reference_executor();
  const Graph graph = run_pipeline(load_model_from_bytes(bytes).graph,
                                   whole_pipeline(Purpose::inference, {.shapes = shapes}, executor->capabilities()));
  const std::unique_ptr<StateStore> store = executor->make_store();
  const std::unique_ptr<Program> program = executor->compile(graph, *store);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    Tensor to = program->input(i);
    const Tensor from = convert(inputs.at(graph[graph.inputs[i]].name), to.dtype());
    std::memcpy(to.raw(), from.raw(), from.bytes());
  }
  program->run();
  std::vector<std::vector<double>> outputs;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) outputs.push_back(to_doubles(program->output(i)));
  return outputs;
}

}  // namespace halfstep::testing
