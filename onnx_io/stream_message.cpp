#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "onnx_io/outside.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

// Protobuf's wire format: a message is a sequence of fields, and a field with a length is its number, shifted by 3 and
// marked with 2, the length, and that number of bytes. A message may be written in pieces, each a message with some of
// the fields.
constexpr std::uint32_t kHasLength = 2;
constexpr std::uint32_t tag_of(int field) { return static_cast<std::uint32_t>(field) << 3 | kHasLength; }

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  bytes += static_cast<char>(value);
  return bytes;
}
/// The prefix of a field's bytes.
std::string head(int field, std::uint64_t bytes) { return varint(tag_of(field)) + varint(bytes); }

/// The parts of a message before and after one of its fields, in the order of fields.
struct Around {
  std::string before, after;
};

/// The parts of a tensor around its elements if these are outside; otherwise all of it comes before.
Around around_elements(const onnx::TensorProto& tensor, std::uint64_t outside) {
  if (outside == 0) return {tensor.SerializeAsString(), {}};
  onnx::TensorProto before = tensor, after;
  before.clear_external_data();
  before.clear_data_location();
  if (tensor.has_doc_string()) after.set_doc_string(tensor.doc_string());
  before.clear_doc_string();
  after.mutable_metadata_props()->Swap(before.mutable_metadata_props());
  return {before.SerializeAsString() + head(onnx::TensorProto::kRawDataFieldNumber, outside),
          after.SerializeAsString()};
}
std::uint64_t bytes_of(const onnx::TensorProto& tensor, std::uint64_t outside) {
  if (outside == 0) return tensor.ByteSizeLong();
  const Around around = around_elements(tensor, outside);
  return around.before.size() + outside + around.after.size();
}

Around around_initializers(onnx::GraphProto& graph) {
  google::protobuf::RepeatedPtrField<onnx::TensorProto> tensors;
  tensors.Swap(graph.mutable_initializer());
  onnx::GraphProto before, after = graph;
  tensors.Swap(graph.mutable_initializer());
  before.mutable_node()->Swap(after.mutable_node());
  if (after.has_name()) before.set_name(after.name());
  after.clear_name();
  return {before.SerializeAsString(), after.SerializeAsString()};
}

Around around_graph(onnx::ModelProto& model) {
  onnx::GraphProto graph;
  graph.Swap(model.mutable_graph());
  onnx::ModelProto before, after = model;
  graph.Swap(model.mutable_graph());
  after.clear_graph();
  if (after.has_ir_version()) before.set_ir_version(after.ir_version());
  if (after.has_producer_name()) before.set_producer_name(after.producer_name());
  if (after.has_producer_version()) before.set_producer_version(after.producer_version());
  if (after.has_domain()) before.set_domain(after.domain());
  if (after.has_model_version()) before.set_model_version(after.model_version());
  if (after.has_doc_string()) before.set_doc_string(after.doc_string());
  after.clear_ir_version();
  after.clear_producer_name();
  after.clear_producer_version();
  after.clear_domain();
  after.clear_model_version();
  after.clear_doc_string();
  return {before.SerializeAsString(), after.SerializeAsString()};
}

struct Pieces {
  Around model, graph;
  std::vector<std::uint64_t> outside;  // of each initializer
  std::uint64_t graph_bytes = 0;

  Pieces(onnx::ModelProto& message, const OutsideTensors& tensors)
      : model(around_graph(message)), graph(around_initializers(*message.mutable_graph())) {
    graph_bytes = graph.before.size() + graph.after.size();
    for (const onnx::TensorProto& tensor : message.graph().initializer()) {
      outside.push_back(tensors.bytes ? tensors.bytes(tensor) : 0);
      const std::uint64_t bytes = bytes_of(tensor, outside.back());
      graph_bytes += head(onnx::GraphProto::kInitializerFieldNumber, bytes).size() + bytes;
    }
  }
  std::uint64_t bytes() const {
    return model.before.size() + head(onnx::ModelProto::kGraphFieldNumber, graph_bytes).size() + graph_bytes +
           model.after.size();
  }
};

}  // namespace

std::uint64_t streamed_bytes(onnx::ModelProto& model, const OutsideTensors& outside) {
  return Pieces(model, outside).bytes();
}

void write_streamed(onnx::ModelProto& model, const OutsideTensors& outside, FileWriter& writer) {
  const Pieces pieces(model, outside);
  writer.write(pieces.model.before);
  writer.write(head(onnx::ModelProto::kGraphFieldNumber, pieces.graph_bytes));
  writer.write(pieces.graph.before);
  for (int i = 0; i < model.graph().initializer_size(); ++i) {
    const onnx::TensorProto& tensor = model.graph().initializer(i);
    const std::uint64_t bytes = pieces.outside[i];
    writer.write(head(onnx::GraphProto::kInitializerFieldNumber, bytes_of(tensor, bytes)));
    const Around around = around_elements(tensor, bytes);
    writer.write(around.before);
    const std::uint64_t start = writer.position();
    if (bytes > 0) outside.write(tensor, writer);
    if (writer.position() - start != bytes)
      throw_failure(std::to_string(bytes) + " bytes of tensor '" + tensor.name() + "', as before",
                    std::to_string(writer.position() - start), "leave the source of the tensors as it is meanwhile");
    writer.write(around.after);
  }
  writer.write(pieces.graph.after);
  writer.write(pieces.model.after);
}

}  // namespace halfstep
