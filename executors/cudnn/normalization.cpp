// Makers of normalizations of rows and their gradients, by generated kernels.
#include "executors/cudnn/normalization.h"

#include <numeric>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/row_normalization_text.h"
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

/// How threads share rows, by the shape alone, so that no device gives other bits.
struct RowSharing {
  std::int64_t lanes = 32, vector = 1, pieces = 0;  ///< L, V and P of the texts

  std::int64_t rows_per_block() const { return kNormalizationThreads / lanes; }
};
/// Of rows in which so many elements lie together.
RowSharing sharing_of(DType element, std::int64_t together, std::int64_t length) {
  constexpr std::int64_t kMostKept = 24;  // elements of a row by one thread, in registers
  RowSharing sharing;
  sharing.vector = std::gcd(together, 16 / static_cast<std::int64_t>(bytes_of(element, 1)));
  const std::int64_t pieces = length / sharing.vector, most = kMostKept / sharing.vector;
  while (sharing.lanes < kNormalizationThreads && pieces > sharing.lanes * most) sharing.lanes *= 2;
  const std::int64_t each = pieces_of(pieces, sharing.lanes);
  if (each <= most) sharing.pieces = each;
  return sharing;
}

std::shared_ptr<const LoadedKernel> load_rows(KernelContext& context, const char* name, const NormalizationTypes& types,
                                              const RowSharing& sharing, std::string_view place,
                                              std::string_view text) {
  const std::string all = filled(filled(std::string(kRowText) + std::string(text), {{"place", place}}),
                                 {{"lanes", std::to_string(sharing.lanes)},
                                  {"vector", std::to_string(sharing.vector)},
                                  {"pieces", std::to_string(sharing.pieces)},
                                  {"position", position_of(context.in(0).shape.count())}});
  return load_normalization(context, name, types, {kMomentsText, all});
}

/// Operand and result lie in that layout.
Made normalize_rows(KernelContext& context, const char* name, const NormalizationTypes& types,
                    const NormalizationArguments& a, const RowPlaces& places, std::int64_t together,
                    const core::Layout& layout = {}) {
  const RowSharing sharing = sharing_of(context.in(0).dtype, together, a.length);
  const std::string text =
      filled(kRowNormText, {{"name", name}, {"first", places.first}, {"parameters", places.parameters}});
  const auto kernel = load_rows(context, name, types, sharing, places.place, text);
  return on_device(context, {.name = "generated: normalization",
                             .launch =
                                 [=](const Launch& l) {
                                   kernel->launch(blocks_for(a.rows, static_cast<unsigned>(sharing.rows_per_block())),
                                                  kNormalizationThreads, as_argument(with_addresses(a, l)), l.stream);
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
  return normalize_rows(context, "layer_norm", types, a, kLayer, a.length);
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
  if (layout.is_row_major()) return normalize_rows(context, "group_norm", types, a, kGroup, a.plane);
  return normalize_rows(context, "group_norm", types, a, kGroupTogether, x[1] / a.groups, layout);
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
  const RowSharing sharing = sharing_of(context.in(1).dtype, a.length, a.length);
  // Rows of a block: few enough blocks for what they leave to be joined, enough for a whole device.
  constexpr std::int64_t kBlocks = 512;
  a.chunk = pieces_of(pieces_of(a.rows, kBlocks), sharing.rows_per_block()) * sharing.rows_per_block();
  a.groups = pieces_of(a.rows, a.chunk);
  const bool has_sums = sharing.pieces > 0 && (context.has_output(1) || context.has_output(2));
  const std::string_view sums = has_sums ? "true" : "false";
  const auto rows =
      load_rows(context, "layer_norm_grad", types, sharing, "i", filled(kLayerNormGradText, {{"sums", sums}}));
  const auto columns = load_normalization(context, "layer_norm_grad_columns", types,
                                          {filled(kLayerNormGradColumnsText, {{"sums", sums}})});
  const auto launch = [=](const Launch& l) {
    const NormalizationArguments with = with_addresses(a, l);
    rows->launch(blocks_for(a.groups, 1), kNormalizationThreads, as_argument(with), l.stream);
    if (with.out[1] || with.out[2])
      columns->launch(blocks_for(a.length, 32), kNormalizationThreads, as_argument(with), l.stream);
  };
  const std::int64_t kept = has_sums ? a.groups * a.length : a.rows;
  return on_device(context, {.name = "generated: normalization",
                             .launch = launch,
                             .scratch_bytes = static_cast<std::size_t>(kept) * 2 * sizeof(float)});
}

}  // namespace halfstep::cudnn
