#include "conformance/mutate_case.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <optional>
#include <utility>
#include <variant>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "conformance/executor_check.h"
#include "conformance/random_choice.h"
#include "conformance/run_graph.h"
#include "onnx_io/model_editor.h"
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

/// Changes something, and says what; empty where it found nothing to change.
using Mutation = std::string (*)(ModelEditor&, std::vector<Tensor>&, RandomChoice&);

std::int64_t other_int(std::int64_t value, RandomChoice& choice) {
  if (choice.one_in(2))
    return choice.one_in(2) ? static_cast<std::int64_t>(static_cast<std::uint64_t>(value) + 1)
                            : static_cast<std::int64_t>(static_cast<std::uint64_t>(value) - 1);
  return choice.of(std::span<const std::int64_t>(kInts));
}

float other_float(RandomChoice& choice) { return static_cast<float>(choice.of(std::span<const double>(kFloats))); }

// Of the graph or of a body in it.
std::optional<std::size_t> any_node(const ModelEditor& model, RandomChoice& choice) {
  if (model.node_count() == 0) return {};
  return choice.below(model.node_count());
}

template <class T, class Change>
void change_list(std::vector<T>& list, RandomChoice& choice, const Change& change) {
  switch (choice.below(4)) {
    case 0:
      if (!list.empty()) list.pop_back();
      break;
    case 1:
      list.push_back(change(list.empty() ? 1 : list[0]));
      break;
    default:
      if (list.empty()) break;
      T& element = list[choice.below(list.size())];
      element = change(element);
  }
}

/// Another value for an attribute, and what is said of it; empty where there is nothing to change.
struct ChangeOfAttribute {
  const std::string& name;
  RandomChoice& choice;

  std::string operator()(std::monostate) const { return {}; }
  std::string operator()(std::int64_t& value) const {
    value = other_int(value, choice);
    return fmt::format("attribute {} = {}", name, value);
  }
  std::string operator()(float& value) const {
    value = other_float(choice);
    return fmt::format("attribute {} = {}", name, value);
  }
  std::string operator()(std::string& value) const {
    value = choice.one_in(2) ? "" : value + "x";
    return fmt::format("attribute {} = '{}'", name, value);
  }
  std::string operator()(std::vector<std::int64_t>& values) const {
    change_list(values, choice, [&](std::int64_t value) { return other_int(value, choice); });
    return fmt::format("attribute {} = [{}]", name, fmt::join(values, ", "));
  }
  std::string operator()(std::vector<float>& values) const {
    change_list(values, choice, [&](float) { return other_float(choice); });
    return fmt::format("attribute {} = [{}]", name, fmt::join(values, ", "));
  }
  std::string operator()(ModelEditor::BodyNames& body) const {
    std::vector<std::string>& values = choice.one_in(2) ? body.inputs : body.outputs;
    if (values.empty()) return {};
    const std::string gone = values.back();
    values.pop_back();
    return fmt::format("'{}' no longer an input or output of {}", gone, name);
  }
};

std::string change_attribute(ModelEditor& model, std::vector<Tensor>&, RandomChoice& choice) {
  const auto node = any_node(model, choice);
  if (!node) return {};
  const std::vector<std::string> names = model.attribute_names(*node);
  if (names.empty()) return {};
  const std::string& name = names[choice.below(names.size())];
  if (choice.one_in(10)) {
    model.remove_attribute(*node, name);
    return fmt::format("attribute {} removed", name);
  }
  ModelEditor::Value value = model.attribute(*node, name);
  const std::string change = std::visit(ChangeOfAttribute{name, choice}, value);
  if (!change.empty()) model.set_attribute(*node, name, value);
  return change;
}

std::string add_attribute(ModelEditor& model, std::vector<Tensor>&, RandomChoice& choice) {
  static constexpr std::array<const char*, 10> kNames = {"axis",  "axes", "keepdims",  "pads",  "strides",
                                                         "group", "to",   "dilations", "alpha", "kernel_shape"};
  const auto node = any_node(model, choice);
  if (!node) return {};
  const std::string name = kNames[choice.below(kNames.size())];
  if (std::ranges::count(model.attribute_names(*node), name) > 0) return {};
  if (name == "alpha") {
    model.set_attribute(*node, name, other_float(choice));
  } else if (name.ends_with('s') || name == "kernel_shape") {
    std::vector<std::int64_t> values(choice.below(4) + 1);
    for (std::int64_t& value : values) value = other_int(1, choice);
    model.set_attribute(*node, name, values);
  } else {
    model.set_attribute(*node, name, other_int(1, choice));
  }
  return fmt::format("attribute {} added", name);
}

std::string change_operands(ModelEditor& model, std::vector<Tensor>&, RandomChoice& choice) {
  const auto node = any_node(model, choice);
  if (!node) return {};
  std::vector<std::string> operands = model.operands(*node);
  if (operands.empty()) return {};
  std::string change;
  switch (choice.below(4)) {
    case 0:
      operands.pop_back();
      change = "last operand removed";
      break;
    case 1: {
      const std::size_t i = choice.below(operands.size());
      operands[i].clear();
      change = fmt::format("operand {} left out", i);
      break;
    }
    case 2: {
      const std::size_t i = choice.below(operands.size()), k = choice.below(operands.size());
      std::swap(operands[i], operands[k]);
      change = fmt::format("operands {} and {} exchanged", i, k);
      break;
    }
    default:
      operands.push_back(operands[choice.below(operands.size())]);
      change = fmt::format("operand '{}' once more", operands.back());
  }
  model.set_operands(*node, operands);
  return change;
}

std::string change_opset(ModelEditor& model, std::vector<Tensor>&, RandomChoice& choice) {
  if (!model.opset()) return {};
  const auto version = static_cast<std::int64_t>(choice.below(29)) + 1;
  model.set_opset(version);
  return fmt::format("operator set {}", version);
}

// An input of the graph that has data.
std::optional<std::size_t> any_input(const ModelEditor& model, const std::vector<Tensor>& inputs,
                                     RandomChoice& choice) {
  if (inputs.empty() || model.inputs().size() != inputs.size()) return {};
  const std::size_t i = choice.below(inputs.size());
  if (inputs[i].dtype() == DType::string || bits_of(inputs[i].dtype()) % 8 != 0) return {};
  return i;
}

// Without its extents it keeps its rank, which ONNX wants to be declared. What is declared of outputs may no longer
// hold; inference overrules it.
void declare(ModelEditor& model, std::size_t i, const Tensor& tensor, bool with_extents) {
  const std::vector<std::int64_t> open(tensor.shape().rank(), Shape::kUnknown);
  model.declare_input(i, tensor.dtype(), with_extents ? tensor.shape() : Shape(open));
}

std::string change_shape(ModelEditor& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  static constexpr std::array<std::int64_t, 6> kExtents = {0, 1, 2, 3, 5, 17};
  const auto i = any_input(model, inputs, choice);
  if (!i) return {};
  Tensor& tensor = inputs[*i];
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
  declare(model, *i, tensor, choice.one_in(2));
  return fmt::format("input {} of shape {}", *i, tensor.shape().to_string());
}

std::string change_type(ModelEditor& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  const auto i = any_input(model, inputs, choice);
  if (!i) return {};
  Tensor& tensor = inputs[*i];
  if (!is_float(tensor.dtype()) && !is_integer(tensor.dtype()) && tensor.dtype() != DType::boolean) return {};
  tensor = convert(tensor, choice.of(std::span<const DType>(kTypes)));
  declare(model, *i, tensor, true);
  for (std::size_t k = 0; k < model.output_count(); ++k)
    if (choice.one_in(2)) model.declare_output(k, tensor.dtype());
  return fmt::format("input {} of type {}", *i, name_of(tensor.dtype()));
}

std::string change_values(ModelEditor& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  const auto i = any_input(model, inputs, choice);
  if (!i || inputs[*i].count() == 0) return {};
  Tensor& tensor = inputs[*i];
  if (!is_float(tensor.dtype()) && !is_integer(tensor.dtype())) return {};
  tensor = tensor.clone();
  const std::size_t element = choice.below(static_cast<std::size_t>(tensor.count()));
  const Tensor value = is_float(tensor.dtype())
                           ? convert(Tensor::scalar(choice.of(std::span<const double>(kFloats))), tensor.dtype())
                           : convert(Tensor::scalar(other_int(to_int64s(tensor)[element], choice)), tensor.dtype());
  std::memcpy(static_cast<char*>(tensor.raw()) + element * value.bytes(), value.raw(), value.bytes());
  return fmt::format("input {}, element {} = {}", *i, element, to_doubles(value)[0]);
}

// Inference and folding see its values then.
std::string make_initializer(ModelEditor& model, std::vector<Tensor>& inputs, RandomChoice& choice) {
  const auto i = any_input(model, inputs, choice);
  if (!i) return {};
  const std::string name = model.inputs()[*i];
  model.make_initializer(*i, inputs[*i]);
  inputs.erase(inputs.begin() + static_cast<std::ptrdiff_t>(*i));
  return fmt::format("input '{}' an initializer", name);
}

constexpr std::array<Mutation, 12> kMutations = {
    change_attribute, change_attribute, change_attribute, add_attribute, change_operands, change_opset,
    change_shape,     change_shape,     change_type,      change_values, change_values,   make_initializer};

// The reference executor takes minutes for more.
constexpr double kMostElements = 1 << 22;

// Whether a tensor of the graph is too large to compute in a test, and small enough to be computed at all.
bool takes_long(const Graph& graph) {
  const auto memory = static_cast<double>(make_reference_executor()->capabilities().memory);
  return std::any_of(graph.values.begin(), graph.values.end(), [&](const Value& value) {
    if (!value.shape.is_static()) return false;
    const double elements = std::accumulate(value.shape.begin(), value.shape.end(), 1.0, std::multiplies<double>());
    return elements > kMostElements && elements * static_cast<double>(bits_of(value.dtype)) / 8 <= memory;
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
  ModelEditor model(onnx_case.model_bytes());
  MutatedCase mutant;
  const std::vector<OnnxDataSet> sets = onnx_case.data_sets();
  if (!sets.empty()) mutant.inputs = sets[0].inputs;
  for (std::size_t wanted = choice.below(3) + 1, tries = 0; wanted > 0 && tries < 20; ++tries) {
    const std::string change = kMutations[choice.below(kMutations.size())](model, mutant.inputs, choice);
    if (change.empty()) continue;
    mutant.changes += change + "\n";
    --wanted;
  }
  mutant.model = model.bytes();
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
