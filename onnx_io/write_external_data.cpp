// Models with their elements in a file beside the message.
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <onnx/onnx_pb.h>

#include "base/atomic_file.h"
#include "onnx_io/external_data.h"
#include "onnx_io/message.h"
#include "onnx_io/outside.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/replaced_data.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::uint64_t kAlignment = 64;

bool is_taken(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

// The first of NAME.data, NAME.data2, … for a model at `path` that is not there.
std::filesystem::path free_data_file(const std::filesystem::path& path) {
  std::filesystem::path file = path;
  file += kDataSuffix;
  for (int i = 2; is_taken(file); ++i) (file = path).concat(kDataSuffix).concat(std::to_string(i));
  return file;
}

// The data of every initializer of at least `at_least` bytes, to be placed at `file`, where `model` refers to it then.
std::unique_ptr<PendingFile> prepare_external_data(onnx::ModelProto& model, const std::filesystem::path& file,
                                                   std::uint64_t at_least, const OutsideTensors& outside,
                                                   const std::filesystem::path& like) {
  const std::string location = file.filename().string();
  check_external_location(location, "(all)");
  struct Placed {
    onnx::TensorProto* tensor;
    bool is_outside;
    std::uint64_t offset, bytes;
  };
  std::vector<Placed> placed;
  std::uint64_t position = 0;
  auto place = [&](onnx::TensorProto& tensor) {
    std::uint64_t bytes = outside.bytes ? outside.bytes(tensor) : 0;
    const bool is_outside = bytes > 0;
    if (!is_outside) {
      if (tensor.data_type() == onnx::TensorProto::STRING || tensor.ByteSizeLong() < at_least) return;
      if (!tensor.has_raw_data()) *tensor.mutable_raw_data() = tensor_to_proto(tensor_from_proto(tensor)).raw_data();
      bytes = tensor.raw_data().size();
      if (bytes == 0) return;
    }
    position = (position + kAlignment - 1) / kAlignment * kAlignment;
    placed.push_back({&tensor, is_outside, position, bytes});
    position += bytes;
  };
  for_each_graph(*model.mutable_graph(), [&](onnx::GraphProto& graph) {
    for (onnx::TensorProto& tensor : *graph.mutable_initializer()) place(tensor);
  });
  const auto write = [&](FileWriter& writer) {
    const std::string padding(kAlignment, '\0');
    for (const Placed& p : placed) {
      writer.write(padding.data(), static_cast<std::size_t>(p.offset - writer.position()));
      if (p.is_outside)
        outside.write(*p.tensor, writer);
      else
        writer.write(p.tensor->raw_data());
      if (writer.position() != p.offset + p.bytes)
        throw_failure(std::to_string(p.bytes) + " bytes of tensor '" + p.tensor->name() + "', as before",
                      std::to_string(writer.position() - p.offset),
                      "leave the source of the tensors as it is meanwhile");
    }
    writer.write(kDataMark);
  };
  auto pending = std::make_unique<PendingFile>(file, write, like, Links::replace);
  for (const Placed& p : placed) {
    p.tensor->clear_raw_data();
    p.tensor->clear_float_data();
    p.tensor->clear_double_data();
    p.tensor->clear_int32_data();
    p.tensor->clear_int64_data();
    p.tensor->clear_uint64_data();
    p.tensor->clear_external_data();
    p.tensor->set_data_location(onnx::TensorProto::EXTERNAL);
    auto add = [&](const char* key, std::string value) {
      auto* entry = p.tensor->add_external_data();
      entry->set_key(key);
      entry->set_value(std::move(value));
    };
    add("location", location);
    add("offset", std::to_string(p.offset));
    add("length", std::to_string(p.bytes));
  }
  return pending;
}

}  // namespace

void write_external_data(onnx::ModelProto& model, const std::filesystem::path& file, std::uint64_t at_least,
                         const OutsideTensors& outside) {
  prepare_external_data(model, file, at_least, outside, file)->place();
}

void write_model_in_one(const FileContent& content, const std::filesystem::path& named, Durability durability,
                        const std::vector<std::filesystem::path>& in_use) {
  const std::filesystem::path path = through_links(named);
  const std::vector<std::filesystem::path> replaced = data_files_of(path);
  sweep_data(path);
  write_atomically(path, content, replaced.empty() ? durability : Durability::on_return);
  remove_replaced(replaced, path, in_use);
}

void write_model_in_one(std::string_view bytes, const std::filesystem::path& path, Durability durability,
                        const std::vector<std::filesystem::path>& in_use) {
  write_model_in_one([bytes](FileWriter& writer) { writer.write(bytes); }, path, durability, in_use);
}

std::uint64_t write_model_with_data(onnx::ModelProto model, const std::filesystem::path& named,
                                    const OutsideTensors& outside, const std::vector<std::filesystem::path>& in_use) {
  const std::filesystem::path path = through_links(named);
  const std::vector<std::filesystem::path> replaced = data_files_of(path);
  sweep_data(path);
  const std::filesystem::path data_path = free_data_file(path);
  const std::unique_ptr<PendingFile> data = prepare_external_data(model, data_path, 1024, outside, path);
  const std::string bytes = serialize_message(model);
  PendingFile message(path, [&](FileWriter& writer) { writer.write(bytes); });
  data->place();
  try {
    message.place();
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(data_path, ignored);
    throw;
  }
  remove_replaced(replaced, path, in_use);
  std::error_code error;
  const std::uintmax_t data_bytes = std::filesystem::file_size(data_path, error);
  return bytes.size() + (error ? 0 : data_bytes);
}

std::string serialize_message(const onnx::ModelProto& model) {
  const std::size_t size = model.ByteSizeLong();
  std::string bytes;
  if (size > kMaxMessageBytes || !model.SerializeToString(&bytes))
    throw_failure("a model of at most 2 GB in one file", std::to_string(size) + " bytes",
                  "let its tensors go to external data");
  return bytes;
}

}  // namespace halfstep
