#include "onnx_io/source_model.h"

#include <unordered_set>
#include <utility>

#include "onnx_io/detached.h"
#include "onnx_io/outside.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

std::unordered_set<const onnx::TensorProto*> initializers_of(onnx::ModelProto& model) {
  std::unordered_set<const onnx::TensorProto*> found;
  for (onnx::TensorProto& tensor : *model.mutable_graph()->mutable_initializer()) found.insert(&tensor);
  return found;
}

void add(std::vector<Tensor>& outside, onnx::TensorProto& tensor, Tensor elements) {
  outside.push_back(std::move(elements));
  mark_detached(tensor, outside.size() - 1);
}

}  // namespace

Tensor SourceModel::read(const onnx::TensorProto& initializer) const {
  const std::ptrdiff_t index = DetachedModel::index_of(initializer);
  if (index < 0) return tensor_from_proto(initializer);
  const Tensor& elements = outside.at(static_cast<std::size_t>(index));
  if (!elements.is_defined())
    throw_failure("a value for parameter '" + initializer.name() + "'", "none: the model's own value was released",
                  "give the values of all trained parameters");
  return elements;
}

std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      std::vector<Tensor>& outside) {
  const std::unordered_set<const onnx::TensorProto*> initializers = initializers_of(model);
  const TakeExternal take = [&](onnx::TensorProto& tensor, std::uint64_t bytes, const ReadElements& read) {
    if (bytes < kOutsideBytes || !initializers.contains(&tensor)) return false;
    Tensor elements(static_cast<DType>(tensor.data_type()), shape_from_proto(tensor));
    read(elements.raw());
    add(outside, tensor, std::move(elements));
    return true;
  };
  return read_external_data(model, folder, take);
}

void move_outside(onnx::ModelProto& model, std::vector<Tensor>& outside) {
  for (onnx::TensorProto& tensor : *model.mutable_graph()->mutable_initializer())
    if (DetachedModel::index_of(tensor) < 0 && tensor.has_raw_data() && tensor.raw_data().size() >= kOutsideBytes)
      add(outside, tensor, tensor_from_proto(tensor));
}

}  // namespace halfstep
