#include "conversion/stored_tensors.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "base/parse_number.h"
#include "executors/onednn/simd/kernels.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include "passes/precision/mask_constants.h"

namespace halfstep::conversion {
namespace {

constexpr const char* kLimitKey = "ai.halfstep.limit";
constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // elements converted at a time

double limit_of(const onnx::TensorProto& tensor) {
  double limit = 0;
  for (const auto& entry : tensor.external_data())
    if (entry.key() == kLimitKey) limit = parse_number<double>(entry.value()).value_or(0);
  return limit;
}

template <class Take>
void convert_blocks(const onnx::TensorProto& tensor, const DetachedModel& source, const Take& take) {
  const Tensor stored = source.read(tensor);
  const auto to = static_cast<DType>(tensor.data_type());
  const double limit = limit_of(tensor);
  const auto* from = static_cast<const std::byte*>(stored.raw());
  const std::size_t block_bytes = bytes_of(stored.dtype(), static_cast<std::size_t>(kBlock));
  const auto each_block = [&](const auto& convert) {
    for (std::int64_t i = 0; i < stored.count(); i += kBlock) {
      const std::int64_t n = std::min(kBlock, stored.count() - i);
      const std::size_t first = static_cast<std::size_t>(i / kBlock) * block_bytes;
      convert(from + first, n);
      source.forget(tensor, first, bytes_of(stored.dtype(), static_cast<std::size_t>(n)));
    }
  };
  if (stored.dtype() == to && limit == 0) {
    each_block([&](const std::byte* block, std::int64_t n) { take(block, bytes_of(to, static_cast<std::size_t>(n))); });
    return;
  }
  const simd::UnaryFn cast = stored.dtype() == to ? nullptr : simd::find_cast_range(stored.dtype(), to);
  Tensor converted(to, Shape{std::min(kBlock, stored.count())});
  each_block([&](const std::byte* block, std::int64_t n) {
    Tensor elements = Tensor::view(stored.dtype(), Shape{n}, const_cast<std::byte*>(block));
    elements = clamped(elements, limit);
    const void* result = elements.raw();
    if (cast) {
      cast(elements.raw(), converted.raw(), n, {});
      result = converted.raw();
    }
    take(result, bytes_of(to, static_cast<std::size_t>(n)));
  });
}

}  // namespace

void retype(onnx::TensorProto& tensor, DType to, double limit) {
  if (DetachedModel::index_of(tensor) >= 0) {
    tensor.set_data_type(static_cast<int>(to));
    if (limit == 0) return;
    auto* entry = tensor.add_external_data();
    entry->set_key(kLimitKey);
    entry->set_value(fmt::format("{}", limit));
    return;
  }
  Tensor elements = tensor_from_proto(tensor);
  elements = clamped(elements, limit);
  onnx::TensorProto converted =
      tensor_to_proto(elements.dtype() == to ? elements : convert(elements, to), tensor.name());
  converted.set_doc_string(tensor.doc_string());
  if (tensor.doc_string().empty()) converted.clear_doc_string();
  converted.mutable_metadata_props()->Swap(tensor.mutable_metadata_props());
  tensor.Swap(&converted);
}

OutsideTensors outside_tensors(const DetachedModel& source) {
  return {.bytes = DetachedModel::bytes_of, .write = [&source](const onnx::TensorProto& tensor, FileWriter& writer) {
            convert_blocks(tensor, source, [&](const void* data, std::size_t bytes) { writer.write(data, bytes); });
            source.check_intact();
          }};
}

void attach(onnx::ModelProto& model, const DetachedModel& source, bool also_initializers) {
  const auto fill = [&](onnx::TensorProto& tensor) {
    if (DetachedModel::index_of(tensor) < 0) return;
    std::string* raw = tensor.mutable_raw_data();
    raw->reserve(DetachedModel::bytes_of(tensor));
    convert_blocks(tensor, source,
                   [&](const void* data, std::size_t bytes) { raw->append(static_cast<const char*>(data), bytes); });
    tensor.clear_external_data();
    tensor.clear_data_location();
  };
  if (also_initializers) return for_each_tensor(model, fill);
  // Tensors that are small in half are stored as in a source of half.
  for_each_tensor(model, [&](onnx::TensorProto& tensor) {
    if (DetachedModel::bytes_of(tensor) < kDetachedBytes) fill(tensor);
  });
  for_each_node(*model.mutable_graph(), [&](onnx::NodeProto& node) {
    for (auto& attribute : *node.mutable_attribute())
      if (attribute.has_t()) fill(*attribute.mutable_t());
  });
  for (auto& function : *model.mutable_functions()) {
    for_each_node(function, [&](onnx::NodeProto& node) {
      for (auto& attribute : *node.mutable_attribute())
        if (attribute.has_t()) fill(*attribute.mutable_t());
    });
    for (auto& by_default : *function.mutable_attribute_proto())
      if (by_default.has_t()) fill(*by_default.mutable_t());
  }
}

}  // namespace halfstep::conversion
