// Makers of BatchNormalization, alone and with an addition and a clamp behind it, and of its gradient, by generated
// kernels or by cuDNN's, whichever take less time.
#include "executors/cudnn/batch_normalization.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "executors/core/same_elements.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/batch_normalization_text.h"
#include "executors/cudnn/normalization.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/epilogue.h"

namespace halfstep::cudnn {
namespace {

constexpr const char* kName = "generated: normalization";
constexpr std::int64_t kMaxLength = std::numeric_limits<std::int32_t>::max();

/// How the channels of [N, C, D1, ...] lie, or why there is no kernel; one axis alone has one channel.
struct Channels {
  std::string refusal = {};
  NormalizationTypes types;
  NormalizationArguments arguments{};
  core::Layout layout = {};
  std::int64_t vector = 1, channels = 1, across = 1;  ///< V, W and A of the texts

  /// Whether those of a place lie beside each other, as cuDNN takes them.
  bool are_together() const { return arguments.plane == 1 && arguments.rows > 1; }
  std::size_t saved_bytes() const { return static_cast<std::size_t>(arguments.rows) * 2 * sizeof(float); }
  /// Of what the chunks gather, and their sums behind it.
  std::size_t partial_bytes() const { return saved_bytes() * static_cast<std::size_t>(arguments.groups + 1); }
};

/// Operands: `x`, then parameters, which end before `last`.
Channels channels_of(KernelContext& context, std::size_t x_at, std::size_t last, TensorOrder order) {
  const Attributes& attributes = context.node().attributes;
  const std::size_t parameters = x_at + 1;
  const Shape& x = context.in(x_at).shape;
  Channels made{.types = normalization_types(context, x_at, parameters, last), .layout = layout_in(order, x)};
  NormalizationArguments& a = made.arguments;
  a.rows = x.rank() > 1 ? x[1] : 1;
  a.length = x.count() / a.rows;
  a.plane = a.rows == 1 ? a.length : order == TensorOrder::row_major ? x.count(2, x.rank()) : 1;
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

  const bool are_together = made.are_together();
  const std::int64_t most = 16 / static_cast<std::int64_t>(bytes_of(context.in(x_at).dtype, 1));
  made.vector = std::gcd(are_together ? a.rows : a.plane, most);
  if (are_together) {
    made.channels = made.vector;
    made.across = static_cast<std::int64_t>(
        std::min<std::uint64_t>(std::bit_ceil(static_cast<std::uint64_t>(a.rows / made.vector)), 32));
  }
  // Enough blocks for a whole device, chunks that are worth one.
  constexpr std::int64_t kBlocks = 1024, kLeastChunk = 64;
  const std::int64_t columns = pieces_of(a.rows, made.across * made.channels);
  const std::int64_t pieces = a.length * made.channels / made.vector;
  const std::int64_t least = std::max<std::int64_t>(kLeastChunk, 2 * kNormalizationThreads / made.across);
  a.chunk = std::max(pieces_of(pieces, std::max<std::int64_t>(kBlocks / columns, 1)), least);
  a.groups = pieces_of(pieces, a.chunk);
  return made;
}

/// The kernels of a node: each for all tiles, or one warp for every channel.
class Kernels {
 public:
  /// `scale`, `bias`: the operands.
  Kernels(KernelContext& context, const Channels& channels, std::string_view x, std::string_view scale,
          std::string_view bias)
      : context_(context), channels_(channels), x_(x), scale_(scale), bias_(bias) {}

  void add(const char* name, std::string_view text, bool is_join, std::string_view running = {}) {
    const std::string all = filled(std::string(kTileText) + std::string(kNormalizationOfText) + std::string(text),
                                   {{"vector", std::to_string(channels_.vector)},
                                    {"channels", std::to_string(channels_.channels)},
                                    {"across", std::to_string(channels_.across)},
                                    {"x", x_},
                                    {"scale", scale_},
                                    {"bias", bias_},
                                    {"running", running}});
    const NormalizationArguments& a = channels_.arguments;
    const unsigned tiles = blocks_for(pieces_of(a.rows, channels_.across * channels_.channels) * a.groups, 1);
    if (is_join) scratch_bytes = channels_.partial_bytes();
    made.push_back({load_normalization(context_, name, channels_.types, {kMomentsText, kBatchText, all}),
                    is_join ? blocks_for(a.rows, 8) : tiles});
  }
  /// Mean and variance of the channels, put where `saved` is.
  void add_moments(std::string_view running) {
    add("gather_moments", kGatherMomentsText, false);
    add("join_moments", kJoinMomentsText, true, running);
  }

  struct Sized {
    std::shared_ptr<const LoadedKernel> kernel;
    unsigned blocks;
  };
  std::vector<Sized> made = {};
  std::size_t scratch_bytes = 0;

 private:
  KernelContext& context_;
  const Channels& channels_;
  std::string_view x_, scale_, bias_;
};

/// `elements`: the operands that lie as the result does.
DeviceKernel kernel_of(KernelContext& context, const Channels& channels, const Kernels& kernels,
                       std::vector<int> overwrites, std::vector<std::size_t> elements) {
  std::vector<core::Layout> in_layouts(context.node().inputs.size());
  std::erase_if(elements, [&](std::size_t i) { return i >= in_layouts.size(); });
  for (const std::size_t i : elements) in_layouts[i] = channels.layout;
  return {.name = kName,
          .launch =
              [=, arguments = channels.arguments, list = kernels.made](const Launch& l) {
                NormalizationArguments a = with_addresses(arguments, l);
                a.saved = l.kept.empty() ? nullptr : static_cast<float*>(l.kept[0]);
                for (const auto& [kernel, blocks] : list)
                  kernel->launch(blocks, kNormalizationThreads, as_argument(a), l.stream);
              },
          .scratch_bytes = kernels.scratch_bytes,
          .overwrites = std::move(overwrites),
          .in_layouts = std::move(in_layouts),
          .out_layouts = {channels.layout}};
}

using Append = void (*)(std::vector<Candidate>&, KernelContext&, const OwnNormalization&);

/// `keep`: none where nothing is saved. `planned`: none where cuDNN's kernels are not asked for.
Made fastest_of(KernelContext& context, const Channels& channels, DeviceKernel kernel,
                std::function<std::vector<core::BufferId>()> keep, Append planned) {
  const OwnNormalization own{channels.arguments, std::move(kernel), channels.saved_bytes(), std::move(keep)};
  std::vector<Candidate> candidates(1);
  candidates[0].kernel = own.kernel;
  if (own.keep) {
    candidates[0].kept_bytes = {own.saved_bytes};
    candidates[0].keep = own.keep;
  }
  const bool is_described = libraries(context).properties != nullptr;  // nothing is timed there
  if (planned && channels.are_together() && !is_described) planned(candidates, context, own);
  return fastest(context, std::move(candidates));
}

}  // namespace

Made make_batch_normalization(KernelContext& context) {
  const Channels channels = channels_of(context, 0, 5, order_of(context.layout(0)));
  if (!channels.refusal.empty()) return refuse(channels.refusal);
  const bool has_addition = context.node().inputs.size() > 5 && context.has_input(5);
  if (has_addition && (!context.fits(5, context.in(0).shape) || context.in(5).dtype != context.in(0).dtype))
    return refuse("an addition that does not fit");
  Kernels kernels(context, channels, "0", "1", "2");
  const bool is_training = channels.arguments.is_training != 0;
  if (is_training) kernels.add_moments("update_running(a, c, m);");
  kernels.add("normalize", kNormalizeText, false);
  const auto keep = [&] {
    const core::BufferId saved = context.keep(channels.saved_bytes());
    core::ForwardRecord& record = context.own_record();
    record.mean = {saved, DType::f32, Shape{2, channels.arguments.rows}, {}};
    record.source = channels.layout;
    return std::vector{saved};
  };
  DeviceKernel own = kernel_of(context, channels, kernels, {-1, 3, 4}, {0, 5});
  if (!is_training) return fastest_of(context, channels, std::move(own), {}, nullptr);
  return fastest_of(context, channels, std::move(own), keep, append_planned_batch_normalization);
}

Made make_batch_normalization_grad(KernelContext& context) {
  const bool is_training = context.node().attributes.get_int("training_mode", 0) != 0;
  const core::ForwardRecord* record = is_training ? core::forward_statistics(context) : nullptr;
  const Channels channels = channels_of(context, 1, 6, order_of(record ? record->source : context.layout(1)));
  if (!channels.refusal.empty()) return refuse(channels.refusal);
  if (context.in(0).shape != context.in(1).shape || context.in(0).dtype != context.in(1).dtype)
    return refuse("operands that do not fit");
  if (!is_training && !(context.node().inputs.size() > 4 && context.has_input(3) && context.has_input(4)))
    return refuse("no mean and variance");
  if (ops::clamp_of(context.node().attributes) && !(context.node().inputs.size() > 5 && context.has_input(5)))
    return refuse("an activation without the normalization's bias");
  Kernels kernels(context, channels, "1", "2", "5");
  if (is_training && !record) kernels.add_moments("");
  kernels.add("gather_gradients", kGatherGradientsText, false);
  kernels.add("join_gradients", kJoinGradientsText, true);
  if (context.node().output(0) != kNoValue) kernels.add("input_gradient", kInputGradientText, false);
  DeviceKernel own = kernel_of(context, channels, kernels, {}, {0, 1});
  if (!is_training) return fastest_of(context, channels, std::move(own), {}, nullptr);
  const auto keep = [&] { return std::vector{record ? record->mean.buffer : context.keep(channels.saved_bytes())}; };
  return fastest_of(context, channels, std::move(own), keep,
                    record ? append_planned_batch_normalization_grad : nullptr);
}

}  // namespace halfstep::cudnn
