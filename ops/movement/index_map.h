// Data movement as index maps: which element of the operand each element of the result is.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/graph/tensor.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// For each element of a result, in row-major order, the row-major index of the operand's element it is; kNoElement
/// where it is none of them.
using IndexMap = std::vector<std::int64_t>;
inline constexpr std::int64_t kNoElement = -1;

/// Element (i, j, ...) of `shape` is the operand's element offset + i * steps[0] + j * steps[1] + ...
IndexMap strided_map(const Shape& shape, const std::vector<std::int64_t>& steps, std::int64_t offset = 0);

/// The axes of an operand of shape `from` in the order `perm`, a permutation.
IndexMap transpose_map(const Shape& from, const std::vector<std::size_t>& perm);

/// For each axis of a result, the element of the operand's axis that each of its elements is, or kNoElement.
using AxisIndices = std::vector<std::vector<std::int64_t>>;
/// start, start + 1, ... : n of them.
std::vector<std::int64_t> counting(std::int64_t n, std::int64_t start = 0);
/// Every element along every axis: the identity, to be changed axis by axis.
AxisIndices all_indices(const Shape& shape);
Shape shape_of(const AxisIndices& axes);
/// Element (i, j, ...) of the result is element (axes[0][i], axes[1][j], ...) of an operand of shape `from`, or none
/// where one of those is kNoElement.
IndexMap separable_map(const Shape& from, const AxisIndices& axes);
/// out[output] = in[0] seen through a separable map.
void take_axes(KernelCall& call, std::size_t output, const AxisIndices& axes, const Tensor& fill = {});

/// The result of ONNX Gather along `axis`. Throws Error when an index is out of range.
IndexMap gather_map(const Shape& data, std::size_t axis, const Tensor& indices);

/// The result of GatherElements, and where ScatterElements writes its updates. Throws Error when an index is out of
/// range or the shapes do not fit.
IndexMap gather_elements_map(const Shape& data, std::size_t axis, const Tensor& indices);

/// The result of GatherND, and (with batch_dims 0) where ScatterND writes its updates. The same errors.
IndexMap gather_nd_map(const Shape& data, std::int64_t batch_dims, const Tensor& indices);

/// to[i] = from[map[i]] for elements of any type; where the map says none, the single element of `fill`, or zero (an
/// empty string) when it is undefined. `to` has from's dtype and as many elements as the map.
void take(const Tensor& from, const IndexMap& map, Tensor& to, const Tensor& fill = {});

/// to[map[i]] = from[i], in order. Not for packed 4- and 2-bit types.
void put(const Tensor& from, const IndexMap& map, Tensor& to);

}  // namespace halfstep::ops
