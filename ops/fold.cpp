#include "ops/fold.h"

#include <algorithm>

#include "graph/bodies.h"
#include "ops/collective/all_reduce.h"
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

// Folding must not turn a few bytes into gigabytes (ConstantOfShape, Expand): larger results stay nodes unless they are
// no larger than their operands.
constexpr std::size_t kMaxFoldedBytes = std::size_t{16} << 20;

}  // namespace

bool is_deterministic(const Node& node) { return !traits_of(node).random && !is_collective(node); }

bool fold_node(Graph& graph, const Node& node) {
  if (node.outputs.empty() || !is_deterministic(node) || has_body(node)) return false;
  const OpDef* row = find_op(node.op, node.domain);
  if (!row || !row->reference) return false;
  std::size_t in_bytes = 0, out_bytes = 0;
  std::vector<Tensor> in, out;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId id = node.inputs[i];
    if (id == kNoValue) {
      in.emplace_back();
    } else if (graph[id].is_constant()) {
      in.push_back(graph[id].constant);
      in_bytes += in.back().bytes();
    } else if (row->traits.operands[i] == OperandRole::shape_only && graph[id].shape.is_static()) {
      static std::byte unread;
      in.push_back(Tensor::view(DType::u8, graph[id].shape, &unread));
    } else {
      return false;
    }
  }
  for (ValueId id : node.outputs) {
    if (id != kNoValue && graph[id].shape.is_static() && graph[id].dtype != DType::undefined) {
      out_bytes += bytes_of(graph[id].dtype, graph[id].shape);
      if (out_bytes > std::max(kMaxFoldedBytes, in_bytes)) return false;
      out.emplace_back(graph[id].dtype, graph[id].shape);
    } else {
      out.emplace_back();
    }
  }
  KernelCall call{node, in, out};
  row->reference(call);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    Value& value = graph[node.outputs[i]];
    value.constant = out[i];
    value.dtype = out[i].dtype();
    value.shape = out[i].shape();
  }
  return true;
}

}  // namespace halfstep
