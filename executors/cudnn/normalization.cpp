// Makers of normalizations of rows and their gradients, by generated kernels.
#include "executors/cudnn/normalization.h"

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/normalization/one_row.h"

namespace halfstep::cudnn {

NormalizationTypes normalization_types(KernelContext& context, std::size_t x, std::size_t first, std::size_t last) {
  NormalizationTypes types{float_name(context.in(x).dtype), float_name(context.in(first).dtype)};
  if (types.element.empty() || types.parameter.empty()) types.refusal = "types that are not f32, f16 or bf16";
  for (std::size_t i = first; i < last && i < context.node().inputs.size(); ++i)
    if (context.has_input(i) && context.in(i).dtype != context.in(first).dtype)
      types.refusal = "parameters of several types";
  if (types.refusal.empty()) types.refusal = generation_refusal();
  return types;
}

std::shared_ptr<const LoadedKernel> load_normalization(KernelContext& context, const char* name,
                                                       const NormalizationTypes& types,
                                                       std::initializer_list<std::string_view> texts) {
  std::string all;
  for (const std::string_view text : texts) all += text;
  return load_text(context, name, "NormalizationArguments", kNormalizationArgumentsText,
                   filled(all, {{"element", types.element}, {"parameter", types.parameter}}));
}

NormalizationArguments with_addresses(NormalizationArguments a, const Launch& l) {
  for (std::size_t i = 0; i < l.in.size() && i < std::size(a.in); ++i) a.in[i] = l.in[i];
  for (std::size_t i = 0; i < l.out.size() && i < std::size(a.out); ++i) a.out[i] = l.out[i];
  a.scratch = l.scratch;
  return a;
}

namespace {

std::shared_ptr<const LoadedKernel> load_row_norm(KernelContext& context, const char* name,
                                                  const NormalizationTypes& types, const RowPlaces& places) {
  const std::string text =
      filled(kRowNormText, {{"name", name}, {"first", places.first}, {"at", places.at}, {"channel", places.channel}});
  return load_normalization(context, name, types, {kRowSumText, text});
}

/// A block for every row; operand and result lie in that layout.
Made by_row(KernelContext& context, const std::shared_ptr<const LoadedKernel>& kernel, const NormalizationArguments& a,
            const core::Layout& layout = {}) {
  return on_device(context, {.name = "generated: normalization",
                             .launch =
                                 [=](const Launch& l) {
                                   kernel->launch(blocks_for(a.rows, 1), kNormalizationThreads,
                                                  as_argument(with_addresses(a, l)), l.stream);
                                 },
                             .in_layouts = {layout},
                             .out_layouts = {layout}});
}

}  // namespace

Made make_layer_normalization(KernelContext& context) {
  const NormalizationTypes types = normalization_types(context, 0, 1, 3);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const Shape& x = context.in(0).shape;
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", -1), x.rank());
  NormalizationArguments a{};
  a.length = x.count(axis, x.rank());
  a.rows = x.count() / a.length;
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  const auto is_row = [&](std::size_t i) {
    return !context.has_input(i) || ops::is_one_row(context.in(i).shape, x, axis);
  };
  if (!is_row(1) || !is_row(2)) return refuse("a scale or bias that is not one row");
  for (std::size_t i = 1; i < context.node().outputs.size(); ++i)
    if (context.node().output(i) != kNoValue && context.out(i).dtype != DType::f32)
      return refuse("statistics that are not f32");
  return by_row(context, load_row_norm(context, "layer_norm", types, kLayer), a);
}

Made make_group_normalization(KernelContext& context) {
  const NormalizationTypes types = normalization_types(context, 0, 1, 3);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const Shape& x = context.in(0).shape;
  if (x.rank() < 2) return refuse("no channels");
  NormalizationArguments a{};
  a.groups = context.node().attributes.get_int("num_groups", x[1]);  // of an InstanceNormalization each channel is one
  if (a.groups < 1 || x[1] % a.groups != 0) return refuse("groups that are not of as many channels");
  for (std::size_t i = 1; i < 3; ++i)
    if (!context.fits(i, {x[1]})) return refuse("parameters that are not one for each channel");
  a.rows = x[0] * a.groups;
  a.length = x.count() / a.rows;
  a.plane = x.count(2, x.rank());
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  const core::Layout layout = layout_in(order_of(context.layout(0)), x);
  const RowPlaces& places = layout.is_row_major() ? kGroup : kGroupTogether;
  return by_row(context, load_row_norm(context, "group_norm", types, places), a, layout);
}

Made make_layer_normalization_grad(KernelContext& context) {
  const NormalizationTypes types = normalization_types(context, 1, 2, 3);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const Shape& x = context.in(1).shape;
  if (context.in(0).shape != x || context.in(0).dtype != context.in(1).dtype || x.rank() == 0 ||
      !ops::is_one_row(context.in(2).shape, x, x.rank() - 1))
    return refuse("operands that do not fit");
  NormalizationArguments a{};
  a.length = x.dim(-1);
  a.rows = x.count() / a.length;
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  const auto rows = load_normalization(context, "layer_norm_grad", types, {kRowSumText, kLayerNormGradText});
  const auto columns = load_normalization(context, "layer_norm_grad_columns", types, {kLayerNormGradColumnsText});
  const auto launch = [=](const Launch& l) {
    const NormalizationArguments with = with_addresses(a, l);
    rows->launch(blocks_for(a.rows, 1), kNormalizationThreads, as_argument(with), l.stream);
    columns->launch(blocks_for(a.length, 32), kNormalizationThreads, as_argument(with), l.stream);
  };
  return on_device(context, {.name = "generated: normalization",
                             .launch = launch,
                             .scratch_bytes = static_cast<std::size_t>(a.rows) * 2 * sizeof(float)});
}

}  // namespace halfstep::cudnn
