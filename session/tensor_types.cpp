#include "session/tensor_types.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {

std::vector<TensorInfo> types_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<TensorInfo> types;
  for (const ValueId id : ids) types.push_back({graph[id].name, graph[id].dtype, graph[id].shape});
  return types;
}

std::vector<TensorInfo> inputs_of(const PreparedModel& prepared) {
  const Graph& model = prepared.graph();
  std::vector<TensorInfo> inputs = types_of(model, model.inputs);
  const auto starts_with_batch = [](const TensorInfo& input) {
    return input.shape.is_ranked() && input.shape.rank() > 0 && input.shape[0] != Shape::kUnknown;
  };
  if (std::ranges::none_of(inputs, starts_with_batch)) return inputs;
  std::int64_t batch = Shape::kUnknown;
  try {
    batch = fixed_batch(model);
  } catch (const Error&) {  // its inputs have different batch sizes
    return inputs;
  }
  if (batch == Shape::kUnknown || !prepared.batch_obstacle().empty()) return inputs;
  for (TensorInfo& input : inputs) {
    if (!starts_with_batch(input)) continue;
    std::vector<std::int64_t> dims = input.shape.dims();
    dims[0] = Shape::kUnknown;
    input.shape = Shape(dims);
  }
  return inputs;
}

void check_names(const NamedTensors& given, std::span<const TensorInfo> wanted, const std::string& what, bool partly) {
  const auto all = [&] {
    std::vector<std::string> names;
    for (const TensorInfo& type : wanted) names.push_back(type.name);
    return fmt::format("{}", fmt::join(names, ", "));
  };
  for (const auto& [name, tensor] : given) {
    if (std::ranges::find(wanted, name, &TensorInfo::name) == wanted.end())
      throw_input_error(fmt::format("the name of {}: {}", what, all()), fmt::format("'{}'", name), "check the name");
    if (!tensor.is_defined()) throw_input_error(fmt::format("a tensor for '{}'", name), "an undefined tensor", "");
  }
  if (partly) return;
  for (const TensorInfo& type : wanted)
    if (!given.contains(type.name))
      throw_input_error(fmt::format("a tensor for each name of {}: {}", what, all()),
                        fmt::format("none for '{}'", type.name), "give it");
}

Tensor fitted(const NamedTensors& given, const TensorInfo& wanted) {
  const Tensor& tensor = given.at(wanted.name);
  const Shape &shape = tensor.shape(), &model = wanted.shape;
  bool fits = !model.is_ranked() || model.rank() == shape.rank();
  for (std::size_t i = 0; fits && model.is_ranked() && i < model.rank(); ++i)
    fits = model[i] == Shape::kUnknown || model[i] == shape[i];
  if (!fits)
    throw_input_error(wanted.to_string(), fmt::format("{}{}", name_of(tensor.dtype()), shape.to_string()),
                      "check the shape");
  return as_type(tensor, wanted.dtype, wanted.name);
}

void copy_into(Tensor& to, const Tensor& from) {
  if (to.dtype() == DType::string && from.dtype() == DType::string && to.count() == from.count()) {
    std::ranges::copy(from.span<std::string>(), to.data<std::string>());
    return;
  }
  if (to.dtype() != from.dtype() || to.bytes() != from.bytes())
    throw_failure(fmt::format("a tensor of {}{}", name_of(to.dtype()), to.shape().to_string()),
                  fmt::format("{}{}", name_of(from.dtype()), from.shape().to_string()),
                  "compile a program for these shapes");
  if (from.bytes() > 0) std::memcpy(to.raw(), from.raw(), from.bytes());
}

}  // namespace halfstep
