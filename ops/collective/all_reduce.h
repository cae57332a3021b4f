// The operators by which the ranks that train a model together add up their gradients. By themselves they join tensors
// and take them apart again, which is what they are on one rank; executors that take part in a group (see
// halfstep/executors/ranks.h) reduce what is between. For parameters see gather_from_ranks.h.
#pragma once

#include <cstdint>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/ops/op_def.h>

namespace onnx {
class OpSchema;
}

namespace halfstep {

/// (after, tensors...) to their elements one behind the other, of which the reduction is started. `after`, the result
/// of the one that every rank starts before, may be absent.
bool starts_all_reduce(const Node& node);
/// The result of the one that starts to the tensors that it was made of, reduced.
bool finishes_all_reduce(const Node& node);
/// Nodes like that are never removed, repeated or computed in advance: every rank has the same ones in the same order.
bool is_collective(const Node& node);

/// The first operand that is a tensor to reduce.
inline constexpr std::size_t kFirstReduced = 1;

/// Of one that finishes: what its attribute `shapes` holds of these, and back.
std::vector<std::int64_t> flattened(const std::vector<Shape>& shapes);
/// Throws Error(input) for a list that is none.
std::vector<Shape> unflattened(const std::vector<std::int64_t>& list);

}  // namespace halfstep

namespace halfstep::ops {

std::span<const OpDef> collective_ops();

void start_all_reduce_schema(onnx::OpSchema& schema);
void finish_all_reduce_schema(onnx::OpSchema& schema);

}  // namespace halfstep::ops
