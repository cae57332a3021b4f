#include "python/src/rows.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "python/src/bindings.h"
#include "python/src/tensors.h"
#include <halfstep/base/error.h>

namespace halfstep::python {
namespace {

Tensor buffer_of(const Tensor& rows, std::int64_t count) {
  std::vector<std::int64_t> extents(rows.shape().begin(), rows.shape().end());
  extents[0] = count;
  return Tensor(rows.dtype(), Shape(std::move(extents)));
}

}  // namespace

Rows::Rows(const NamedTensors& arrays) {
  for (const auto& [name, tensor] : arrays) {
    if (tensor.shape().rank() == 0) throw_input_error("an array of rows for '" + name + "'", "a number", "");
    if (arrays_.empty()) count_ = tensor.shape()[0];
    if (tensor.shape()[0] != count_)
      throw_input_error(std::to_string(count_) + " rows of '" + name + "'", std::to_string(tensor.shape()[0]),
                        "check that the arrays belong together");
    const std::size_t row_bytes = count_ == 0 ? 0 : tensor.bytes() / static_cast<std::size_t>(count_);
    arrays_.push_back({name, tensor, Tensor(), row_bytes});
  }
}

void Rows::set_order(std::optional<Tensor> order) {
  if (order) {
    if (order->dtype() != DType::i64 || order->shape() != Shape{count_})
      throw_input_error("an order of " + std::to_string(count_) + " rows", order->shape().to_string(), "");
    if (!std::ranges::all_of(order->span<std::int64_t>(), [&](std::int64_t row) { return row >= 0 && row < count_; }))
      throw_input_error("row indices from 0 to " + std::to_string(count_ - 1), "others", "");
  }
  order_ = std::move(order);
}

const Batch& Rows::batch(std::int64_t begin, std::int64_t end) {
  if (begin < 0 || begin > end || end > count_)
    throw_input_error("a range within " + std::to_string(count_) + " rows", "another", "");
  for (Array& array : arrays_) {
    if (!order_) {
      batch_.tensors[array.name] = array.rows.rows(begin, end);
      continue;
    }
    if (!array.buffer.is_defined() || array.buffer.shape()[0] < end - begin)
      array.buffer = buffer_of(array.rows, end - begin);
    auto* to = static_cast<std::byte*>(array.buffer.raw());
    const auto* from = static_cast<const std::byte*>(std::as_const(array.rows).raw());
    for (const std::int64_t row :
         order_->span<std::int64_t>().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin))) {
      std::memcpy(to, from + static_cast<std::size_t>(row) * array.row_bytes, array.row_bytes);
      to += array.row_bytes;
    }
    batch_.tensors[array.name] = array.buffer.rows(0, end - begin);
  }
  return batch_;
}

void bind_rows(nb::module_& m) {
  nb::class_<Batch>(m, "Batch", "Arrays by name, for a training step.");
  nb::class_<Rows>(m, "Rows", "Arrays by name with the same number of rows, in batches.")
      .def(
          "__init__", [](Rows* self, nb::handle arrays) { new (self) Rows(tensors_from(arrays, "arrays")); },
          "arrays"_a)
      .def(
          "set_order",
          [](Rows& self, nb::handle order) {
            self.set_order(order.is_none() ? std::optional<Tensor>() : tensor_from(order, "order"));
          },
          "order"_a.none(), "The indices of the rows in order; None: the original order.")
      .def("batch", &Rows::batch, "begin"_a, "end"_a, nb::rv_policy::reference_internal,
           nb::call_guard<nb::gil_scoped_release>(), "The rows from begin to end, valid until the next call.");
}

}  // namespace halfstep::python
