#include "executors/cudnn/generators.h"

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernels/generator_text.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {

Made make_one_hot(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const DType index = context.in(0).dtype, dtype = context.out(0).dtype;
  if (index != DType::i64 && index != DType::i32) return refuse("indices that are neither i64 nor i32");
  if (context.in(2).dtype != dtype || context.in(2).shape.count() != 2) return refuse("values that are not two");
  const Shape& y = context.out(0).shape;
  if (y.count() == 0) return refuse("no elements");
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", -1), y.rank());
  const OneHotArguments a{nullptr, nullptr, nullptr, y.count(), y[axis], y.count(axis + 1, y.rank())};
  if (context.in(0).shape.count() != a.count / a.depth) return refuse("operands that do not fit");
  const auto kernel =
      load_text(context, "one_hot", "OneHotArguments", kOneHotArgumentsText,
                filled(kOneHotText,
                       {{"position", position_of(a.count)}, {"word", word_of(dtype)}, {"index", element_name(index)}}));
  return on_device(context, {.name = "generated: one-hot", .launch = [=](const Launch& l) {
                               OneHotArguments with = a;
                               with.indices = l.in[0];
                               with.values = l.in[2];
                               with.y = l.out[0];
                               kernel->launch(blocks_for(a.count, 256), 256, as_argument(with), l.stream);
                             }});
}

Made make_range(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const DType dtype = context.out(0).dtype;
  if (element_name(dtype).empty() || dtype == DType::boolean) return refuse("numbers of a type without kernels");
  const std::int64_t count = context.out(0).shape.count();
  if (count == 0) return refuse("no elements");
  // In f32 the products would round where those of the reference do not.
  const auto kernel = load_text(context, "range", "RangeArguments", kRangeArgumentsText,
                                filled(kRangeText, {{"element", element_name(dtype)},
                                                    {"wide", is_float(dtype) ? "double" : "i64"},
                                                    {"value", is_float(dtype) ? "float" : "i64"}}));
  return on_device(context, {.name = "generated: range", .launch = [=](const Launch& l) {
                               const RangeArguments a{l.in[0], l.in[2], l.out[0], count};
                               kernel->launch(blocks_for(count, 256), 256, as_argument(a), l.stream);
                             }});
}

}  // namespace halfstep::cudnn
