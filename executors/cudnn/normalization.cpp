// Makers of normalizations and their gradients, by generated kernels.
#include <limits>

#include <fmt/format.h>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/normalization_text.h"
#include "executors/cudnn/text_kernel.h"
#include "ops/epilogue.h"

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;

/// The types that a normalization's text is for; `refusal` where it is for none.
struct Types {
  std::string_view element, parameter;
  std::string refusal = {};
};
/// Of operand `x` and the parameters from `first` up to `last`, absent ones left out.
Types types_of(KernelContext& context, std::size_t x, std::size_t first, std::size_t last) {
  Types types{float_name(context.in(x).dtype), float_name(context.in(first).dtype)};
  if (types.element.empty() || types.parameter.empty()) types.refusal = "types that are not f32, f16 or bf16";
  for (std::size_t i = first; i < last && i < context.node().inputs.size(); ++i)
    if (context.has_input(i) && context.in(i).dtype != context.in(first).dtype)
      types.refusal = "parameters of several types";
  if (types.refusal.empty()) types.refusal = generation_refusal();
  return types;
}

std::shared_ptr<const LoadedKernel> load(KernelContext& context, const char* name, const Types& types,
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

/// [N, C, D1, ...] as channels; one of a single axis has one channel.
NormalizationArguments channels_of(KernelContext& context, const Shape& x) {
  NormalizationArguments a{};
  a.rows = x.rank() > 1 ? x[1] : 1;
  a.plane = x.rank() > 2 ? x.count(2, x.rank()) : 1;
  a.length = x.count() / a.rows;
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  a.momentum = context.node().attributes.get_float("momentum", 0.9F);
  a.is_training = context.node().attributes.get_int("training_mode", 0) != 0;
  return a;
}

/// A block for every channel.
Made by_channel(KernelContext& context, const std::shared_ptr<const LoadedKernel>& kernel,
                const NormalizationArguments& a, std::vector<int> overwrites) {
  return on_device(context, {.name = "generated: normalization",
                             .launch =
                                 [=](const Launch& l) {
                                   kernel->launch(blocks_for(a.rows, 1), kThreads, as_argument(with_addresses(a, l)),
                                                  l.stream);
                                 },
                             .overwrites = std::move(overwrites)});
}

constexpr std::int64_t kMaxLength = std::numeric_limits<std::int32_t>::max();

}  // namespace

Made make_layer_normalization(KernelContext& context) {
  const Types types = types_of(context, 0, 1, 3);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const Shape& x = context.in(0).shape;
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", -1), x.rank());
  NormalizationArguments a{};
  a.length = x.count(axis, x.rank());
  a.rows = x.count() / a.length;
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  const auto is_row = [&](std::size_t i) {
    return !context.has_input(i) ||
           (context.in(i).shape.count() == a.length && context.in(i).shape.rank() <= x.rank() - axis);
  };
  if (!is_row(1) || !is_row(2)) return refuse("a scale or bias that is not one row");
  for (std::size_t i = 1; i < context.node().outputs.size(); ++i)
    if (context.node().output(i) != kNoValue && context.out(i).dtype != DType::f32)
      return refuse("statistics that are not f32");
  const auto kernel = load(context, "layer_norm", types, {kRowSumText, kLayerNormText});
  return by_channel(context, kernel, a, {});
}

Made make_group_normalization(KernelContext& context) {
  const Types types = types_of(context, 0, 1, 3);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const Shape& x = context.in(0).shape;
  if (x.rank() < 2) return refuse("no channels");
  NormalizationArguments a{};
  a.groups = context.node().attributes.get_int("num_groups", x[1]);  // of an InstanceNormalization each channel is one
  if (a.groups < 1 || x[1] % a.groups != 0) return refuse("groups that are not of as many channels");
  for (std::size_t i = 1; i < 3; ++i)
    if (context.in(i).shape.count() != x[1]) return refuse("parameters that are not one for each channel");
  a.rows = x[0] * a.groups;
  a.length = x.count() / a.rows;
  a.plane = x.count(2, x.rank());
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  const auto kernel = load(context, "group_norm", types, {kRowSumText, kGroupNormText});
  return by_channel(context, kernel, a, {});
}

Made make_layer_normalization_grad(KernelContext& context) {
  const Types types = types_of(context, 1, 2, 3);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const Shape& x = context.in(1).shape;
  if (context.in(0).shape != x || context.in(0).dtype != context.in(1).dtype || x.rank() == 0 ||
      context.in(2).shape.count() != x.dim(-1))
    return refuse("operands that do not fit");
  NormalizationArguments a{};
  a.length = x.dim(-1);
  a.rows = x.count() / a.length;
  a.epsilon = context.node().attributes.get_float("epsilon", 1e-5F);
  const auto rows = load(context, "layer_norm_grad", types, {kRowSumText, kLayerNormGradText});
  const auto columns = load(context, "layer_norm_grad_columns", types, {kLayerNormGradColumnsText});
  const auto launch = [=](const Launch& l) {
    const NormalizationArguments with = with_addresses(a, l);
    rows->launch(blocks_for(a.rows, 1), kThreads, as_argument(with), l.stream);
    columns->launch(blocks_for(a.length, 32), kThreads, as_argument(with), l.stream);
  };
  return on_device(context, {.name = "generated: normalization",
                             .launch = launch,
                             .scratch_bytes = static_cast<std::size_t>(a.rows) * 2 * sizeof(float)});
}

Made make_batch_normalization(KernelContext& context) {
  const Types types = types_of(context, 0, 1, 5);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const NormalizationArguments a = channels_of(context, context.in(0).shape);
  if (a.length > kMaxLength) return refuse("channels of 2^31 elements or more");
  for (std::size_t i = 1; i < 5; ++i)
    if (context.in(i).shape.count() != a.rows) return refuse("parameters that are not one for each channel");
  if (ops::epilogue_of(context.node().attributes)) return refuse("a normalization with an activation");
  const auto kernel = load(context, "batch_norm", types, {kRowSumText, kChannelText, kBatchNormText});
  return by_channel(context, kernel, a, {-1, 3, 4});
}

Made make_batch_normalization_grad(KernelContext& context) {
  const Types types = types_of(context, 1, 2, 5);
  if (!types.refusal.empty()) return refuse(types.refusal);
  const NormalizationArguments a = channels_of(context, context.in(1).shape);
  if (a.length > kMaxLength) return refuse("channels of 2^31 elements or more");
  if (context.in(0).shape != context.in(1).shape || context.in(0).dtype != context.in(1).dtype ||
      context.in(2).shape.count() != a.rows)
    return refuse("operands that do not fit");
  if (!a.is_training && !(context.node().inputs.size() > 4 && context.has_input(3) && context.has_input(4)))
    return refuse("no mean and variance");
  if (ops::epilogue_of(context.node().attributes)) return refuse("a normalization with an activation");
  const auto kernel = load(context, "batch_norm_grad", types, {kRowSumText, kChannelText, kBatchNormGradText});
  return by_channel(context, kernel, a, {});
}

}  // namespace halfstep::cudnn
