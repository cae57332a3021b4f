// ConvGradWeight, with the bias' gradient when the graph asks for both.
#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <omp.h>

#include "executors/onednn/fusion.h"
#include "executors/onednn/kernels/convolution.h"
#include "executors/onednn/kernels/winograd_convolution.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/parallel.h"
#include "executors/onednn/threads.h"

namespace halfstep::onednn {
namespace {

using Backward = dnnl::convolution_backward_weights::primitive_desc;

/// `bias` is undefined for a gradient without one.
Backward describe(const Convolution& c, DType dtype, DType out, DType bias, Hints& hints) {
  const auto hint = describe_convolution(c, dnnl::prop_kind::forward_training, dtype, bias, dtype, {});
  if (!hint.get(true)) return Backward();
  hints.push_back(hint);
  const DnnlWindow& w = c.window;
  return Backward(engine(), dnnl::algorithm::convolution_direct, any_order(c.source, dtype), any_order(c.weights, out),
                  bias == DType::undefined ? Desc() : any_order({c.channels_out}, bias),
                  any_order(c.destination, dtype), w.strides, w.dilation, w.pad_begin, w.pad_end, hint,
                  user_scratchpad(), true);
}

/// The ReduceSum that computes the gradient of the bias and has no kernel yet; nullptr when there is none. One that
/// updates a state runs where it is: nodes between the two may read the old value.
const Node* bias_sum(KernelContext& context, std::size_t& index) {
  for (const auto& [weight, bias] : bias_gradient_pairs(context.graph())) {
    if (weight != context.node_index() || context.is_done(bias)) continue;
    const Node& sum = context.graph().nodes[bias];
    const auto is_its_next = [&](const State& state) { return state.next == sum.outputs[0]; };
    if (std::ranges::any_of(context.graph().states, is_its_next)) continue;
    index = bias;
    return &sum;
  }
  return nullptr;
}

/// sum[i] += the partials' element i; partial p begins at p * stride.
void add_partials(const simd::BinaryKernel& add, float* sum, const float* partials, std::int64_t count,
                  std::int64_t stride, std::int64_t n) {
  constexpr std::int64_t kBlock = 4096;
  const auto bytes = (count + 2) * n * static_cast<std::int64_t>(sizeof(float));
  simd::parallel_for(simd::blocks_of(n, kBlock), bytes, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock, length = std::min(kBlock, n - begin);
    for (std::int64_t p = 0; p < count; ++p) add(sum + begin, partials + p * stride + begin, sum + begin, length);
  });
}

/// The gradient of all images by one primitive for each thread, that of its share of the images, added up in order.
/// oneDNN would have its threads meet in barriers that spin, and on a machine with other work each of them may cost a
/// time slice.
struct ImageShares {
  std::int64_t count = 0;
  Chosen<Backward> chosen;  ///< of one share
  Layout source, destination, weights;

  /// What measures them.
  Candidate candidate() const {
    return {fmt::format("{}, {} shares", kernel_name(chosen.pd), count), [pd = chosen.pd, count = count]() -> Run {
              const ThreadScope one_thread(1);
              std::vector<Run> runs;
              for (std::int64_t i = 0; i < count; ++i) runs.push_back(primitive_candidate(pd, pd).prepare());
              const auto n = static_cast<std::int64_t>(pd.diff_weights_desc().get_size() / sizeof(float));
              return [runs = std::move(runs), count, n, partials = filled_memory(row_major(Dims{count, n}, DType::f32)),
                      add = simd::find_binary(ops::Formula::Add, DType::f32, {})] {
                simd::parallel_for(count, simd::kParallelBytes,
                                   [&](std::int64_t i) { runs[static_cast<std::size_t>(i)](); });
                auto* sum = static_cast<float*>(partials.get_data_handle());
                add_partials(add, sum, sum + n, count - 1, n, n);
              };
            }};
  }
};

/// Whether `all` is made of `count` pieces of memory as `share` describes them, one behind the other.
bool has_outer_images(const Desc& all, const Desc& share, std::int64_t count) {
  if (!all.get(true) || all.get_inner_blks() != share.get_inner_blks()) return false;
  const std::int64_t stored = Shape(share.get_padded_dims()).count();
  return all.get_size() == share.get_size() * static_cast<std::size_t>(count) &&
         all.get_strides()[0] * share.get_dims()[0] == stored;
}

/// Empty (count 0) when a share is less than an image, or the partial results are larger than the operands. `name` is
/// the gradient's, for a tuner.
ImageShares share_images(const Convolution& all, DType dtype, bool has_bias, const std::string& name) {
  ImageShares shares;
  const std::int64_t threads = omp_get_max_threads(), images = all.source[0];
  if (threads == 1 || images % threads != 0) return shares;
  const auto elements = [](const Dims& dims) { return Shape(dims).count(); };
  if (threads * elements(all.weights) > elements(all.source) + elements(all.destination)) return shares;
  Convolution share = all;
  share.source[0] = share.destination[0] = images / threads;
  const ThreadScope one_thread(1);
  Hints hints;
  const auto make = [&](DType t) {
    return describe(share, t, DType::f32, has_bias ? DType::f32 : DType::undefined, hints);
  };
  const auto take = [&](const Chosen<Backward>& chosen) {
    if (!chosen) return false;
    const Backward& pd = chosen.pd;
    const Desc source = resized(layout_of(pd.src_desc()), all.source, chosen.dtype);
    const Desc destination = resized(layout_of(pd.diff_dst_desc()), all.destination, chosen.dtype);
    if (!has_outer_images(source, pd.src_desc(), threads) ||
        !has_outer_images(destination, pd.diff_dst_desc(), threads))
      return false;
    shares = {threads, chosen, layout_of(source), layout_of(destination), layout_of(pd.diff_weights_desc())};
    return true;
  };
  // Nothing is measured where what the rules choose cannot run by shares; it stays where what is faster cannot.
  if (take(choose_primitive(dtype, make)) && tuner())
    take(choose_primitive(
        dtype, [&] { return key_of(share, name + ", one of the shares", dtype, DType::f32); }, make));
  return shares;
}

Made make_shared(KernelContext& context, const ImageShares& shares, const Node* bias_node, std::size_t bias_index) {
  const Backward& pd = shares.chosen.pd;
  const Operand diff = context.read(0, shares.destination, shares.chosen.dtype);
  const Operand source = context.read(1, shares.source, shares.chosen.dtype);
  const Operand result = context.write(0, shares.weights, DType::f32);
  Operand bias;
  if (bias_node) {
    bias = context.write_value(bias_node->outputs[0], Layout(), DType::f32);
    context.absorb(bias_index);
  }
  auto aligned = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  const auto threads = static_cast<std::size_t>(shares.count);
  const std::size_t weight_bytes = aligned(result.bytes()), bias_bytes = bias ? aligned(bias.bytes()) : 0;
  const std::size_t work_bytes = aligned(pd.scratchpad_desc().get_size());
  const BufferId partial_weights = context.scratch((threads - 1) * weight_bytes);
  const BufferId partial_biases = context.scratch((threads - 1) * bias_bytes);
  const BufferId work = context.scratch(threads * work_bytes);
  const ThreadScope one_thread(1);
  std::vector<Bind> binds;
  for (std::size_t i = 0; i < threads; ++i) {
    const bool first = i == 0;
    binds.push_back(
        bind_primitive(dnnl::convolution_backward_weights(pd),
                       {{DNNL_ARG_DIFF_DST, pd.diff_dst_desc(), diff.buffer, i * pd.diff_dst_desc().get_size()},
                        {DNNL_ARG_SRC, pd.src_desc(), source.buffer, i * pd.src_desc().get_size()},
                        {DNNL_ARG_DIFF_WEIGHTS, pd.diff_weights_desc(), first ? result.buffer : partial_weights,
                         first ? 0 : (i - 1) * weight_bytes},
                        {DNNL_ARG_DIFF_BIAS, pd.diff_bias_desc(), first ? bias.buffer : partial_biases,
                         first ? 0 : (i - 1) * bias_bytes},
                        {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), work, i * work_bytes}}));
  }
  const simd::BinaryKernel add = simd::find_binary(ops::Formula::Add, DType::f32, {});
  return {kernel_name(pd), conversion_remark(context.in(0).dtype, shares.chosen.dtype),
          [=, binds = std::move(binds)](const Memory& memory) -> Run {
            std::vector<Run> runs;
            for (const Bind& bind : binds) runs.push_back(bind(memory));
            return [=, runs = std::move(runs), dw = memory.as<float>(result), db = memory.as<float>(bias),
                    dws = memory.as<const float>(partial_weights), dbs = memory.as<const float>(partial_biases)] {
              simd::parallel_for(shares.count, simd::kParallelBytes, [&](std::int64_t i) { runs[i](); });
              const auto floats = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes / sizeof(float)); };
              add_partials(add, dw, dws, shares.count - 1, floats(weight_bytes), result.stored());
              if (db) add_partials(add, db, dbs, shares.count - 1, floats(bias_bytes), bias.stored());
            };
          }};
}

}  // namespace

Made make_convolution_grad_weight(KernelContext& context) {
  const Value &dy = context.in(0), &x = context.in(1), &dw = context.out(0);
  if (!has_dnnl_rank(x.shape)) return refuse("oneDNN convolutions have one to three spatial axes");
  const Convolution c = make_convolution_extents(context.node().attributes, x.shape, dw.shape, dy.shape);
  std::size_t bias_index = 0;
  const Node* bias_node = bias_sum(context, bias_index);
  auto out_type = [&](DType t) { return t == dy.dtype ? dw.dtype : DType::f32; };
  // Of bias gradients oneDNN makes every type in f32.
  const DType bias_type = bias_node ? DType::f32 : DType::undefined;
  const std::string name = bias_node ? "gradient of weights and bias" : "gradient of weights";
  const auto key = [&] { return key_of(c, name, dy.dtype, dw.dtype); };
  Hints hints;
  const auto make = [&](DType t) { return describe(c, t, out_type(t), bias_type, hints); };
  // Made when it is first asked for: a depthwise kernel that the rules choose needs none.
  auto shares = [&, made = std::optional<ImageShares>()]() mutable -> const ImageShares& {
    if (!made) made = share_images(c, dy.dtype, bias_node != nullptr, name);
    return *made;
  };
  // What is measured is what will run: one of the shares, or the whole.
  const bool measures_shares = tuner() && shares().count > 0;
  const auto chosen = measures_shares ? choose_primitive(dy.dtype, make) : choose_primitive(dy.dtype, key, make);
  const auto otherwise = [&] {
    return measures_shares ? shares().candidate() : primitive_candidate(chosen.pd, chosen.pd);
  };
  if (chosen && prefers_depthwise_kernel(c, chosen.pd, dy.dtype, key, otherwise)) {
    if (bias_node) context.absorb(bias_index);
    return make_depthwise_grad_weight(context, c, bias_node ? bias_node->outputs[0] : kNoValue);
  }
  if (chosen) {
    if (const auto plan = plan_winograd(c, WinogradPart::weight_gradient, chosen.pd, chosen.dtype, key, otherwise)) {
      if (bias_node) context.absorb(bias_index);
      return make_winograd_grad_weight(context, *plan, bias_node ? bias_node->outputs[0] : kNoValue);
    }
  }
  if (shares().count > 0) return make_shared(context, shares(), bias_node, bias_index);
  if (!chosen) return refuse(fmt::format("oneDNN has no {} convolution gradient of this form", name_of(dy.dtype)));

  const Operand diff = context.read(0, layout_of(chosen.pd.diff_dst_desc()), chosen.dtype);
  const Operand source = context.read(1, layout_of(chosen.pd.src_desc()), chosen.dtype);
  const Operand result = context.write(0, layout_of(chosen.pd.diff_weights_desc()), out_type(chosen.dtype));
  Operand bias;
  if (bias_node) {
    bias = context.write_value(bias_node->outputs[0], Layout(), bias_type);
    context.absorb(bias_index);
  }
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  return {kernel_name(chosen.pd), conversion_remark(dy.dtype, chosen.dtype),
          bind_primitive(dnnl::convolution_backward_weights(chosen.pd),
                         {{DNNL_ARG_DIFF_DST, chosen.pd.diff_dst_desc(), diff.buffer},
                          {DNNL_ARG_SRC, chosen.pd.src_desc(), source.buffer},
                          {DNNL_ARG_DIFF_WEIGHTS, chosen.pd.diff_weights_desc(), result.buffer},
                          {DNNL_ARG_DIFF_BIAS, chosen.pd.diff_bias_desc(), bias.buffer},
                          {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}})};
}

}  // namespace halfstep::onednn
