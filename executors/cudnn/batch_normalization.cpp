// Makers of BatchNormalization, alone and with an addition and a clamp behind it, and of its gradient, by generated
// kernels.
#include <algorithm>
#include <initializer_list>
#include <limits>

#include "executors/core/same_elements.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/normalization.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/epilogue.h"

namespace halfstep::cudnn {
namespace {

using Kernel = std::shared_ptr<const LoadedKernel>;

constexpr const char* kName = "generated: normalization";
constexpr std::int64_t kMaxLength = std::numeric_limits<std::int32_t>::max();

/// How the channels of [N, C, D1, ...] lie, or why there is no kernel; one axis alone has one channel.
struct Channels {
  std::string refusal = {};
  NormalizationTypes types;
  NormalizationArguments arguments{};
  TensorOrder order = TensorOrder::row_major;
  bool are_together = false;

  std::size_t saved_bytes() const { return static_cast<std::size_t>(arguments.rows) * 2 * sizeof(float); }
  /// Of what the chunks gather, and their sums behind it.
  std::size_t partial_bytes() const { return saved_bytes() * static_cast<std::size_t>(arguments.groups + 1); }
};

/// `x`, `parameters`: operands; parameters end before `last`.
Channels channels_of(KernelContext& context, std::size_t x_at, std::size_t parameters, std::size_t last,
                     TensorOrder order) {
  const Attributes& attributes = context.node().attributes;
  const Shape& x = context.in(x_at).shape;
  Channels made{.types = normalization_types(context, x_at, parameters, last), .order = order};
  NormalizationArguments& a = made.arguments;
  a.rows = x.rank() > 1 ? x[1] : 1;
  a.plane = x.rank() > 2 ? x.count(2, x.rank()) : 1;
  a.length = x.count() / a.rows;
  a.epsilon = attributes.get_float("epsilon", 1e-5F);
  a.momentum = attributes.get_float("momentum", 0.9F);
  a.is_training = attributes.get_int("training_mode", 0) != 0;
  const ops::Clamp clamp = ops::clamp_of(attributes).value_or(ops::Clamp());
  a.low = clamp.low;
  a.high = clamp.high;
  a.least = clamp.least_passing();
  made.refusal = made.types.refusal;
  if (a.length > kMaxLength) made.refusal = "channels of 2^31 elements or more";
  for (std::size_t i = parameters; i < std::min(last, context.node().inputs.size()); ++i)
    if (!context.fits(i, {a.rows})) made.refusal = "parameters that are not one for each channel";

  made.are_together = order == TensorOrder::channels_last || (a.plane == 1 && a.rows > 1);
  // Enough blocks for a whole device, chunks that are worth one.
  constexpr std::int64_t kBlocks = 1024, kLeastChunk = 64;
  const std::int64_t groups = std::max<std::int64_t>(kBlocks / ((a.rows + 31) / 32), 1);
  a.chunk = std::max<std::int64_t>((a.length + groups - 1) / groups, kLeastChunk);
  a.groups = (a.length + a.chunk - 1) / a.chunk;
  return made;
}

/// Mean and variance of the channels of operand `x`, put where `saved` is.
struct GatherMoments {
  Kernel gather, join;

  GatherMoments(KernelContext& context, const NormalizationTypes& types, std::string_view x, std::string_view running)
      : gather(load_normalization(context, "gather_moments", types,
                                  {kRowSumText, kBatchText, kTogetherText, filled(kGatherMomentsText, {{"x", x}})})),
        join(load_normalization(
            context, "join_moments", types,
            {kRowSumText, kBatchText, kTogetherText, filled(kJoinMomentsText, {{"running", running}})})) {}

  void operator()(const NormalizationArguments& a, cudaStream_t stream) const {
    gather->launch(blocks_for((a.rows + 31) / 32 * a.groups, 1), kNormalizationThreads, as_argument(a), stream);
    join->launch(blocks_for(a.rows, kNormalizationThreads), kNormalizationThreads, as_argument(a), stream);
  }
};

using LaunchWith = std::function<void(const NormalizationArguments&, cudaStream_t)>;

Made with_saved(KernelContext& context, const Channels& channels, core::BufferId saved, LaunchWith launch,
                std::size_t scratch, std::vector<int> overwrites, const core::Layout& layout,
                std::initializer_list<std::size_t> elements) {
  std::vector<core::Layout> in_layouts(context.node().inputs.size());
  for (const std::size_t i : elements)
    if (i < in_layouts.size()) in_layouts[i] = layout;
  return on_device(
      context, {.name = kName,
                .launch =
                    [=, arguments = channels.arguments](const Launch& l) {
                      NormalizationArguments a = with_addresses(arguments, l);
                      a.saved = l.kept.empty() ? nullptr : static_cast<float*>(l.kept[0]);
                      launch(a, l.stream);
                    },
                .scratch_bytes = scratch,
                .overwrites = std::move(overwrites),
                .in_layouts = std::move(in_layouts),
                .out_layouts = {layout},
                .kept = saved == core::kNoBuffer ? std::vector<core::BufferId>() : std::vector<core::BufferId>{saved}});
}

}  // namespace

Made make_batch_normalization(KernelContext& context) {
  const Channels channels = channels_of(context, 0, 1, 5, order_of(context.layout(0)));
  if (!channels.refusal.empty()) return refuse(channels.refusal);
  const bool has_addition = context.node().inputs.size() > 5 && context.has_input(5);
  if (has_addition && (!context.fits(5, context.in(0).shape) || context.in(5).dtype != context.in(0).dtype))
    return refuse("an addition that does not fit");
  const bool is_training = channels.arguments.is_training != 0;
  const core::Layout layout = layout_in(channels.order, context.in(0).shape);
  LaunchWith launch;
  if (channels.are_together) {
    std::optional<GatherMoments> moments;
    if (is_training) moments.emplace(context, channels.types, "0", "update_running(a, c, m);");
    const Kernel normalize = load_normalization(context, "normalize", channels.types,
                                                {kRowSumText, kBatchText, kTogetherText, kNormalizeText});
    launch = [=](const NormalizationArguments& a, cudaStream_t stream) {
      if (moments) (*moments)(a, stream);
      normalize->launch(blocks_for((a.rows + 31) / 32 * a.groups, 1), kNormalizationThreads, as_argument(a), stream);
    };
  } else {
    launch = [kernel = load_normalization(context, "batch_norm", channels.types,
                                          {kRowSumText, kBatchText, kChannelText, kBatchNormText})](
                 const NormalizationArguments& a, cudaStream_t stream) {
      kernel->launch(blocks_for(a.rows, 1), kNormalizationThreads, as_argument(a), stream);
    };
  }
  core::BufferId saved = core::kNoBuffer;
  if (is_training && (channels.are_together || context.has_gradient())) {
    saved = context.keep(channels.saved_bytes());
    core::ForwardRecord& record = context.own_record();
    record.mean = {saved, DType::f32, Shape{channels.arguments.rows, 2}, {}};
    record.source = layout;
  }
  return with_saved(context, channels, saved, std::move(launch),
                    channels.are_together && is_training ? channels.partial_bytes() : 0, {-1, 3, 4}, layout, {0, 5});
}

Made make_batch_normalization_grad(KernelContext& context) {
  const bool is_training = context.node().attributes.get_int("training_mode", 0) != 0;
  const core::ForwardRecord* record = is_training ? core::forward_statistics(context) : nullptr;
  const Channels channels = channels_of(context, 1, 2, 6, order_of(record ? record->source : context.layout(1)));
  if (!channels.refusal.empty()) return refuse(channels.refusal);
  if (context.in(0).shape != context.in(1).shape || context.in(0).dtype != context.in(1).dtype)
    return refuse("operands that do not fit");
  if (!is_training && !(context.node().inputs.size() > 4 && context.has_input(3) && context.has_input(4)))
    return refuse("no mean and variance");
  if (ops::clamp_of(context.node().attributes) && !(context.node().inputs.size() > 5 && context.has_input(5)))
    return refuse("an activation without the normalization's bias");
  const core::Layout layout = layout_in(channels.order, context.in(1).shape);
  LaunchWith launch;
  if (channels.are_together) {
    std::optional<GatherMoments> moments;
    if (is_training && !record) moments.emplace(context, channels.types, "1", "");
    const auto load = [&](const char* name, std::string_view text) {
      return load_normalization(context, name, channels.types,
                                {kRowSumText, kBatchText, kTogetherText, kGradTogetherText, text});
    };
    const Kernel gather = load("gather_gradients", kGatherGradientsText),
                 join = load("join_gradients", kJoinGradientsText), input = load("input_gradient", kInputGradientText);
    launch = [=](const NormalizationArguments& a, cudaStream_t stream) {
      const unsigned tiles = blocks_for((a.rows + 31) / 32 * a.groups, 1);
      if (moments) (*moments)(a, stream);
      gather->launch(tiles, kNormalizationThreads, as_argument(a), stream);
      join->launch(blocks_for(a.rows, kNormalizationThreads), kNormalizationThreads, as_argument(a), stream);
      if (a.out[0]) input->launch(tiles, kNormalizationThreads, as_argument(a), stream);
    };
  } else {
    launch = [kernel = load_normalization(context, "batch_norm_grad", channels.types,
                                          {kRowSumText, kBatchText, kChannelText, kBatchNormGradText})](
                 const NormalizationArguments& a, cudaStream_t stream) {
      kernel->launch(blocks_for(a.rows, 1), kNormalizationThreads, as_argument(a), stream);
    };
  }
  const core::BufferId saved = record                                 ? record->mean.buffer
                               : is_training && channels.are_together ? context.keep(channels.saved_bytes())
                                                                      : core::kNoBuffer;
  return with_saved(context, channels, saved, std::move(launch), channels.are_together ? channels.partial_bytes() : 0,
                    {}, layout, {0, 1});
}

}  // namespace halfstep::cudnn
