// Makers of RNN, LSTM and GRU and of their gradients, by cuDNN's calls for recurrent networks.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "executors/core/same_elements.h"
#include "executors/cudnn/fastest.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/move_text.h"
#include "executors/cudnn/kernels/pieces_text.h"
#include "executors/cudnn/pending_failure.h"
#include "executors/cudnn/recurrent.h"
#include "executors/cudnn/recurrent_net.h"
#include "executors/cudnn/text_kernel.h"
#include "executors/memory_limit.h"
#include "ops/recurrent/recurrent_kernels.h"

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;

/// The layer that a node or its gradient computes, or why cuDNN has none.
struct Problem {
  std::string refusal = {};
  RecurrentLayer layer = {};
  std::size_t first = 0;  ///< the operand of the gradient that is that of Y
};

/// What the generated kernels refuse is not looked at again.
template <class Cell>
Problem problem_of(const KernelContext& context, cudnnRNNMode_t mode) {
  const Node& node = context.node();
  const ops::RecurrentAttributes attributes(node, Cell::kActivations);
  for (const auto& direction : attributes.directions)
    for (std::size_t i = 0; i < Cell::kActivations.size(); ++i)
      if (direction.activations[i].name() != Cell::kActivations[i])
        return {"cuDNN's networks have the default activations here, not " +
                std::string(direction.activations[i].name())};
  if (attributes.directions.size() == 1 && attributes.directions[0].reverse)
    return {"cuDNN has no network that only goes backwards"};
  const ops::RecurrentExtents at(node, attributes, Cell::kGates, context.in(0).shape, context.in(1).shape,
                                 context.in(2).shape);
  return {{},
          {.mode = mode,
           .dtype = context.in(0).dtype,
           .has_bias = context.has_input(3),
           .batch_first = at.batch_first,
           .steps = at.steps,
           .batch = at.batch,
           .inputs = at.inputs,
           .hidden = at.hidden,
           .directions = at.directions},
          ops::kRecurrentInputs<Cell>};
}

Problem problem_of(const KernelContext& context, const RecurrentKernel& own) {
  if (!own.refusal.empty()) return {own.refusal};
  if (libraries(context).properties) return {"cuDNN's recurrent networks answer nothing without a device"};
  if (context.in(0).dtype == DType::bf16 && (libraries(context).capability < 80 || cudnnGetVersion() < 91300))
    return {"cuDNN's recurrent networks take bf16 from version 9.13 and compute capability 8.0 on"};
  Problem problem = own.gates == ops::LstmCell::kGates  ? problem_of<ops::LstmCell>(context, CUDNN_LSTM)
                    : own.gates == ops::GruCell::kGates ? problem_of<ops::GruCell>(context, CUDNN_GRU)
                                                        : problem_of<ops::RnnCell>(context, CUDNN_RNN_TANH);
  // The generated kernels leave nothing to the gradient.
  if (problem.refusal.empty() && LeastMemory::decide())
    problem.refusal = "with cuDNN's recurrent networks the step takes more memory than there is for it";
  return problem;
}

/// Why cuDNN does not compute a network; empty where it may. A node and its gradient, of one workspace, are told alike.
/// The generated kernels' memory is planned for anyway.
std::string refusal_of(const RecurrentNet& net, const RecurrentKernel& own) {
  const bool is_training = net.mode() == CUDNN_FWD_MODE_TRAINING;
  const std::size_t most = std::max(kMostWorkspace, is_training ? own.gradient_bytes : own.scratch_bytes);
  if (net.workspace_bytes() <= most) return {};
  return fmt::format("cuDNN's recurrent network takes {} bytes of workspace, and more than {} are too many",
                     net.workspace_bytes(), most);
}

/// Takes parts of a block of memory, one after the other; none for 0 bytes.
struct Parts {
  std::byte* next;
  std::byte* take(std::size_t bytes) { return bytes ? std::exchange(next, next + padded_bytes(bytes)) : nullptr; }
};

/// The memory that the forward pass leaves to the gradient, which reads Y and the weights, too.
struct Kept {
  std::byte *weights, *y, *reserve;

  static std::size_t bytes(const RecurrentNet& net) {
    const std::size_t before = padded_bytes(1);  // what is kept is less aligned than scratch memory
    return before + padded_bytes(net.weights().bytes) + padded_bytes(y_bytes(net)) + padded_bytes(net.reserve_bytes());
  }
  static std::size_t y_bytes(const RecurrentNet& net) {
    return bytes_of(net.layer().dtype, static_cast<std::size_t>(net.layer().y_count()));
  }
  static Kept at(const RecurrentNet& net, void* memory) {
    Parts parts{reinterpret_cast<std::byte*>(padded_bytes(reinterpret_cast<std::uintptr_t>(memory)))};
    return {parts.take(net.weights().bytes), parts.take(y_bytes(net)), parts.take(net.reserve_bytes())};
  }
};

/// cuDNN's calls with what goes before and after them: weights copied together, and tensors whose axes it has in
/// another order than ONNX. Of two directions these are Y, [steps, batch, directions, hidden] to it, and, where the
/// batch comes first, the states, which are [directions, batch, hidden].
class Network {
 public:
  Network(KernelContext& context, const RecurrentLayer& layer, cudnnForwardMode_t mode)
      : handle_(libraries(context).cudnn.get()),
        net_(handle_, layer, libraries(context).arithmetic, mode),
        state_bytes_(bytes_of(layer.dtype, static_cast<std::size_t>(layer.state_count()))) {
    const std::string_view element = word_of(layer.dtype);
    pieces_ = load_text(context, "copy_pieces", "PiecesArguments", kPiecesArgumentsText,
                        filled(kPiecesText, {{"element", element}}));
    if (layer.directions == 2)
      move_ = load_text(context, "move", "MoveArguments", kMoveArgumentsText,
                        filled(kMoveText, {{"axes", "4"},
                                           {"element", element},
                                           {"position", position_of(std::max(layer.y_count(), layer.state_count()))}}));
  }

  const RecurrentNet& net() const { return net_; }
  bool swaps_y() const { return net_.layer().directions == 2 && !net_.layer().batch_first; }
  /// Scratch memory of one state in cuDNN's order.
  std::size_t state_bytes() const {
    return net_.layer().directions == 2 && net_.layer().batch_first ? state_bytes_ : 0;
  }

  /// From operands X, W, R, B and the initial states; the last ones to h and c, where there are these. `states` has
  /// room for two.
  cudnnStatus_t forward(const Launch& l, const Kept& kept, void* workspace, Parts states, void* h, void* c) const {
    copy_weights({const_cast<void*>(l.in[1]), const_cast<void*>(l.in[2]), const_cast<void*>(l.input<void>(3))},
                 kept.weights, true, l.stream);
    const void *h0 = state_in(l.input<void>(5), states, l.stream), *c0 = nullptr;
    if (has_cell()) c0 = state_in(l.input<void>(6), states, l.stream);
    return cudnnRNNForward(handle_, net_.rnn(), net_.mode(), nullptr, net_.x(), l.in[0], net_.y(), kept.y, net_.state(),
                           h0, h, net_.cell(), c0, c, net_.weights().bytes, kept.weights, net_.workspace_bytes(),
                           workspace, net_.reserve_bytes(), kept.reserve);
  }

  /// A tensor of ONNX where cuDNN wants it: itself, or in its order in one of `states`.
  const void* state_in(const void* state, Parts& states, cudaStream_t stream) const {
    std::byte* const own = state ? states.take(state_bytes()) : nullptr;
    if (own) swap(state, own, 1, net_.layer().batch, net_.layer().directions, stream);
    return own ? own : state;
  }
  /// Where cuDNN is to write a state, if it is to; then `state_out` puts it where it belongs.
  void* state_place(void* state, Parts& states) const {
    std::byte* const own = state ? states.take(state_bytes()) : nullptr;
    return own ? own : state;
  }
  void state_out(const void* place, void* state, cudaStream_t stream) const {
    if (place != state) swap(place, state, 1, net_.layer().directions, net_.layer().batch, stream);
  }
  /// Y, or its gradient, between the two orders.
  void y_out(const void* place, void* y, cudaStream_t stream) const {
    const RecurrentLayer& a = net_.layer();
    if (swaps_y())
      swap(place, y, a.steps, a.batch, a.directions, stream);
    else if (place != y)
      check(cudaMemcpyAsync(y, place, Kept::y_bytes(net_), cudaMemcpyDeviceToDevice, stream), "cudaMemcpyAsync");
  }
  void y_in(const void* y, void* place, cudaStream_t stream) const {
    swap(y, place, net_.layer().steps, net_.layer().directions, net_.layer().batch, stream);
  }

  /// W, R and B into cuDNN's weight space, or out of it; a null tensor is left out.
  void copy_weights(const std::array<void*, 3>& tensors, std::byte* space, bool into, cudaStream_t stream) const {
    PiecesArguments a{};
    int count = 0;
    const auto step = static_cast<std::ptrdiff_t>(bytes_of(net_.layer().dtype, 1));
    for (const WeightPiece& piece : net_.weights().pieces) {
      auto* const tensor = static_cast<std::byte*>(tensors[static_cast<std::size_t>(piece.tensor)]);
      if (!tensor) continue;
      std::byte *const outer = tensor + piece.from * step, *const inner = space + piece.space * step;
      a.from[count] = into ? outer : inner;
      a.to[count] = into ? inner : outer;
      a.count += piece.count;
      a.ends[count++] = a.count;
    }
    pieces_->launch(blocks_for(a.count, kThreads), kThreads, as_argument(a), stream);
  }

  cudnnHandle_t handle() const { return handle_; }
  bool has_cell() const { return net_.cell() != nullptr; }

 private:
  /// to[o, j, i, hidden] = from[o, i, j, hidden]
  void swap(const void* from, void* to, std::int64_t outer, std::int64_t i, std::int64_t j, cudaStream_t stream) const {
    const std::int64_t inner = net_.layer().hidden;
    MoveArguments a{};
    a.from = from;
    a.to = to;
    a.count = outer * i * j * inner;
    const std::int64_t extents[] = {outer, i, j, inner}, from_steps[] = {i * j * inner, j * inner, inner, 1},
                       to_steps[] = {i * j * inner, inner, i * inner, 1};
    std::ranges::copy(extents, a.extents);
    std::ranges::copy(from_steps, a.from_steps);
    std::ranges::copy(to_steps, a.to_steps);
    move_->launch(blocks_for(a.count, kThreads), kThreads, as_argument(a), stream);
  }

  cudnnHandle_t handle_;
  RecurrentNet net_;
  std::size_t state_bytes_;
  std::shared_ptr<const LoadedKernel> pieces_, move_;
};

/// The node by cuDNN's `run`, and by the generated kernels from the first call on that fails, in this and every other
/// recurrent network of the program: what a forward pass by these leaves no gradient by cuDNN can read. Those need
/// nothing of a forward pass.
Candidate by_cudnn(KernelContext& context, const RecurrentNet& net, const RecurrentKernel& own,
                   std::function<cudnnStatus_t(const Launch&)> run, std::size_t scratch_bytes) {
  const auto launch = [=, own = own.launch, failed = libraries(context).recurrent_failed](const Launch& l) {
    if (!*failed) {
      if (run(l) == CUDNN_STATUS_SUCCESS) return;
      forget_failure();
      *failed = true;
    }
    own(l);
  };
  return {.kernel = {.name = "cudnn: recurrent",
                     .remark = fmt::format("workspace {} bytes, reserve {} bytes", net.workspace_bytes(),
                                           net.reserve_bytes()),
                     .launch = launch,
                     .scratch_bytes = std::max(scratch_bytes, own.scratch_bytes)},
          .attempt = [=](const Launch& l) -> Attempt { return [=] { return run(l) == CUDNN_STATUS_SUCCESS; }; }};
}

}  // namespace

Made make_recurrent_cudnn(KernelContext& context) {
  const RecurrentKernel own = recurrent_kernel(context);
  const Problem problem = problem_of(context, own);
  if (!problem.refusal.empty()) return refuse(problem.refusal);
  const bool is_kept = context.has_gradient();
  const auto network = std::make_shared<const Network>(context, problem.layer,
                                                       is_kept ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE);
  const RecurrentNet& net = network->net();
  if (std::string refusal = refusal_of(net, own); !refusal.empty()) return refuse(std::move(refusal));
  const auto run = [=](const Launch& l) {
    Parts scratch{static_cast<std::byte*>(l.scratch)};
    Kept space = Kept::at(network->net(), is_kept ? l.kept[0] : scratch.take(Kept::bytes(network->net())));
    void *const y = l.output<void>(0), *const h = l.output<void>(1), *const c = l.output<void>(2);
    if (!is_kept && y && !network->swaps_y()) space.y = static_cast<std::byte*>(y);
    void* const workspace = scratch.take(network->net().workspace_bytes());
    void *const h_place = network->state_place(h, scratch), *const c_place = network->state_place(c, scratch);
    const cudnnStatus_t status = network->forward(l, space, workspace, scratch, h_place, c_place);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    if (y) network->y_out(space.y, y, l.stream);
    network->state_out(h_place, h, l.stream);
    network->state_out(c_place, c, l.stream);
    return status;
  };
  const std::size_t bytes = (is_kept ? 0 : padded_bytes(Kept::bytes(net))) + padded_bytes(net.workspace_bytes()) +
                            4 * padded_bytes(network->state_bytes());
  Candidate cudnn = by_cudnn(context, net, own, run, bytes), generated{.kernel = recurrent_kernel_of(own)};
  if (is_kept) {
    cudnn.kept_bytes = {Kept::bytes(net)};
    cudnn.keep = [&] {
      const core::BufferId kept = context.keep(Kept::bytes(net));
      context.own_record().workspace = kept;
      context.own_record().computed = problem.layer.dtype;
      return std::vector{kept};
    };
    // They keep nothing: the gradient would compute the forward pass again.
    generated.attempt = [launch = own.launch](const Launch& l) -> Attempt {
      return [=] { return launch(l), launch(l), true; };
    };
  }
  return fastest(context, {std::move(cudnn), std::move(generated)});
}

Made make_recurrent_grad_cudnn(KernelContext& context) {
  const RecurrentKernel own = recurrent_grad_kernel(context);
  const Problem problem = problem_of(context, own);
  if (!problem.refusal.empty()) return refuse(problem.refusal);
  const auto network = std::make_shared<const Network>(context, problem.layer, CUDNN_FWD_MODE_TRAINING);
  const RecurrentNet& net = network->net();
  if (std::string refusal = refusal_of(net, own); !refusal.empty()) return refuse(std::move(refusal));
  // The gradient of the data changes the reserve: it serves one gradient node.
  core::ForwardRecord* const record = core::record_of_same_inputs(context) ? context.forward_record() : nullptr;
  const bool is_kept = record && record->workspace != core::kNoBuffer && record->computed == problem.layer.dtype;
  const std::size_t x_bytes = bytes_of(problem.layer.dtype, static_cast<std::size_t>(context.in(0).shape.count()));
  const auto run = [=, first = problem.first](const Launch& l) {
    const RecurrentNet& n = network->net();
    Parts scratch{static_cast<std::byte*>(l.scratch)};
    const Kept space = Kept::at(n, is_kept ? l.kept[0] : scratch.take(Kept::bytes(n)));
    void* const workspace = scratch.take(n.workspace_bytes());
    std::byte* const d_weights = scratch.take(n.weights().bytes);
    std::byte* const own_dy = scratch.take(Kept::y_bytes(n));
    std::byte* const own_dx = scratch.take(x_bytes);
    if (!is_kept)
      if (const auto status = network->forward(l, space, workspace, scratch, nullptr, nullptr);
          status != CUDNN_STATUS_SUCCESS)
        return status;
    const void* dy = l.input<void>(first);
    if (dy && network->swaps_y()) network->y_in(dy, own_dy, l.stream);
    if (!dy) check(cudaMemsetAsync(own_dy, 0, Kept::y_bytes(n), l.stream), "cudaMemsetAsync");
    if (!dy || network->swaps_y()) dy = own_dy;
    const bool has_cell = network->has_cell();
    const auto state_in = [&](std::size_t i) { return network->state_in(l.input<void>(i), scratch, l.stream); };
    const void *const h0 = state_in(5), *const dh_last = state_in(first + 1);
    const void *const c0 = has_cell ? state_in(6) : nullptr, *const dc_last = has_cell ? state_in(first + 2) : nullptr;
    void *const dh = l.output<void>(4), *const dc = has_cell ? l.output<void>(5) : nullptr;
    void *const dh_place = network->state_place(dh, scratch), *const dc_place = network->state_place(dc, scratch);
    void* const dx = l.output<void>(0) ? l.output<void>(0) : own_dx;
    cudnnStatus_t status =
        cudnnRNNBackwardData_v8(network->handle(), n.rnn(), nullptr, n.y(), space.y, dy, n.x(), dx, n.state(), h0,
                                dh_last, dh_place, n.cell(), c0, dc_last, dc_place, n.weights().bytes, space.weights,
                                n.workspace_bytes(), workspace, n.reserve_bytes(), space.reserve);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    network->state_out(dh_place, dh, l.stream);
    network->state_out(dc_place, dc, l.stream);
    const std::array<void*, 3> wanted = {l.output<void>(1), l.output<void>(2), l.output<void>(3)};
    if (std::ranges::all_of(wanted, [](void* p) { return !p; })) return status;
    // It can only add. It reads what the gradient of the data has left in the reserve, and has to follow it.
    check(cudaMemsetAsync(d_weights, 0, n.weights().bytes, l.stream), "cudaMemsetAsync");
    status = cudnnRNNBackwardWeights_v8(network->handle(), n.rnn(), CUDNN_WGRAD_MODE_ADD, nullptr, n.x(), l.in[0],
                                        n.state(), h0, n.y(), space.y, n.weights().bytes, d_weights,
                                        n.workspace_bytes(), workspace, n.reserve_bytes(), space.reserve);
    if (status == CUDNN_STATUS_SUCCESS) network->copy_weights(wanted, d_weights, false, l.stream);
    return status;
  };
  const std::size_t bytes = (is_kept ? 0 : padded_bytes(Kept::bytes(net))) + padded_bytes(net.workspace_bytes()) +
                            padded_bytes(net.weights().bytes) + padded_bytes(Kept::y_bytes(net)) +
                            padded_bytes(x_bytes) + 6 * padded_bytes(network->state_bytes());
  Candidate cudnn = by_cudnn(context, net, own, run, bytes), generated{.kernel = recurrent_kernel_of(own)};
  if (is_kept) {
    cudnn.kept_bytes = {Kept::bytes(net)};
    cudnn.keep = [=] { return std::vector{std::exchange(record->workspace, core::kNoBuffer)}; };
    // The reserve serves one gradient: each is timed behind a forward pass, whose scratch beside the generated kernels
    // is the second of what they seem to keep.
    const auto fill = [=](const Launch& l, void* memory) {
      Parts scratch{static_cast<std::byte*>(memory)};
      std::byte* const workspace = scratch.take(network->net().workspace_bytes());
      return network->forward(l, Kept::at(network->net(), l.kept[0]), workspace, scratch, nullptr, nullptr) ==
             CUDNN_STATUS_SUCCESS;
    };
    cudnn.attempt = [=](const Launch& l) -> Attempt {
      return [=] { return fill(l, l.scratch) && run(l) == CUDNN_STATUS_SUCCESS; };
    };
    generated.kept_bytes = {Kept::bytes(net), bytes};
    generated.attempt = [=, launch = own.launch](const Launch& l) -> Attempt {
      return [=] { return fill(l, l.kept[1]) && (launch(l), true); };
    };
  }
  return fastest(context, {std::move(cudnn), std::move(generated)});
}

}  // namespace halfstep::cudnn
