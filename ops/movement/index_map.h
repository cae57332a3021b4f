// Data movement as index maps from elements of the result to elements of the operand.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/graph/tensor.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

/// For each element of a result, in row-major order, the row-major index of an operand's element; kNoElement if it is
/// none of them.
using IndexMap = std::vector<std::int64_t>;
inline constexpr std::int64_t kNoElement = -1;

/// Element (i, j, ...) of `shape` is the operand's element offset + i * steps[0] + j * steps[1] + ...
IndexMap strided_map(const Shape& shape, const std::vector<std::int64_t>& steps, std::int64_t offset = 0);

/// The axes of an operand of shape `from` in the order `perm`, a permutation.
IndexMap transpose_map(const Shape& from, const std::vector<std::size_t>& perm);

/// For each axis of a result, the element of the operand's axis that each of its elements is, or kNoElement.
using AxisIndices = std::vector<std::vector<std::int64_t>>;
/// start, start + 1, ...: n elements.
std::vector<std::int64_t> counting(std::int64_t n, std::int64_t start = 0);
/// Every element along every axis: the identity, to be modified axis by axis.
AxisIndices all_indices(const Shape& shape);
Shape shape_of(const AxisIndices& axes);
/// Element (i, j, ...) of the result is element (axes[0][i], axes[1][j], ...) of an operand of shape `from`, or none if
/// one of those is kNoElement.
IndexMap separable_map(const Shape& from, const AxisIndices& axes);
/// Sets out[output] to in[0] through a separable map.
void take_axes(KernelCall& call, std::size_t output, const AxisIndices& axes, const Tensor& fill = {});

/// The result of ONNX Gather along `axis`. Throws Error if an index is out of range.
IndexMap gather_map(const Shape& data, std::size_t axis, const Tensor& indices);

/// The result of GatherElements, and the destinations of ScatterElements' updates. Throws Error if an index is out of
/// range or the shapes do not fit.
IndexMap gather_elements_map(const Shape& data, std::size_t axis, const Tensor& indices);

/// The result of GatherND, and (with batch_dims 0) the destinations of ScatterND's updates. The same errors.
IndexMap gather_nd_map(const Shape& data, std::int64_t batch_dims, const Tensor& indices);

/// to[i] = from[map[i]] for elements of any type; for kNoElement the single element of `fill`, or zero (an empty
/// string) if that is undefined. `to` has from's dtype and as many elements as the map.
void take(const Tensor& from, const IndexMap& map, Tensor& to, const Tensor& fill = {});

/// to[map[i]] = from[i], in order. Not for packed 4- and 2-bit types.
void put(const Tensor& from, const IndexMap& map, Tensor& to);

}  // namespace halfstep::ops
