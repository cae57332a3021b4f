// RNN, LSTM and GRU and their gradients, by generated kernels.
#include "executors/cudnn/recurrent.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/recurrent_text.h"
#include "executors/cudnn/text_kernel.h"
#include "ops/recurrent/recurrent_kernels.h"

namespace halfstep::cudnn {
namespace {

using ops::Formula;

constexpr unsigned kThreads = 256;

/// An activation, and its slope by what it gave. {0} is an expression.
struct Activation {
  std::string_view name;
  Formula formula;
  std::string_view slope;
};
constexpr Activation kActivations[] = {
    {"Tanh", Formula::Tanh, "(1.0f - {0} * {0})"},
    {"Sigmoid", Formula::Sigmoid, "({0} * (1.0f - {0}))"},
    {"Relu", Formula::Relu, "({0} <= 0 ? 0.0f : 1.0f)"},
};

/// A kind of cell: {f}(x) is its first activation, {f'}(y) that one's slope where it gave y; {g}, {h} the others.
struct CellText {
  std::string_view forward, backward;
};
constexpr CellText kRnn = {
    "gate[0] = h = {f}(in[0] + re[0]);",
    "d_in[0] = d_re[0] = dh * {f'}(gate[0]); dh = 0;",
};
constexpr CellText kLstm = {
    // gates i, o, f, c
    "gate[0] = {f}(in[0] + re[0]); gate[2] = {f}(in[2] + re[2]); gate[3] = {g}(in[3] + re[3]); "
    "c = gate[2] * c0 + gate[0] * gate[3]; gate[1] = {f}(in[1] + re[1]); h = gate[1] * {h}(c);",
    "const float squashed = {h}(c), d_cell = dc + dh * gate[1] * {h'}(squashed); "
    "d_in[0] = d_cell * gate[3] * {f'}(gate[0]); d_in[1] = dh * squashed * {f'}(gate[1]); "
    "d_in[2] = d_cell * c0 * {f'}(gate[2]); d_in[3] = d_cell * gate[0] * {g'}(gate[3]); "
    "for (int g = 0; g < G; ++g) d_re[g] = d_in[g]; dc = d_cell * gate[2]; dh = 0;",
};
constexpr CellText kGru = {
    // gates z, r, h, linear before the reset
    "gate[0] = {f}(in[0] + re[0]); gate[1] = {f}(in[1] + re[1]); gate[2] = {g}(in[2] + gate[1] * re[2]); "
    "h = (1.0f - gate[0]) * gate[2] + gate[0] * h0;",
    "d_in[2] = dh * (1.0f - gate[0]) * {g'}(gate[2]); d_re[2] = d_in[2] * gate[1]; "
    "d_in[0] = d_re[0] = dh * (h0 - gate[2]) * {f'}(gate[0]); d_in[1] = d_re[1] = d_in[2] * sum * {f'}(gate[1]); "
    "dh = dh * gate[0];",
};

/// What a node and its gradient are to compute, or why there are no kernels for it.
struct Network {
  std::string refusal = {};
  std::size_t gates = 0, states = 1;
  RecurrentArguments arguments{};
  std::string start = {}, forward = {}, backward = {};  ///< texts

  std::size_t state_count() const {
    const RecurrentArguments& a = arguments;
    return static_cast<std::size_t>(a.directions * (a.steps + 1) * a.batch * a.hidden);
  }
  std::size_t scratch_bytes() const { return (states * state_count() + gate_count()) * sizeof(float); }
  std::size_t gradient_bytes() const {
    const std::size_t sums = gates == ops::GruCell::kGates ? 1 : 0;
    return ((2 * states + sums) * state_count() + 3 * gate_count()) * sizeof(float);
  }
  std::size_t gate_count() const {
    const RecurrentArguments& a = arguments;
    return static_cast<std::size_t>(a.directions * a.steps * a.batch * a.hidden) * gates;
  }
};

template <class Cell>
Network network_of(KernelContext& context, const CellText& cell) {
  const Node& node = context.node();
  Network made{.gates = Cell::kGates, .states = Cell::kStates};
  const auto refused = [&](std::string reason) {
    made.refusal = std::move(reason);
    return made;
  };
  const DType dtype = context.in(0).dtype;
  if (float_name(dtype).empty()) return refused("no kernel for " + std::string(name_of(dtype)));
  if (context.has_input(4)) return refused("sequences of several lengths");
  if (Cell::kStates == 2 && context.has_input(7)) return refused("peepholes");
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (context.has_input(i) && context.in(i).dtype != dtype) return refused("operands of several types");
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue && context.out(i).dtype != dtype) return refused("results of another type");
  const ops::RecurrentAttributes attributes(node, Cell::kActivations);
  if (!std::isinf(attributes.clip) || attributes.input_forget) return refused("clip or input_forget");
  if (Cell::kGates == 3 && !attributes.linear_before_reset) return refused("a reset before R h");
  const ops::RecurrentExtents at(node, attributes, Cell::kGates, context.in(0).shape, context.in(1).shape,
                                 context.in(2).shape);
  if (!context.fits(3, {at.directions, 2 * static_cast<std::int64_t>(Cell::kGates) * at.hidden}) ||
      !context.fits(5, at.state_shape()) || (Cell::kStates == 2 && !context.fits(6, at.state_shape())))
    return refused("operands that do not fit");

  // The activations, which are the same in both directions where there are kernels.
  FormulaFunctions functions;
  std::string forward(cell.forward), backward(cell.backward), slopes;
  const std::vector<ops::RecurrentActivation>& first = attributes.directions[0].activations;
  for (const auto& direction : attributes.directions)
    for (std::size_t i = 0; i < first.size(); ++i)
      if (direction.activations[i].name() != first[i].name()) return refused("activations that differ");
  for (std::size_t i = 0; i < first.size(); ++i) {
    const auto known = std::ranges::find(kActivations, first[i].name(), &Activation::name);
    if (known == std::end(kActivations)) return refused("no kernel for " + std::string(first[i].name()));
    const std::string name(1, "fgh"[i]), function = functions.call(ops::def_of(known->formula), {});
    slopes += fmt::format("static __device__ __forceinline__ float slope_{}(float y) {{ return {}; }}\n", name,
                          fmt::format(fmt::runtime(known->slope), "y"));
    for (std::string* text : {&forward, &backward})
      *text = filled(*text, {{name, function}, {name + "'", "slope_" + name}});
  }
  made.forward = std::move(forward);
  made.backward = std::move(backward);
  made.start = functions.text() + slopes +
               filled(kRecurrentText, {{"T", element_name(dtype)},
                                       {"gates", std::to_string(Cell::kGates)},
                                       {"states", std::to_string(Cell::kStates)}});

  RecurrentArguments& a = made.arguments;
  a.steps = at.steps;
  a.batch = at.batch;
  a.inputs = at.inputs;
  a.hidden = at.hidden;
  a.directions = at.directions;
  const bool batch_first = at.batch_first;
  a.x_step = batch_first ? at.inputs : at.batch * at.inputs;
  a.x_sequence = batch_first ? at.steps * at.inputs : at.inputs;
  a.y_step = at.directions * at.hidden * (batch_first ? 1 : at.batch);
  a.y_direction = batch_first ? at.hidden : at.batch * at.hidden;
  a.y_sequence = batch_first ? at.steps * at.directions * at.hidden : at.hidden;
  a.state_direction = batch_first ? at.hidden : at.batch * at.hidden;
  a.state_sequence = batch_first ? at.directions * at.hidden : at.hidden;
  for (std::size_t d = 0; d < attributes.directions.size(); ++d) a.is_reverse[d] = attributes.directions[d].reverse;
  made.refusal = generation_refusal();
  return made;
}

using Kernel = std::shared_ptr<const LoadedKernel>;

Kernel load(KernelContext& context, const Network& network, const char* name, std::string_view text,
            std::string_view cell = {}) {
  return load_text(context, name, "RecurrentArguments", kRecurrentArgumentsText,
                   network.start + filled(text, {{"cell", cell}}));
}

/// A kernel that moves states into scratch, or out of it.
struct States {
  const char* name;
  std::string_view text, h, c, outer_h, outer_c, place;
};
constexpr States kBegin{
    "recurrent_begin", kRecurrentStatesInText, "h", "c", "h0", "c0", "row_of_state(a, d, 0, n) + k"},
    kEnd{"recurrent_end", kRecurrentStatesOutText, "h", "c", "h_last", "c_last", "row_of_state(a, d, a.steps, n) + k"},
    kBackBegin{"recurrent_back_begin", kRecurrentStatesInText, "dh", "dc", "dh_last", "dc_last", "i"},
    kBackEnd{"recurrent_back_end", kRecurrentStatesOutText, "dh", "dc", "dh_first", "dc_first", "i"};
Kernel load(KernelContext& context, const Network& network, const States& states) {
  return load(context, network, states.name,
              filled(states.text, {{"name", states.name},
                                   {"h", states.h},
                                   {"c", states.c},
                                   {"outer_h", states.outer_h},
                                   {"outer_c", states.outer_c},
                                   {"place", states.place}}));
}

/// The forward pass, from x, w, r, b and the initial states.
struct Forward {
  Kernel begin, step, end;

  Forward(KernelContext& context, const Network& network)
      : begin(load(context, network, kBegin)),
        step(load(context, network, "recurrent_step", kRecurrentStepText, network.forward)),
        end(load(context, network, kEnd)) {}

  void operator()(RecurrentArguments a, cudaStream_t stream) const {
    const std::int64_t states = a.batch * a.hidden;
    begin->launch(blocks_for(a.directions * states, kThreads), kThreads, as_argument(a), stream);
    for (a.direction = 0; a.direction < a.directions; ++a.direction)
      for (a.step = 0; a.step < a.steps; ++a.step)
        step->launch(blocks_for(states, kThreads / 32), kThreads, as_argument(a), stream);
    if (a.h_last || a.c_last)
      end->launch(blocks_for(a.directions * states, kThreads), kThreads, as_argument(a), stream);
  }
};

/// Takes pieces of scratch memory, one after the other.
struct Pieces {
  float* next;
  float* take(std::size_t count) { return std::exchange(next, next + count); }
};

void read_operands(RecurrentArguments& a, const Launch& l, bool has_cell) {
  a.x = l.in[0];
  a.w = l.in[1];
  a.r = l.in[2];
  a.b = l.in.size() > 3 ? l.in[3] : nullptr;
  a.h0 = l.in.size() > 5 ? l.in[5] : nullptr;
  a.c0 = has_cell && l.in.size() > 6 ? l.in[6] : nullptr;
}

template <class Cell>
RecurrentKernel forward(KernelContext& context, const CellText& cell) {
  const Network network = network_of<Cell>(context, cell);
  if (!network.refusal.empty()) return {.refusal = network.refusal};
  const Forward run(context, network);
  constexpr bool has_cell = Cell::kStates == 2;
  const std::size_t states = network.state_count(), gates = network.gate_count();
  const auto launch = [=, arguments = network.arguments](const Launch& l) {
    RecurrentArguments a = arguments;
    read_operands(a, l, has_cell);
    a.y = l.out[0];
    a.h_last = l.out.size() > 1 ? l.out[1] : nullptr;
    a.c_last = l.out.size() > 2 ? l.out[2] : nullptr;
    Pieces pieces{static_cast<float*>(l.scratch)};
    a.h = pieces.take(states);
    a.c = pieces.take(has_cell ? states : 0);
    a.gate = pieces.take(gates);
    run(a, l.stream);
  };
  return {.gates = Cell::kGates,
          .launch = launch,
          .scratch_bytes = network.scratch_bytes(),
          .gradient_bytes = network.gradient_bytes()};
}

template <class Cell>
RecurrentKernel backward(KernelContext& context, const CellText& cell) {
  const Network network = network_of<Cell>(context, cell);
  if (!network.refusal.empty()) return {.refusal = network.refusal};
  constexpr bool has_cell = Cell::kStates == 2, has_sum = Cell::kGates == 3;
  constexpr std::size_t first = ops::kRecurrentInputs<Cell>;  // of the outputs' gradients
  const Forward run(context, network);
  const Kernel begin = load(context, network, kBackBegin),
               back_cell = load(context, network, "recurrent_back_cell", kRecurrentBackCellText, network.backward),
               back_state = load(context, network, "recurrent_back_state", kRecurrentBackStateText),
               end = load(context, network, kBackEnd),
               back_input = load(context, network, "recurrent_back_input", kRecurrentBackInputText),
               weights = load(context, network, "recurrent_back_weights", kRecurrentBackWeightsText);
  const std::size_t states = network.state_count(), gates = network.gate_count();
  const auto launch = [=, arguments = network.arguments](const Launch& l) {
    RecurrentArguments a = arguments;
    read_operands(a, l, has_cell);
    const auto in = [&](std::size_t i) { return i < l.in.size() ? l.in[i] : nullptr; };
    const auto out = [&](std::size_t i) { return i < l.out.size() ? l.out[i] : nullptr; };
    a.dy = in(first);
    a.dh_last = in(first + 1);
    a.dc_last = has_cell ? in(first + 2) : nullptr;
    a.dx = out(0);
    a.dw = out(1);
    a.dr = out(2);
    a.db = out(3);
    a.dh_first = out(4);
    a.dc_first = has_cell ? out(5) : nullptr;
    Pieces pieces{static_cast<float*>(l.scratch)};
    a.h = pieces.take(states);
    a.c = pieces.take(has_cell ? states : 0);
    a.sum = has_sum ? pieces.take(states) : nullptr;
    a.gate = pieces.take(gates);
    a.d_in = pieces.take(gates);
    a.d_re = pieces.take(gates);
    a.dh = pieces.take(states);
    a.dc = pieces.take(has_cell ? states : 0);
    run(a, l.stream);
    const std::int64_t count = a.batch * a.hidden;
    const unsigned blocks = blocks_for(count, kThreads), all = blocks_for(a.directions * count, kThreads);
    begin->launch(all, kThreads, as_argument(a), l.stream);
    for (a.direction = 0; a.direction < a.directions; ++a.direction)
      for (a.step = a.steps - 1; a.step >= 0; --a.step) {
        back_cell->launch(blocks, kThreads, as_argument(a), l.stream);
        back_state->launch(blocks, kThreads, as_argument(a), l.stream);
      }
    if (a.dh_first || a.dc_first) end->launch(all, kThreads, as_argument(a), l.stream);
    if (a.dx)
      back_input->launch(blocks_for(a.steps * a.batch * a.inputs, kThreads), kThreads, as_argument(a), l.stream);
    if (!a.dw && !a.dr && !a.db) return;
    const std::int64_t rows = static_cast<std::int64_t>(Cell::kGates) * a.hidden * a.directions;
    weights->launch(blocks_for(rows * (a.inputs + a.hidden + 2), kThreads), kThreads, as_argument(a), l.stream);
  };
  return {.gates = Cell::kGates,
          .launch = launch,
          .scratch_bytes = network.gradient_bytes(),
          .gradient_bytes = network.gradient_bytes()};
}

Made made_of(KernelContext& context, const RecurrentKernel& kernel) {
  if (!kernel.refusal.empty()) return refuse(kernel.refusal);
  return on_device(context, recurrent_kernel_of(kernel));
}

}  // namespace

RecurrentKernel recurrent_kernel(KernelContext& context) {
  const std::string_view op = context.node().op;
  if (op == "LSTM") return forward<ops::LstmCell>(context, kLstm);
  if (op == "GRU") return forward<ops::GruCell>(context, kGru);
  return forward<ops::RnnCell>(context, kRnn);
}

RecurrentKernel recurrent_grad_kernel(KernelContext& context) {
  const std::string_view op = context.node().op;
  if (op == "LstmGrad") return backward<ops::LstmCell>(context, kLstm);
  if (op == "GruGrad") return backward<ops::GruCell>(context, kGru);
  return backward<ops::RnnCell>(context, kRnn);
}

DeviceKernel recurrent_kernel_of(const RecurrentKernel& kernel) {
  return {.name = "generated: recurrent", .launch = kernel.launch, .scratch_bytes = kernel.scratch_bytes};
}

Made make_recurrent(KernelContext& context) { return made_of(context, recurrent_kernel(context)); }
Made make_recurrent_grad(KernelContext& context) { return made_of(context, recurrent_grad_kernel(context)); }

}  // namespace halfstep::cudnn
