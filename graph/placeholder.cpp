#include "graph/placeholder.h"

#include <cstddef>
#include <utility>

#include "graph/pages.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

constexpr std::size_t kFew = 4096;

}  // namespace

Tensor zeros_of(DType dtype, const Shape& shape) {
  if (dtype == DType::string || !shape.is_static()) return Tensor(dtype, shape);
  const std::size_t bytes = bytes_of(dtype, shape);
  if (bytes < kFew || bytes >= kPagesOfItsOwn) return Tensor(dtype, shape);
  std::shared_ptr<void> pages = map_pages(bytes);
  void* const data = pages.get();
  return Tensor::view(dtype, shape, data, std::move(pages));
}

Tensor placeholder_of(const Tensor& tensor) {
  if (!tensor.is_defined() || tensor.dtype() == DType::string || tensor.bytes() < kFew) return tensor;
  return zeros_of(tensor.dtype(), tensor.shape());
}

}  // namespace halfstep
