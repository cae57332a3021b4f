#include "ops/movement/index_map.h"

#include <numeric>
#include <string>
#include <utility>

#include "ops/elementwise/cast.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

std::int64_t normalize_index(std::int64_t index, std::int64_t extent) {
  if (index < -extent || index >= extent)
    throw_input_error("an index in [-" + std::to_string(extent) + ", " + std::to_string(extent) + ")",
                      std::to_string(index), "check the indices fed to the model");
  return index < 0 ? index + extent : index;
}

[[noreturn]] void throw_shapes(const char* required, const Shape& data, const Shape& indices) {
  throw_input_error(required, "data " + data.to_string() + ", indices " + indices.to_string(),
                    "check the shapes fed to this operator");
}

template <class S>
void take_typed(const Tensor& from, const IndexMap& map, Tensor& to, const Tensor& fill) {
  const S none = fill.is_defined() ? fill.data<S>()[0] : S{};
  const S* x = from.data<S>();
  S* y = to.data<S>();
  for (std::size_t i = 0; i < map.size(); ++i) y[i] = map[i] == kNoElement ? none : x[map[i]];
}

bool is_packed(DType dtype) { return dtype != DType::string && bits_of(dtype) < 8; }

}  // namespace

IndexMap strided_map(const Shape& shape, const std::vector<std::int64_t>& steps, std::int64_t offset) {
  IndexMap map(static_cast<std::size_t>(shape.count()));
  std::vector<std::int64_t> position(shape.rank());
  for (std::int64_t& index : map) {
    index = offset;
    for (std::size_t axis = shape.rank(); axis-- > 0;) {
      offset += steps[axis];
      if (++position[axis] < shape[axis]) break;
      offset -= steps[axis] * shape[axis];
      position[axis] = 0;
    }
  }
  return map;
}

IndexMap transpose_map(const Shape& from, const std::vector<std::size_t>& perm) {
  const std::vector<std::int64_t> strides = from.strides();
  std::vector<std::int64_t> dims, steps;
  for (std::size_t axis : perm) {
    dims.push_back(from[axis]);
    steps.push_back(strides[axis]);
  }
  return strided_map(Shape(std::move(dims)), steps);
}

std::vector<std::int64_t> counting(std::int64_t n, std::int64_t start) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
  std::iota(indices.begin(), indices.end(), start);
  return indices;
}

AxisIndices all_indices(const Shape& shape) {
  AxisIndices axes;
  for (std::int64_t extent : shape) axes.push_back(counting(extent));
  return axes;
}

Shape shape_of(const AxisIndices& axes) {
  std::vector<std::int64_t> dims;
  for (const auto& indices : axes) dims.push_back(static_cast<std::int64_t>(indices.size()));
  return Shape(std::move(dims));
}

IndexMap separable_map(const Shape& from, const AxisIndices& axes) {
  const std::vector<std::int64_t> strides = from.strides();
  IndexMap map{0};
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    IndexMap next;
    next.reserve(map.size() * axes[axis].size());
    for (std::int64_t start : map)
      for (std::int64_t index : axes[axis])
        next.push_back(start == kNoElement || index == kNoElement ? kNoElement : start + index * strides[axis]);
    map = std::move(next);
  }
  return map;
}

IndexMap gather_map(const Shape& data, std::size_t axis, const Tensor& indices) {
  std::vector<std::int64_t> chosen = to_int64s(indices);
  for (std::int64_t& index : chosen) index = normalize_index(index, data[axis]);
  const AxisView view(data, axis);
  IndexMap map;
  map.reserve(static_cast<std::size_t>(view.outer * view.inner) * chosen.size());
  for (std::int64_t o = 0; o < view.outer; ++o)
    for (std::int64_t index : chosen)
      for (std::int64_t i = 0; i < view.inner; ++i) map.push_back((o * view.extent + index) * view.inner + i);
  return map;
}

IndexMap gather_elements_map(const Shape& data, std::size_t axis, const Tensor& indices) {
  const Shape& shape = indices.shape();
  if (shape.rank() != data.rank()) throw_shapes("data and indices of the same rank", data, shape);
  for (std::size_t i = 0; i < data.rank(); ++i)
    if (i != axis && shape[i] > data[i]) throw_shapes("indices that fit into data beside the axis", data, shape);
  std::vector<std::int64_t> steps = data.strides();
  const std::int64_t step = std::exchange(steps[axis], 0);
  const std::vector<std::int64_t> chosen = to_int64s(indices);
  IndexMap map = strided_map(shape, steps);
  for (std::size_t i = 0; i < map.size(); ++i) map[i] += normalize_index(chosen[i], data[axis]) * step;
  return map;
}

IndexMap gather_nd_map(const Shape& data, std::int64_t batch_dims, const Tensor& indices) {
  const Shape& shape = indices.shape();
  if (shape.rank() < 1 || batch_dims < 0 || batch_dims >= static_cast<std::int64_t>(shape.rank()))
    throw_shapes("indices of rank above batch_dims", data, shape);
  const auto batch_rank = static_cast<std::size_t>(batch_dims);
  const std::size_t last = shape.rank() - 1;
  const auto depth = static_cast<std::size_t>(shape[last]);
  if (batch_rank + depth > data.rank()) throw_shapes("indices no deeper than data", data, shape);
  for (std::size_t i = 0; i < batch_rank; ++i)
    if (shape[i] != data[i]) throw_shapes("equal batch extents of data and indices", data, shape);

  const std::vector<std::int64_t> strides = data.strides(), chosen = to_int64s(indices);
  const std::int64_t batch_size = data.count(batch_rank, data.rank()), batches = shape.count(0, batch_rank);
  const std::int64_t per_batch = shape.count(batch_rank, last);
  const std::int64_t slice = data.count(batch_rank + depth, data.rank());
  IndexMap map;
  map.reserve(static_cast<std::size_t>(batches * per_batch * slice));
  for (std::int64_t tuple = 0; tuple < batches * per_batch; ++tuple) {
    std::int64_t start = tuple / per_batch * batch_size;
    for (std::size_t k = 0; k < depth; ++k) {
      const std::int64_t index = chosen[static_cast<std::size_t>(tuple) * depth + k];
      start += normalize_index(index, data[batch_rank + k]) * strides[batch_rank + k];
    }
    for (std::int64_t i = 0; i < slice; ++i) map.push_back(start + i);
  }
  return map;
}

void take(const Tensor& from, const IndexMap& map, Tensor& to, const Tensor& fill) {
  if (!is_packed(from.dtype())) {
    visit_storage(from.dtype(), [&]<class S>() { take_typed<S>(from, map, to, fill); });
    return;
  }
  const std::vector<std::uint8_t> codes = unpack(from);
  const std::uint8_t none = fill.is_defined() ? unpack(fill)[0] : std::uint8_t{0};
  std::vector<std::uint8_t> taken(map.size());
  for (std::size_t i = 0; i < map.size(); ++i) taken[i] = map[i] == kNoElement ? none : codes[map[i]];
  pack(taken, to);
}

void take_axes(KernelCall& call, std::size_t output, const AxisIndices& axes, const Tensor& fill) {
  const Tensor& x = call.in[0];
  take(x, separable_map(x.shape(), axes), ensure_out(call, output, x.dtype(), shape_of(axes)), fill);
}

void put(const Tensor& from, const IndexMap& map, Tensor& to) {
  visit_storage(from.dtype(), [&]<class S>() {
    const S* x = from.data<S>();
    S* y = to.data<S>();
    for (std::size_t i = 0; i < map.size(); ++i) y[map[i]] = x[i];
  });
}

}  // namespace halfstep::ops
