#include "onnx_io/detached.h"

#include <system_error>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "base/parse_number.h"
#include "onnx_io/check_message.h"
#include "onnx_io/message.h"
#include "onnx_io/normalize.h"
#include "onnx_io/outside.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

constexpr std::int64_t kOldestOpset = 1;
constexpr const char* kIndexKey = "ai.halfstep.detached";

// The tensor's elements, without a copy if they are raw bytes that can be read in place.
Tensor take_elements(onnx::TensorProto& tensor) {
  const auto dtype = static_cast<DType>(tensor.data_type());
  const Shape shape = shape_from_proto(tensor);
  if (!tensor.has_raw_data() || !shape.is_static() || tensor.raw_data().size() != bytes_of(dtype, shape))
    return tensor_from_proto(tensor);
  auto bytes = std::make_shared<std::string>(std::move(*tensor.mutable_raw_data()));
  char* start = bytes->data();
  return Tensor::view(dtype, shape, start, std::move(bytes));
}

/// 0 if unknown.
std::uint64_t file_bytes(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  return error ? 0 : bytes;
}

bool is_numeric(const onnx::TensorProto& tensor) {
  const int type = tensor.data_type();
  return type > 0 && type <= static_cast<int>(DType::i2) && bits_of(static_cast<DType>(type)) > 0;
}

void detach_large(DetachedModel& result) {
  for_each_tensor(result.model, [&](onnx::TensorProto& tensor) {
    if (tensor.data_location() == onnx::TensorProto::EXTERNAL || !is_numeric(tensor) ||
        tensor.ByteSizeLong() < kDetachedBytes)
      return;
    result.tensors.push_back(take_elements(tensor));
    result.is_mapped.push_back(false);
    mark_detached(tensor, result.tensors.size() - 1);
  });
}

}  // namespace

void mark_detached(onnx::TensorProto& tensor, std::size_t index) {
  onnx::TensorProto marked;
  marked.set_name(tensor.name());
  if (tensor.has_doc_string()) marked.set_doc_string(tensor.doc_string());
  marked.set_data_type(tensor.data_type());
  marked.mutable_dims()->Swap(tensor.mutable_dims());
  marked.mutable_metadata_props()->Swap(tensor.mutable_metadata_props());
  marked.set_data_location(onnx::TensorProto::EXTERNAL);
  auto* entry = marked.add_external_data();
  entry->set_key(kIndexKey);
  entry->set_value(std::to_string(index));
  tensor.Swap(&marked);
}

std::ptrdiff_t DetachedModel::index_of(const onnx::TensorProto& tensor) {
  if (tensor.data_location() != onnx::TensorProto::EXTERNAL) return -1;
  std::ptrdiff_t index = -1;
  for (const auto& entry : tensor.external_data())
    if (entry.key() == kIndexKey) index = parse_number<std::ptrdiff_t>(entry.value()).value_or(-1);
  return index;
}

std::uint64_t DetachedModel::bytes_of(const onnx::TensorProto& tensor) {
  if (index_of(tensor) < 0) return 0;
  return halfstep::bytes_of(static_cast<DType>(tensor.data_type()),
                            static_cast<std::size_t>(shape_from_proto(tensor).count()));
}

Tensor DetachedModel::read(const onnx::TensorProto& tensor) const {
  const std::ptrdiff_t index = index_of(tensor);
  return index < 0 ? tensor_from_proto(tensor) : tensors.at(static_cast<std::size_t>(index));
}

void DetachedModel::check_intact() const {
  for (const MappedData& data : mapped) {
    const auto& mapping = data.mapping;
    const std::size_t intact = mapping ? mapping->intact() : 0;
    if (!mapping || intact == mapping->size()) continue;
    std::string lost;
    for_each_tensor(const_cast<onnx::ModelProto&>(model), [&](const onnx::TensorProto& tensor) {
      const std::ptrdiff_t index = index_of(tensor);
      if (index < 0 || !lost.empty()) return;
      const Tensor& elements = tensors[index];
      const auto* end = static_cast<const std::byte*>(elements.raw()) + elements.bytes();
      if (end > mapping->data() + intact && end <= mapping->data() + mapping->size())
        lost = "tensor '" + tensor.name() + "' is not whole";
    });
    throw_truncated(data.path.string(), mapping->size(), intact, lost);
  }
}

// The mapping is private and never written: released pages are read from the file again on access.
void DetachedModel::forget(const onnx::TensorProto& tensor, std::size_t first_byte, std::size_t bytes) const {
  const std::ptrdiff_t index = index_of(tensor);
  if (index < 0 || !is_mapped[index]) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(tensors[index].raw()) + first_byte;
  const std::uintptr_t first = (start + page - 1) / page * page, last = (start + bytes) / page * page;
  if (last > first) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

DetachedModel read_detached(const std::filesystem::path& path) {
  return naming_file(path, [&] {
    register_schemas();
    DetachedModel result;
    result.model = read_message(path);
    check_versions(result.model, kOldestOpset);
    result.bytes = file_bytes(path);
    result.path = path;
    const auto take = [&](onnx::TensorProto& tensor, Tensor elements, bool mapped) {
      if (elements.bytes() < kDetachedBytes) {
        tensor.set_raw_data(elements.raw(), elements.bytes());
        return;
      }
      result.tensors.push_back(std::move(elements));
      result.is_mapped.push_back(mapped);
      mark_detached(tensor, result.tensors.size() - 1);
    };
    result.mapped = map_external_data(result.model, data_folder(result.model, path), take);
    for (const MappedData& file : result.mapped) {
      result.data_files.push_back(file.path);
      result.bytes += file_bytes(file.path);
    }
    densify(result.model, [&](const onnx::TensorProto& tensor) { return result.read(tensor); });
    detach_large(result);
    return result;
  });
}

DetachedModel detach(onnx::ModelProto model) {
  register_schemas();
  check_versions(model, kOldestOpset);
  refuse_external_data(model);
  DetachedModel result;
  result.bytes = model.ByteSizeLong();
  result.model = std::move(model);
  densify(result.model, tensor_from_proto);
  detach_large(result);
  return result;
}

void check_detached(onnx::ModelProto& model) {
  // For a detached tensor, the checker gets one without elements.
  std::vector<std::pair<onnx::TensorProto*, onnx::TensorProto>> hidden;
  for_each_tensor(model, [&](onnx::TensorProto& tensor) {
    if (DetachedModel::index_of(tensor) < 0) return;
    onnx::TensorProto empty;
    empty.set_name(tensor.name());
    empty.set_data_type(tensor.data_type());
    empty.add_dims(0);
    empty.Swap(&tensor);
    hidden.emplace_back(&tensor, std::move(empty));
  });
  const auto show = [&] {
    for (auto& [tensor, stored] : hidden) tensor->Swap(&stored);
  };
  try {
    guarded("a valid ONNX model", [&] { check_message(model); });
  } catch (...) {
    show();
    throw;
  }
  show();
}

}  // namespace halfstep
