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

namespace {

Made make_diagonal(KernelContext& context, std::string_view element, std::string_view keeps, std::string_view value,
                   std::string_view zero, std::int64_t diagonal) {
  const Shape& y = context.out(0).shape;
  if (y.rank() < 2 || y.count() == 0) return refuse("no matrix with elements");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const std::int64_t count = y.count(), rows = y.dim(-2), columns = y.dim(-1);
  const auto kernel = load_text(context, "diagonal", "DiagonalArguments", kDiagonalArgumentsText,
                                filled(kDiagonalText, {{"position", position_of(count)},
                                                       {"element", element},
                                                       {"keeps", keeps},
                                                       {"value", value},
                                                       {"zero", zero}}));
  return on_device(context, {.name = "generated: diagonal", .launch = [=](const Launch& l) {
                               const DiagonalArguments a{l.in[0], l.out[0], count, rows, columns, diagonal};
                               kernel->launch(blocks_for(count, 256), 256, as_argument(a), l.stream);
                             }});
}

}  // namespace

Made make_trilu(KernelContext& context) {
  std::int64_t diagonal = 0;
  if (context.has_input(1)) {
    const auto given = context.constant_ints(1);
    if (!given || given->size() != 1) return refuse("a diagonal that is computed");
    diagonal = (*given)[0];
  }
  const bool is_upper = context.node().attributes.get_int("upper", 1) != 0;
  if (bytes_of(context.in(0).dtype, 1) > 8) return refuse("elements of more than 8 bytes");
  return make_diagonal(context, word_of(context.in(0).dtype), is_upper ? "above >= a.diagonal" : "above <= a.diagonal",
                       "x[i]", "0", diagonal);
}

Made make_eye_like(KernelContext& context) {
  const std::string element(element_name(context.out(0).dtype));
  if (element.empty()) return refuse("elements of a type without kernels");
  const std::string number = "round_to<" + element + ">";
  return make_diagonal(context, element, "above == a.diagonal", number + "(1)", number + "(0)",
                       context.node().attributes.get_int("k", 0));
}

Made make_rotary_embedding(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const Attributes& attributes = context.node().attributes;
  const Shape &x = context.in(0).shape, &cache = context.in(1).shape;
  const DType dtype = context.in(0).dtype;
  const bool has_positions = context.has_input(3);
  if (float_name(dtype).empty() || context.in(1).dtype != dtype || context.in(2).dtype != dtype)
    return refuse("elements that are not f32, f16 or bf16");
  if (has_positions && context.in(3).dtype != DType::i64) return refuse("positions that are not i64");
  RotaryArguments a{};
  a.is_packed = x.rank() == 3;
  a.is_interleaved = attributes.get_int("interleaved", 0) != 0;
  a.heads = a.is_packed ? attributes.get_int("num_heads", 0) : x.rank() == 4 ? x[1] : 0;
  if (a.heads < 1 || x.count() == 0 || (a.is_packed && x[2] % a.heads != 0)) return refuse("no heads");
  a.count = x.count();
  a.steps = x[a.is_packed ? 1 : 2];
  a.head = a.is_packed ? x[2] / a.heads : x[3];
  const std::int64_t turned = attributes.get_int("rotary_embedding_dim", 0);
  a.pairs = (turned == 0 ? a.head : turned) / 2;
  if (turned < 0 || turned > a.head || (turned == 0 ? a.head : turned) % 2 != 0) return refuse("elements in no pairs");
  a.cache = has_positions && cache.rank() == 2 ? cache[0] : 0;
  const Shape wanted = has_positions ? Shape{a.cache, a.pairs} : Shape{x[0], a.steps, a.pairs};
  if (cache != wanted || context.in(2).shape != wanted || !context.fits(3, {x[0], a.steps}))
    return refuse("operands that do not fit");
  const auto kernel = load_text(context, "rotary", "RotaryArguments", kRotaryArgumentsText,
                                filled(kRotaryText, {{"element", element_name(dtype)}}));
  return on_device(context, {.name = "generated: rotary embedding", .launch = [=](const Launch& l) {
                               RotaryArguments with = a;
                               with.x = l.in[0];
                               with.cosines = l.in[1];
                               with.sines = l.in[2];
                               with.positions = l.input<void>(3);
                               with.y = l.out[0];
                               kernel->launch(blocks_for(a.count, 256), 256, as_argument(with), l.stream);
                             }});
}

}  // namespace halfstep::cudnn
