#include "executors/cudnn/chain_text.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernels/device_text.h"
#include <halfstep/graph/id_map.h>

namespace halfstep::cudnn {
namespace {

using Kind = ChainOperand::Kind;

std::uint32_t size_of(DType t) { return static_cast<std::uint32_t>(bytes_of(t, 1)); }

/// (umulhi(i, multiplier) + i) >> shift == i / divisor for all i below 2^31 (Granlund & Montgomery 1994).
void set_divisor(ChainArguments& a, std::size_t axis, std::int64_t extent) {
  a.extents[axis] = extent;
  if (extent > std::numeric_limits<std::int32_t>::max()) return;
  const auto divisor = static_cast<std::uint64_t>(extent);
  const auto shift = static_cast<unsigned>(std::bit_width(divisor - 1));
  a.shifts[axis] = shift;
  a.multipliers[axis] =
      static_cast<unsigned>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - divisor)) / divisor + 1);
}

/// A name for profilers: the operators in order.
std::string kernel_name(const Graph& body) {
  std::string name = "elementwise";
  for (const Node& node : body.nodes) {
    if (name.size() + node.op.size() > 60) break;
    name += '_';
    for (const char c : node.op) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return name;
}

/// Writes the kernel's text while it goes through the body.
class Writer {
 public:
  Writer(const Graph& body, const std::function<bool(std::size_t)>& is_wanted)
      : body_(body), is_wanted_(is_wanted), names_(body.values.size()), shape_(body[body.outputs.at(0)].shape) {}

  ChainKernelText write() {
    if (body_.inputs.size() > ChainArguments::kInputs) return refused("too many operands");
    if (body_.outputs.size() > ChainArguments::kOutputs) return refused("too many results");
    made_.operands.resize(body_.inputs.size());
    std::string values;
    for (const Node& node : body_.nodes) {
      const std::string line = statement(node);
      if (!made_.refusal.empty()) return refused(made_.refusal);
      values += line;
    }
    if (!place_operands()) return refused("broadcasting over too many axes or operands");
    made_.kernel.name = kernel_name(body_);
    made_.kernel.argument = "ChainArguments";
    made_.kernel.text = assemble(values);
    return std::move(made_);
  }

 private:
  static ChainKernelText refused(std::string reason) {
    ChainKernelText none;
    none.refusal = std::move(reason);
    return none;
  }

  /// The name of a value of the body; notes that it is read.
  std::string name_of_value(ValueId id) {
    std::string& name = names_[id];
    if (!name.empty()) return name;
    const Value& value = body_[id];
    if (value.is_constant()) {
      if (value.constant.count() != 1 || constants_ == ChainArguments::kConstants) {
        made_.refusal = "a constant of several elements, or too many constants";
        return {};
      }
      std::memcpy(&made_.arguments.constants[constants_], value.constant.raw(), value.constant.bytes());
      name = fmt::format("c{}", constants_);
      before_ += fmt::format("  const {} {} = load(*reinterpret_cast<const {}*>(&a.constants[{}]));\n",
                             value_name(value.dtype), name, element_name(value.dtype), constants_++);
      return name;
    }
    const auto input = std::ranges::find(body_.inputs, id);
    if (input == body_.inputs.end()) {
      made_.refusal = "a value that nothing gives";
      return {};
    }
    const auto k = static_cast<std::size_t>(input - body_.inputs.begin());
    made_.operands[k].kind = value.shape.count() == shape_.count() ? Kind::whole
                             : value.shape.count() == 1            ? Kind::single
                                                                   : Kind::spread;
    return name = fmt::format("x{}", k);
  }

  std::string statement(const Node& node) {
    const ElementText element = element_text(body_, node, functions_);
    if (!element) return refuse_node(fmt::format("no formula for {} of these types", node.op));
    const Value& result = body_[node.outputs[0]];
    if (element_name(result.dtype).empty()) return refuse_node("a type that the device has no kernels for");
    if (result.shape != shape_) return refuse_node("results of different shapes");
    std::vector<std::string> operands;
    for (const std::size_t i : element.reads) operands.push_back(name_of_value(node.inputs[i]));
    names_[node.outputs[0]] = fmt::format("v{}", values_++);
    return fmt::format("    const {} {} = load(round_to<{}>({}));\n", value_name(result.dtype), names_[node.outputs[0]],
                       element_name(result.dtype), element.with(operands));
  }
  std::string refuse_node(std::string reason) {
    made_.refusal = std::move(reason);
    return {};
  }

  /// Axes, vectors, and how each operand that is broadcast is walked.
  bool place_operands() {
    std::vector<std::vector<std::int64_t>> steps;
    for (std::size_t k = 0; k < made_.operands.size(); ++k) {
      if (made_.operands[k].kind != Kind::spread) continue;
      made_.operands[k].walk = steps.size();
      steps.push_back(broadcast_steps(body_[body_.inputs[k]].shape, shape_));
    }
    if (steps.size() > ChainArguments::kSpread) return false;
    const std::int64_t count = shape_.count();
    std::vector<Index> walks;
    if (!steps.empty()) walks = collapse(shape_.dims(), steps);
    if (!steps.empty() && walks.empty()) return false;
    axes_ = walks.empty() ? 0 : static_cast<std::size_t>(walks[0].rank);
    for (std::size_t axis = 0; axis < axes_; ++axis) set_divisor(made_.arguments, axis, walks[0].extents[axis]);
    for (std::size_t s = 0; s < walks.size(); ++s) std::copy_n(walks[s].steps, axes_, made_.arguments.steps[s]);
    is_narrow_ = count <= std::numeric_limits<std::int32_t>::max();

    // As many elements at once as fill 16 bytes of the narrowest type that is read or written whole, but 8 at the most.
    std::uint32_t narrowest = 16;
    const auto see = [&](DType t) { narrowest = std::min(narrowest, size_of(t)); };
    for (std::size_t k = 0; k < made_.operands.size(); ++k)
      if (made_.operands[k].kind == Kind::whole) see(body_[body_.inputs[k]].dtype);
    for (const ValueId id : body_.outputs) see(body_[id].dtype);
    made_.vector = std::min(8u, 16 / narrowest);
    for (ChainOperand& operand : made_.operands) {
      if (operand.kind != Kind::spread || axes_ == 0) continue;
      const long long* step = made_.arguments.steps[operand.walk];
      if (made_.arguments.extents[axes_ - 1] % made_.vector != 0) continue;
      operand.kind = Kind::row;
      const bool is_packed = step[axes_ - 1] == 1 &&
                             std::all_of(step, step + axes_ - 1, [&](std::int64_t s) { return s % made_.vector == 0; });
      if (is_packed) operand.kind = Kind::packed;
    }
    for (std::size_t k = 0; k < made_.operands.size(); ++k) {
      const Kind kind = made_.operands[k].kind;
      const bool is_vector = kind == Kind::whole || kind == Kind::packed;
      made_.alignment.push_back(is_vector ? made_.vector * size_of(body_[body_.inputs[k]].dtype) : 1);
    }
    for (const ValueId id : body_.outputs) made_.alignment.push_back(made_.vector * size_of(body_[id].dtype));
    made_.arguments.count = count;
    made_.arguments.vectors = count / made_.vector;
    return true;
  }

  std::string assemble(const std::string& values) {
    std::string inside, after;
    for (std::size_t k = 0; k < made_.operands.size(); ++k) {
      const ChainOperand& operand = made_.operands[k];
      const DType dtype = body_[body_.inputs[k]].dtype;
      const std::string_view element = element_name(dtype);
      const std::string place = fmt::format("spread<{}>(a, {}, ", axes_, operand.walk);
      std::string value;
      switch (operand.kind) {
        case Kind::unread:
          continue;
        case Kind::whole:
          before_ += fmt::format("  const Vector<{0}, V> p{1} = read<{0}, V>(a.in[{1}], i);\n", element, k);
          value = fmt::format("p{}.at[j]", k);
          break;
        case Kind::single:
          before_ += fmt::format("  const {0} p{1} = *static_cast<const {0}*>(a.in[{1}]);\n", element, k);
          value = fmt::format("p{}", k);
          break;
        case Kind::spread:
          value = fmt::format("static_cast<const {}*>(a.in[{}])[{}i + j)]", element, k, place);
          break;
        case Kind::row:
          before_ +=
              fmt::format("  const {0}* p{1} = static_cast<const {0}*>(a.in[{1}]) + {2}i);\n", element, k, place);
          before_ += fmt::format("  const Position s{} = (Position)a.steps[{}][{}];\n", k, operand.walk, axes_ - 1);
          value = fmt::format("p{0}[j * s{0}]", k);
          break;
        case Kind::packed:
          before_ += fmt::format("  const Vector<{0}, V> p{1} = read<{0}, V>(a.in[{1}], {2}i));\n", element, k, place);
          value = fmt::format("p{}.at[j]", k);
          break;
      }
      inside += fmt::format("    const {} x{} = load({});\n", value_name(dtype), k, value);
    }
    inside += values;
    for (std::size_t k = 0; k < body_.outputs.size(); ++k) {
      if (!is_wanted_(k)) continue;
      const ValueId id = body_.outputs[k];
      const std::string_view element = element_name(body_[id].dtype);
      before_ += fmt::format("  Vector<{}, V> r{};\n", element, k);
      inside += fmt::format("    r{}.at[j] = round_to<{}>({});\n", k, element, names_[id]);
      after += fmt::format("  write<{0}, V>(a.out[{1}], i, r{1});\n", element, k);
    }
    // A product that is contracted with the sum of the next node would not be rounded to its own node's type.
    return fmt::format(R"({not_contracted}{device}{functions}{arguments}
typedef {position} Position;

static __device__ __forceinline__ Position quotient(const ChainArguments& a, int axis, Position i) {{
  return {quotient};
}}
template <int A>
static __device__ __forceinline__ Position spread(const ChainArguments& a, int k, Position i) {{
  Position offset = 0;
#pragma unroll
  for (int axis = A - 1; axis > 0; --axis) {{
    const Position q = quotient(a, axis, i);
    offset += (i - q * (Position)a.extents[axis]) * (Position)a.steps[k][axis];
    i = q;
  }}
  return offset + i * (Position)a.steps[k][0];
}}

template <int V>
static __device__ __forceinline__ void piece(const ChainArguments& a, Position i) {{
{before}#pragma unroll
  for (int j = 0; j < V; ++j) {{
{inside}  }}
{after}}}

extern "C" __global__ void __launch_bounds__(256) {name}(const __grid_constant__ ChainArguments a) {{
  const Position step = (Position)gridDim.x * blockDim.x, first = (Position)blockIdx.x * blockDim.x + threadIdx.x;
  for (Position v = first; v < (Position)a.vectors; v += step) piece<{vector}>(a, v * {vector});
  for (Position i = (Position)a.vectors * {vector} + first; i < (Position)a.count; i += step) piece<1>(a, i);
}}
)",
                       fmt::arg("not_contracted", kNotContracted), fmt::arg("device", kDeviceText),
                       fmt::arg("functions", functions_.text()), fmt::arg("arguments", kChainArgumentsText),
                       fmt::arg("position", is_narrow_ ? "u32" : "u64"),
                       fmt::arg("quotient", is_narrow_ ? "(__umulhi(i, a.multipliers[axis]) + i) >> a.shifts[axis]"
                                                       : "i / (u64)a.extents[axis]"),
                       fmt::arg("before", before_), fmt::arg("inside", inside), fmt::arg("after", after),
                       fmt::arg("name", made_.kernel.name), fmt::arg("vector", made_.vector));
  }

  const Graph& body_;
  const std::function<bool(std::size_t)>& is_wanted_;
  ValueMap<std::string> names_;
  const Shape& shape_;
  ChainKernelText made_;
  FormulaFunctions functions_;
  std::string before_;  // the loop over a vector's elements
  std::size_t values_ = 0, constants_ = 0, axes_ = 0;
  bool is_narrow_ = true;
};

}  // namespace

bool chain_holds(const Graph& graph, const Node& node) {
  constexpr std::size_t kMaxOperands = 3;  // so that a chain's constants are not too many
  const auto is_held = [&](ValueId id) {
    return id == kNoValue ||
           (graph[id].shape.is_static() && graph[id].shape.count() > 0 && !element_name(graph[id].dtype).empty());
  };
  return node.inputs.size() <= kMaxOperands && has_element_text(graph, node) &&
         graph[node.outputs[0]].shape.rank() <= ChainArguments::kAxes && is_held(node.outputs[0]) &&
         std::ranges::all_of(node.inputs, is_held);
}

ChainKernelText chain_text(const Graph& body, const std::function<bool(std::size_t)>& is_wanted) {
  return Writer(body, is_wanted).write();
}

BodyOfNode body_of_node(const Graph& graph, const Node& node) {
  BodyOfNode made;
  std::vector<ValueId> inputs, outputs;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId id = node.inputs[i];
    if (id != kNoValue) made.operands.push_back(i);
    inputs.push_back(id == kNoValue ? kNoValue : made.body.add_input("", graph[id].dtype, graph[id].shape));
  }
  for (const ValueId id : node.outputs) outputs.push_back(made.body.add_value("", graph[id].dtype, graph[id].shape));
  made.body.outputs = outputs;
  made.body.define(std::move(outputs), node.op, node.domain, std::move(inputs), node.attributes, node.name);
  return made;
}

}  // namespace halfstep::cudnn
