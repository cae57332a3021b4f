// Chains of elementwise operators, in whatever layout the operands lie.
#include "executors/onednn/kernels/chain.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "executors/onednn/kernels/element_function.h"
#include "executors/onednn/simd/chain.h"
#include "ops/elementwise/chain.h"
#include <halfstep/executors/core/schedule.h>
#include <halfstep/graph/id_map.h>

namespace halfstep::onednn {
namespace {

using simd::ChainKernel;
using simd::ChainStep;
using simd::ChainValue;
using Kind = ChainValue::Kind;

constexpr std::size_t kMaxInputs = 16;

/// The body as a list of functions on values: first the node's operands, then what the body gives and its constants.
struct ChainProgram {
  std::vector<ChainValue> values = {};
  std::vector<ChainStep> steps = {};
  std::vector<std::uint8_t> outputs = {};                       ///< the values that are results
  std::vector<std::pair<std::uint8_t, Tensor>> constants = {};  ///< of one element each
  std::string refusal = {};
};

Kind kind_of(const Shape& shape, const Shape& result) {
  return shape == result ? Kind::whole : shape.count() == 1 ? Kind::single : Kind::spread;
}

ChainProgram translate(const Graph& body) {
  constexpr std::uint8_t kNone = 255;
  ChainProgram program;
  ValueMap<std::uint8_t> index(body.values.size(), kNone);
  const Shape& shape = body[body.outputs[0]].shape;
  const auto add = [&](ValueId id, Kind kind) {
    index[id] = static_cast<std::uint8_t>(program.values.size());
    program.values.push_back({kind, static_cast<std::uint8_t>(bytes_of(body[id].dtype, 1))});
    return index[id];
  };
  for (const ValueId id : body.inputs) add(id, kind_of(body[id].shape, shape));
  for (const Node& node : body.nodes) {
    ChainStep step{.function = range_function(body, node)};
    const std::size_t operands = static_cast<std::size_t>(step.function.operands);
    if (!step.function) return {.refusal = fmt::format("no function for {}", node.op)};
    if (node.outputs.size() != 1 || body[node.outputs[0]].shape != shape)
      return {.refusal = "results of different shapes"};
    if (program.values.size() + operands + 1 > ChainKernel::kMaxValues) return {.refusal = "too many values"};
    for (std::size_t i = 0; i < operands; ++i) {
      const ValueId id = node.inputs[i];
      std::uint8_t& operand = index[id];
      if (operand == kNone) {
        if (body[id].constant.count() != 1) return {.refusal = "a constant of several elements in its body"};
        program.constants.emplace_back(add(id, Kind::single), body[id].constant);
      }
      step.operands[i] = operand;
    }
    const bool is_result = std::find(body.outputs.begin(), body.outputs.end(), node.outputs[0]) != body.outputs.end();
    step.result = add(node.outputs[0], is_result ? Kind::whole : Kind::tile);
    program.steps.push_back(step);
  }
  for (const ValueId id : body.outputs) {
    if (!body.producer(id)) return {.refusal = "a result that no node gives"};
    program.outputs.push_back(index[id]);
  }
  return program;
}

/// Whether zeros in all operands that are whole give zeros: then padding stays what it must be.
bool keeps_zeros(const ChainProgram& program) {
  for (std::size_t v = 0; v < program.values.size(); ++v) {
    const bool is_known = std::any_of(program.constants.begin(), program.constants.end(),
                                      [v](const auto& constant) { return constant.first == v; });
    if (program.values[v].kind == Kind::spread || (program.values[v].kind == Kind::single && !is_known)) return false;
  }
  std::vector<std::array<std::byte, 8>> elements(program.values.size());
  std::vector<void*> memory;
  for (auto& element : elements) memory.push_back(element.data());
  for (const auto& [v, tensor] : program.constants) memory[v] = const_cast<void*>(tensor.raw());
  ChainKernel(simd::Broadcast({}, {}), program.values, program.steps)(memory);
  constexpr std::byte kSign{0x80};
  return std::all_of(program.outputs.begin(), program.outputs.end(), [&](std::uint8_t v) {
    elements[v][program.values[v].bytes - 1U] &= ~kSign;
    return std::all_of(elements[v].begin(), elements[v].end(), [](std::byte b) { return b == std::byte{}; });
  });
}

/// The layout of everything that is whole, and the walk through it.
struct Walk {
  Layout layout;
  simd::Broadcast broadcast;
};

/// Extents of `shape` along the axes of a result of this rank, in the order `axes`; empty where that is not the order
/// in which its elements lie.
std::optional<Dims> extents_along(const Shape& shape, const std::vector<std::size_t>& axes) {
  Dims all(axes.size() - std::min(axes.size(), shape.rank()), 1), result;
  all.insert(all.end(), shape.begin(), shape.end());
  std::size_t last = 0;
  for (const std::size_t axis : axes) {
    if (all[axis] != 1 && axis < last) return std::nullopt;
    if (all[axis] != 1) last = axis;
    result.push_back(all[axis]);
  }
  return result;
}

std::optional<Walk> walk_in(const Layout& layout, const Shape& result, const std::vector<Shape>& spread) {
  std::vector<std::size_t> axes(result.rank());
  std::iota(axes.begin(), axes.end(), std::size_t{0});
  if (!layout.is_row_major() && spread.empty())
    return Walk{layout, simd::Broadcast(std::array{layout.stored(result.count())}, {})};
  if (!layout.is_row_major()) {
    if (!layout.is_permutation() || layout.dims() != dims_of(result)) return std::nullopt;
    axes = layout.axis_order();
  }
  Dims whole;
  for (const std::size_t axis : axes) whole.push_back(result[axis]);
  std::array<Dims, simd::Broadcast::kMaxOperands> extents;
  for (std::size_t i = 0; i < spread.size(); ++i) {
    const std::optional<Dims> along = extents_along(spread[i], axes);
    if (!along) return std::nullopt;
    extents[i] = *along;
  }
  const simd::Broadcast broadcast(whole, {extents[0], extents[1], extents[2]});
  return broadcast.valid() ? std::optional(Walk{layout, broadcast}) : std::nullopt;
}

/// Whether all that is whole can be brought to that layout and back.
bool knows(KernelContext& context, const ChainProgram& program, const Layout& layout) {
  const auto fits = [&](const Value& value) { return context.device().knows(layout, value.shape, value.dtype); };
  for (std::size_t i = 0; i < context.node().inputs.size(); ++i)
    if (program.values[i].kind == Kind::whole && !fits(context.in(i))) return false;
  for (std::size_t i = 0; i < context.node().outputs.size(); ++i)
    if (!fits(context.out(i))) return false;
  return true;
}

/// The layout that a state asks for which a result updates, else the first that an operand lies in.
Layout common_layout(KernelContext& context, const ChainProgram& program) {
  for (std::size_t i = 0; i < context.node().outputs.size(); ++i)
    if (const auto wanted = context.wanted_layout(i)) return *wanted;
  for (std::size_t i = 0; i < context.node().inputs.size(); ++i)
    if (program.values[i].kind == Kind::whole && !context.layout(i).is_row_major()) return context.layout(i);
  return {};
}

/// Whether result `v` may lie over an operand: as wide, and read by nothing behind what gives the result. `operands`
/// has no buffer where another result lies already.
bool may_lie_over(const ChainProgram& program, std::uint8_t v, std::size_t operand,
                  const std::vector<Operand>& operands) {
  const BufferId buffer = operands[operand].buffer;
  if (buffer == kNoBuffer || program.values[operand].bytes != program.values[v].bytes) return false;
  for (std::size_t i = 0; i < operands.size(); ++i)
    if (operands[i].buffer == buffer && program.values[i].kind != Kind::whole) return false;
  bool is_given = false;
  for (const ChainStep& step : program.steps) {
    for (int i = 0; is_given && i < step.function.operands; ++i) {
      const std::size_t read = step.operands[i];
      if (read < operands.size() && operands[read].buffer == buffer) return false;
    }
    is_given = is_given || step.result == v;
  }
  return true;
}

/// Of the operands that output i may lie over the state that it updates, or the one that is the first to be read for
/// the last time.
std::optional<std::size_t> operand_below(KernelContext& context, const ChainProgram& program, std::size_t i,
                                         const std::vector<Operand>& operands) {
  const Graph& graph = context.graph();
  const ValueId output = context.node().outputs[i];
  const auto state =
      std::find_if(graph.states.begin(), graph.states.end(), [&](const State& each) { return each.next == output; });
  const auto last_use = [&](std::size_t operand) {
    const ValueId id = context.node().inputs[operand];
    if (state != graph.states.end() && state->value == id) return std::int32_t{-1};
    return graph.producer(id) ? context.assembly().schedule().last_use[id] : core::kAtEnd;
  };
  std::optional<std::size_t> best;
  for (std::size_t k = 0; k < operands.size(); ++k)
    if (may_lie_over(program, program.outputs[i], k, operands) && (!best || last_use(k) < last_use(*best))) best = k;
  return best;
}

bool holds(const Graph& graph, const Node& node) {
  if (!range_function(graph, node)) return false;
  const auto is_known = [&](ValueId id) {
    return id == kNoValue || (graph[id].shape.is_static() && graph[id].shape.count() > 0);
  };
  const Shape& shape = graph[node.outputs[0]].shape;
  if (!is_known(node.outputs[0]) || shape.rank() > simd::Broadcast::kMaxRank ||
      !std::all_of(node.inputs.begin(), node.inputs.end(), is_known))
    return false;
  if (!node.is("Cast")) return true;
  // A Cast of a state is lazy where it is a node of its own (schedule.h).
  ValueId source = node.inputs[0];
  while (const Node* producer = graph.producer(source)) {
    if (!core::is_view(*producer)) return true;
    source = producer->inputs[0];
  }
  return graph.state_of(source) < 0;
}

}  // namespace

Chains chains() {
  return {.holds = holds, .max_nodes = 32, .max_inputs = kMaxInputs, .max_spread = simd::Broadcast::kMaxOperands};
}

Made make_chain(KernelContext& context) {
  const Graph body = ops::typed_chain_body(context.graph(), context.node());
  const std::size_t inputs = context.node().inputs.size(), outputs = context.node().outputs.size();
  if (inputs > kMaxInputs) return refuse("too many operands");
  ChainProgram program = translate(body);
  if (!program.refusal.empty()) return refuse(program.refusal);
  const Shape& shape = context.out(0).shape;
  std::vector<Shape> spread;
  for (std::size_t i = 0; i < inputs; ++i) {
    if (program.values[i].kind != Kind::spread) continue;
    program.values[i].walk = static_cast<std::uint8_t>(spread.size());
    spread.push_back(context.in(i).shape);
  }
  if (spread.size() > simd::Broadcast::kMaxOperands) return refuse("too many operands that are broadcast");
  Layout layout = common_layout(context, program);
  if (!knows(context, program, layout) || (layout.is_padded() && !keeps_zeros(program))) layout = Layout();
  std::optional<Walk> walk = walk_in(layout, shape, spread);
  if (!walk) walk = walk_in(Layout(), shape, spread);
  if (!walk) return refuse("broadcasting over too many axes");

  std::vector<Operand> operands, results;
  for (std::size_t i = 0; i < inputs; ++i)
    operands.push_back(context.read(i, program.values[i].kind == Kind::whole ? walk->layout : Layout()));
  std::vector<Operand> below = operands;  // without those that a result lies over
  for (std::size_t i = 0; i < outputs; ++i) {
    const auto operand = operand_below(context, program, i, below);
    results.push_back(operand ? context.write_over(i, operands[*operand]) : context.write(i, walk->layout));
    for (std::size_t k = 0; k < inputs; ++k)
      if (below[k].buffer == results.back().buffer) below[k].buffer = kNoBuffer;
  }
  const ChainKernel kernel(walk->broadcast, program.values, program.steps);
  return {"simd", {}, [=](const Memory& memory) -> Run {
            std::vector<void*> at(program.values.size(), nullptr);
            for (std::size_t i = 0; i < inputs; ++i) at[i] = memory.at(operands[i]);
            for (std::size_t i = 0; i < outputs; ++i) at[program.outputs[i]] = memory.at(results[i]);
            for (const auto& [v, tensor] : program.constants) at[v] = const_cast<void*>(tensor.raw());
            return [kernel, at, constants = program.constants] { kernel(at); };
          }};
}

}  // namespace halfstep::onednn
