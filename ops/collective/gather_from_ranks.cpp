#include "ops/collective/gather_from_ranks.h"

#include <cstring>

#include <fmt/format.h>

#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep {

bool gathers_from_ranks(const Node& node) { return node.is_own("GatherFromRanks"); }

GatherOperands::GatherOperands(const Node& node) : owners(node.attributes.get_ints("owners")) {
  if (owners.size() != node.outputs.size() || node.inputs.size() < sent + owners.size())
    throw_input_error(fmt::format("an owner and an operand for each of {} tensors", node.outputs.size()),
                      fmt::format("{} owners and {} operands", owners.size(), node.inputs.size()), "");
  taken = node.inputs.size() - owners.size();
}

namespace ops {

void gather_from_ranks_kernel(KernelCall& call) {
  const GatherOperands operands(call.node);
  for (std::size_t i = 0; i < operands.owners.size(); ++i) {
    const Tensor& tensor = call.in[operands.taken + i];
    if (!call.has_out(i)) continue;
    Tensor& out = ensure_out(call, i, tensor.dtype(), tensor.shape());
    if (tensor.bytes() > 0) std::memcpy(out.raw(), tensor.raw(), tensor.bytes());
  }
}

namespace {

void infer(onnx::InferenceContext& ctx) {
  if (ctx.getNumInputs() < 1 + ctx.getNumOutputs()) fail_shape_inference("expected an operand for each output");
  const std::size_t taken = ctx.getNumInputs() - ctx.getNumOutputs();
  for (std::size_t i = 0; i < ctx.getNumOutputs(); ++i) propagate(ctx, taken + i, i);
}

}  // namespace

void gather_from_ranks_schema(onnx::OpSchema& schema) {
  using onnx::OpSchema;
  constrain_floats(schema, "T", "Type of the tensors.");
  constrain_floats(schema, "A", "Type of what is waited for.");
  schema.Attr("owners", "For each output the rank that sends it.", onnx::AttributeProto::INTS)
      .Input(0, "after", "Result of the reduction that every rank starts before.", "A", OpSchema::Optional)
      .Input(1, "tensors", "The tensors that this rank sends, then those that it takes, as they are now.", "T",
             OpSchema::Variadic, false)
      .Output(0, "taken", "The latter, each as its owner has sent it.", "T", OpSchema::Variadic, false)
      .TypeAndShapeInferenceFunction(infer);
}

}  // namespace ops
}  // namespace halfstep
