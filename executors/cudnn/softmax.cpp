// Makers of softmax and its relatives.
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/row_functions.h"
#include "executors/cudnn/row_text.h"

namespace halfstep::cudnn {
namespace {

constexpr std::string_view kSumText = R"text(
struct Accumulator { float value; };
static __device__ __forceinline__ Accumulator identity() { Accumulator none; none.value = 0; return none; }
static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) { a.value += b.value; return a; }
)text";

RowFunction function_of(const Node& node, DType dtype) {
  RowFunction f{.name = "softmax", .elements = {dtype}, .result = dtype};
  if (node.op == "Softmax" || node.op == "LogSoftmax") {
    const bool is_log = node.op == "LogSoftmax";
    f.accumulator = kScaledSumText;
    f.gather = kGatherSoftmax;
    f.before = is_log ? "const float log_sum = log_of(acc);" : "const float scale = 1.0f / acc.sum;";
    f.value = is_log ? "x0 - log_sum" : "expf(x0 - acc.maximum) * scale";
    return f;
  }
  const bool is_log = node.op == "LogSoftmaxGrad";
  f.elements.push_back(dtype);  // dy and y
  f.accumulator = kSumText;
  f.gather = is_log ? "acc.value += x0;" : "acc.value += x0 * x1;";
  f.value = is_log ? "x0 - expf(x1) * acc.value" : "x1 * (x0 - acc.value)";
  return f;
}

Made along_axis(KernelContext& context, const RowFunction& function) {
  const Node& node = context.node();
  const Shape& shape = context.in(0).shape;
  if (float_name(context.in(0).dtype).empty())
    return refuse("no kernel for " + std::string(name_of(context.in(0).dtype)));
  for (std::size_t i = 1; i < node.inputs.size(); ++i)
    if (context.in(i).shape != shape || context.in(i).dtype != context.in(0).dtype)
      return refuse("operands that do not fit");
  const auto rows = rows_along(shape, normalize_axis(node.attributes.get_int("axis", -1), shape.rank()));
  if (!rows) return refuse("more than 8 axes remain after merging");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const RowKernel kernel(context, function, *rows);
  const auto launch = [=, has_two = node.inputs.size() > 1](const Launch& l) {
    if (has_two)
      kernel.launch({l.in[0], l.in[1]}, {l.out[0]}, nullptr, l.stream);
    else
      kernel.launch({l.in[0]}, {l.out[0]}, nullptr, l.stream);
  };
  return on_device(context, {.name = "generated: softmax", .launch = launch, .overwrites = {0}});
}

}  // namespace

Made make_softmax(KernelContext& context) {
  return along_axis(context, function_of(context.node(), context.in(0).dtype));
}

Made make_hardmax(KernelContext& context) {
  const DType dtype = context.in(0).dtype;
  RowFunction f{.name = "hardmax", .elements = {dtype}, .result = dtype};
  f.accumulator = filled(kExtremumText, {{"type", "float"}, {"better", ">"}, {"last", "false"}});
  f.gather = "Accumulator one; one.at = j; one.value = x0; one.unused = 0; acc = join(acc, one);";
  f.value = "j == acc.at ? 1.0f : 0.0f";
  return along_axis(context, f);
}

}  // namespace halfstep::cudnn
