#include "conformance/mutate_case.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include "base/machine_memory.h"
#include "conformance/executor_check.h"
#include "conformance/random_choice.h"
#include "conformance/run_graph.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

constexpr std::array<std::int64_t, 14> kInts = {0,  1,  -1, 2,       -2,        3,         7,
                                                17, 64, -9, 1 << 20, INT32_MAX, INT64_MAX, INT64_MIN};
constexpr std::array<double, 10> kFloats = {0,    -0.0,  1,     -1,       0.5,
                                            1000, -1000, 1e-40, INFINITY, std::numeric_limits<double>::quiet_NaN()};
constexpr std::array<DType, 10> kTypes = {DType::f32, DType::f16, DType::bf16, DType::f64,     DType::i32,
                                          DType::i64, DType::u8,  DType::i8,   DType::boolean, DType::u64};

using Mutation = std::string (*)(onnx::ModelProto&, std::vector<Tensor>&, RandomChoice&);

std::int64_t other_int(std::int64_t value, RandomChoice& choice) {
  if (choice.one_in(2))
    return choice.one_in(2) ? static_cast<std::int64_t>(static_cast<std::uint64_t>(value) + 1)
                            : static_cast<std::int64_t>(static_cast<std::uint64_t>(value) - 1);
  return choice.of(std::span<const std::int64_t>(kInts));
}

// Of the graph or of a body in it.
onnx::NodeProto* any_node(onnx::ModelProto& model, RandomChoice& choice) {
  std::vector<onnx::NodeProto*> nodes;
  for_each_node(*model.mutable_graph(), [&](onnx::NodeProto& node) { nodes.push_back(&node); });
  return nodes.empty() ? nullptr : nodes[choice.below(nodes.size())];
}

template <class List, class Change>
void change_list(List& list, RandomChoice& choice, const Change& change) {
  const std::size_t size = static_cast<std::size_t>(list.size());
  switch (choice.below(4)) {
    case 0:
      if (size > 0) list.RemoveLast();
      break;
    case 1:
      list.Add(change(size > 0 ? list.Get(0) : 1));
      break;
    default:
      if (size > 0) {
        const int i = static_cast<int>(choice.below(size));
        list.Set(i, change(list.Get(i)));
      }
  }
}

std::string change_attribute(onnx::ModelProto& model, std::vector<Tensor>&, RandomChoice& choice) {
  onnx::NodeProto* node = any_node(model, choice);
  if (!node || node->attribute_size() == 0) return {};
  auto& a = *node->mutable_attribute(static_cast<int>(choice.below(static_cast<std::size_t>(node->attribute_size()))));
  const auto to_float = [&](float) { return static_cast<float>(choice.of(std::span<const double>(kFloats))); };
  const auto to_int = [&](std::int64_t value) { return other_int(value, choice); };
  if (choice.one_in(10)) {
    const std::string name = a.name();
    a.Swap(node->mutable_attribute(node->attribute_size() - 1));
    node->mutable_attribute()->RemoveLast();
    return fmt::format("attribute {} removed", name);
  }
  switch (a.type()) {
    case onnx::AttributeProto::INT:
      a.set_i(to_int(a.i()));
      return fmt::format("attribute {} = {}", a.name(), a.i());
    case onnx::AttributeProto::FLOAT:
      a.set_f(to_float(a.f()));
      return fmt::format("attribute {} = {}", a.name(), a.f());
    case onnx::AttributeProto::STRING:
      a.set_s(choice.one_in(2) ? "" : a.s() + "x");
      return fmt::format("attribute {} = '{}'", a.name(), a.s());
    case onnx::AttributeProto::INTS:
      change_list(*a.mutable_ints(), choice, to_int);
      return fmt::format("attribute {} = [{}]", a.name(), fmt::join(a.ints(), ", "));
    case onnx::AttributeProto::FLOATS:
      change_list(*a.mutable_floats(), choice, to_float);
      return fmt::format("attribute {} = [{}]", a.name(), fmt::join(a.floats(), ", "));
    case onnx::AttributeProto::GRAPH: {
      auto& values = choice.one_in(2) ? *a.mutable_g()->mutable_input() : *a.mutable_g()->mutable_output();
      if (values.empty()) return {};
      const std::string name = values.rbegin()->name();
      values.RemoveLast();
      return fmt::format("'{}' no longer an input or output of {}", name, a.name());
    }
    default:
      return {};
  }
}

std::string add_attribute(onnx::ModelProto& model, std::vector<Tensor>&, RandomChoice& choice) {
  static constexpr std::array<const char*, 10> kNames = {"axis",  "axes", "keepdims",  "pads",  "strides",
                                                         "group", "to",   "dilations", "alpha", "kernel_shape"};
  onnx::NodeProto* node = any_node(model, choice);
  if (!node) return {};
  const std::string name = kNames[choice.below(kNames.size())];
  const bool known = std::any_of(node->attribute().begin(), node->attribute().end(),
                                 [&](const onnx::AttributeProto& a) { return a.name() == name; });
  if (known) return {};
  auto& a = *node->add_attribute();
  a.set_name(name);
  if (name == "alpha") {
    a.set_type(onnx::AttributeProto::FLOAT);
    a.set_f(static_cast<float>(choice.of(std::span<const double>(kFloats))));
  } else if (name.ends_with('s') || name == "kernel_shape") {
    a.set_type(onnx::AttributeProto::INTS);
    for (std::size_t i = choice.below(4) + 1; i > 0; --i) a.add_ints(other_int(1, choice));
  } else {
    a.set_type(onnx::AttributeProto::INT);
    a.set_i(other_int(1, choice));
  }
  return fmt::format("attribute {} added", name);
}

std::string change_operands(onnx::ModelProto& model, std::vector<Tensor>&, RandomChoice& choice) {
  onnx::NodeProto* node = any_node(model, choice);
  if (!node || node->input_size() == 0) return {};
  const auto any = [&] { return static_cast<int>(choice.below(static_cast<std::size_t>(node->input_size()))); };
  switch (choice.below(4)) {
    case 0:
      node->mutable_input()->RemoveLast();
      return "last operand removed";
    case 1: {
      const int i = any();
      node->set_input(i, "");
      return fmt::format("operand {} left out", i);
    }
    case 2: {
      const int i = any(), k = any();
      node->mutable_input()->SwapElements(i, k);
      return fmt::format("operands {} and {} exchanged", i, k);
    }
    default: {
      const std::string name = node->input(any());
      node->add_input(name);
      return fmt::format("operand '{}' once more", name);
    }
  }
}

std::string change_opset(onnx::ModelProto& model, std::vector<Tensor>&, RandomChoice& choice) {
  if (model.opset_import_size() == 0) return {};
  auto& import = *model.mutable_opset_import(0);
  import.set_version(static_cast<std::int64_t>(choice.below(29)) + 1);
  return fmt::format("operator set {}", import.version());
}

// Position in the graph's inputs of one that has data; -1 when there is none.
int any_input(const onnx::ModelProto& model, const std::vector<Tensor>& inputs, RandomChoice& choice) {
  if (inputs.empty() || static_cast<std::size_t>(model.graph().input_size()) != inputs.size()) return -1;
  const std::size_t i = choice.below(inputs.size());
  return inputs[i].dtype() == DType::string || bits_of(inputs[i].dtype()) % 8 != 0 ? -1 : static_cast<int>(i);
}

// Without its extents it keeps its rank, which ONNX wants to be declared. What is declared of outputs may no longer
// hold; inference overrules it.
void declare(onnx::ModelProto& model, int i, const Tensor& tensor, bool with_extents) {
  auto& input = *model.mutable_graph()->mutable_input(i);
  *input.mutable_type() = type_to_proto(tensor.dtype(), tensor.shape());
  if (with_extents) return;
  for (auto& dim : *input.mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim()) dim.Clear();
}

std::string change_shape(onnx::ModelProto& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  static constexpr std::array<std::int64_t, 6> kExtents = {0, 1, 2, 3, 5, 17};
  const int i = any_input(model, inputs, choice);
  if (i < 0) return {};
  Tensor& tensor = inputs[static_cast<std::size_t>(i)];
  std::vector<std::int64_t> shape(tensor.shape().begin(), tensor.shape().end());
  if (shape.empty() || choice.one_in(5))
    shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(choice.below(shape.size() + 1)),
                 choice.of(std::span<const std::int64_t>(kExtents)));
  else if (choice.one_in(4))
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(choice.below(shape.size())));
  else
    shape[choice.below(shape.size())] = choice.of(std::span<const std::int64_t>(kExtents));
  Tensor changed(tensor.dtype(), Shape(std::move(shape)));
  const std::size_t bytes = tensor.bytes();
  for (std::size_t at = 0; bytes > 0 && at < changed.bytes(); at += bytes)
    std::memcpy(static_cast<char*>(changed.raw()) + at, tensor.raw(), std::min(bytes, changed.bytes() - at));
  tensor = std::move(changed);
  declare(model, i, tensor, choice.one_in(2));
  return fmt::format("input {} of shape {}", i, tensor.shape().to_string());
}

std::string change_type(onnx::ModelProto& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  const int i = any_input(model, inputs, choice);
  if (i < 0) return {};
  Tensor& tensor = inputs[static_cast<std::size_t>(i)];
  if (!is_float(tensor.dtype()) && !is_integer(tensor.dtype()) && tensor.dtype() != DType::boolean) return {};
  tensor = convert(tensor, choice.of(std::span<const DType>(kTypes)));
  declare(model, i, tensor, true);
  for (auto& output : *model.mutable_graph()->mutable_output())
    if (choice.one_in(2)) output.mutable_type()->mutable_tensor_type()->set_elem_type(static_cast<int>(tensor.dtype()));
  return fmt::format("input {} of type {}", i, name_of(tensor.dtype()));
}

std::string change_values(onnx::ModelProto& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  const int i = any_input(model, inputs, choice);
  if (i < 0 || inputs[static_cast<std::size_t>(i)].count() == 0) return {};
  Tensor& tensor = inputs[static_cast<std::size_t>(i)];
  if (!is_float(tensor.dtype()) && !is_integer(tensor.dtype())) return {};
  tensor = tensor.clone();
  const std::size_t element = choice.below(static_cast<std::size_t>(tensor.count()));
  const Tensor value = is_float(tensor.dtype())
                           ? convert(Tensor::scalar(choice.of(std::span<const double>(kFloats))), tensor.dtype())
                           : convert(Tensor::scalar(other_int(to_int64s(tensor)[element], choice)), tensor.dtype());
  std::memcpy(static_cast<char*>(tensor.raw()) + element * value.bytes(), value.raw(), value.bytes());
  return fmt::format("input {}, element {} = {}", i, element, to_doubles(value)[0]);
}

// Inference and folding see its values then.
std::string make_initializer(onnx::ModelProto& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  const int i = any_input(model, inputs, choice);
  if (i < 0) return {};
  auto& graph = *model.mutable_graph();
  const std::string name = graph.input(i).name();
  *graph.add_initializer() = tensor_to_proto(inputs[static_cast<std::size_t>(i)], name);
  graph.mutable_input()->DeleteSubrange(i, 1);
  inputs.erase(inputs.begin() + i);
  return fmt::format("input '{}' an initializer", name);
}

constexpr std::array<Mutation, 12> kMutations = {
    change_attribute, change_attribute, change_attribute, add_attribute, change_operands, change_opset,
    change_shape,     change_shape,     change_type,      change_values, change_values,   make_initializer};

// The reference executor takes minutes for more.
constexpr double kMostElements = 1 << 22;

// Whether a tensor of the graph is too large to compute in a test, and small enough to be computed at all.
bool takes_long(const Graph& graph) {
  return std::any_of(graph.values.begin(), graph.values.end(), [](const Value& value) {
    if (!value.shape.is_static()) return false;
    const double elements = std::accumulate(value.shape.begin(), value.shape.end(), 1.0, std::multiplies<double>());
    return elements > kMostElements &&
           elements * static_cast<double>(bits_of(value.dtype)) / 8 <= static_cast<double>(machine_memory());
  });
}

bool is_finite(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return true;
  const std::vector<double> values = to_doubles(tensor);
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

// ONNX does not say which element of a window is the largest beside a NaN, nor what infinite weights make of padding,
// and libraries differ.
bool has_window_of_no_numbers(const Graph& graph, const std::vector<Tensor>& inputs) {
  static constexpr std::array<std::string_view, 4> kOps = {"MaxPool", "Conv", "FusedConv", "ConvTranspose"};
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const Node& node) { return std::ranges::find(kOps, node.op) != kOps.end(); }) &&
         !(std::all_of(inputs.begin(), inputs.end(), is_finite) &&
           std::all_of(graph.values.begin(), graph.values.end(),
                       [](const Value& value) { return !value.is_constant() || is_finite(value.constant); }));
}

// Empty when halfstep refuses the model.
std::optional<Graph> load_mutant(const MutatedCase& mutant, const Capabilities& capabilities) {
  try {
    return prepare_graph(load_model_from_bytes(mutant.model).graph, mutant.inputs, capabilities);
  } catch (const Error&) {
    return {};
  }
}

// Why there is nothing to compare; empty when there is.
std::string why_not(const Graph& graph, const std::vector<Tensor>& inputs) {
  if (takes_long(graph)) return fmt::format("a tensor of more than {} elements", kMostElements);
  if (has_window_of_no_numbers(graph, inputs)) return "a window with an infinity or a NaN";
  return {};
}

// Empty when the two agree, or both refuse.
std::string mutant_difference(const Graph& graph, const std::vector<Tensor>& inputs, Executor& executor) {
  std::optional<std::string> refused;
  try {
    run_graph(*make_reference_executor(), graph, inputs);
  } catch (const Error& e) {
    refused = e.what();
  }
  try {
    if (!refused) return execution_difference(graph, inputs, executor, 1);
    run_graph(executor, graph, inputs);
  } catch (const Error& e) {
    return refused ? std::string() : fmt::format("only the reference executor runs it: {}", e.what());
  }
  return fmt::format("the reference executor alone refuses it: {}", *refused);
}

}  // namespace

std::size_t mutated_case_index(std::uint64_t seed, std::size_t number, std::size_t count) {
  return RandomChoice(seed, fmt::format("#{}", number)).below(count);
}

std::string mutant_name(const OnnxCase& onnx_case, std::size_t number) {
  return fmt::format("{}#{}", onnx_case.name(), number);
}

MutatedCase mutate_case(const OnnxCase& onnx_case, std::uint64_t seed, std::size_t number) {
  RandomChoice choice(seed, mutant_name(onnx_case, number));
  onnx::ModelProto model = onnx_case.model();
  MutatedCase mutant;
  const std::vector<OnnxDataSet> sets = onnx_case.data_sets();
  if (!sets.empty()) mutant.inputs = sets[0].inputs;
  for (std::size_t wanted = choice.below(3) + 1, tries = 0; wanted > 0 && tries < 20; ++tries) {
    const std::string change = kMutations[choice.below(kMutations.size())](model, mutant.inputs, choice);
    if (change.empty()) continue;
    mutant.changes += change + "\n";
    --wanted;
  }
  model.SerializeToString(&mutant.model);
  return mutant;
}

CheckReport check_mutant(const OnnxCase& onnx_case, const MutatedCase& mutant, std::size_t number, Executor& executor) {
  CheckReport report{.op = fmt::format("{}", fmt::join(onnx_case.operators(), " ")),
                     .case_name = mutant_name(onnx_case, number),
                     .kind = CheckKind::mutation};
  try {
    const std::optional<Graph> graph = load_mutant(mutant, executor.capabilities());
    if (graph) report.message = why_not(*graph, mutant.inputs);
    if (!report.message.empty()) {
      report.result = CheckResult::not_applicable;
      return report;
    }
    if (graph) report.message = mutant_difference(*graph, mutant.inputs, executor);
  } catch (const std::bad_alloc&) {
    // The change asks for more memory than there is, which the program reports as an error.
  } catch (const std::exception& e) {
    report.message = fmt::format("another exception than Error: {}", e.what());
  }
  if (report.message.empty()) return report;
  report.result = CheckResult::failed;
  report.message = fmt::format("{} (changes: {})", report.message, mutant.changes);
  return report;
}

}  // namespace halfstep
