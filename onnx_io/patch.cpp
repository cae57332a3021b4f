#include "onnx_io/patch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "onnx_io/convert.h"
#include "onnx_io/remove_unread.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

// A Constant node's value as a tensor, whichever attribute it is in.
onnx::TensorProto value_of(const onnx::NodeProto& constant) {
  onnx::ModelProto model;
  *model.mutable_graph()->add_node() = constant;
  const Graph graph = from_proto(model);
  return tensor_to_proto(graph[graph.find(constant.output(0))].constant);
}

void set_value(onnx::NodeProto& constant, onnx::TensorProto value) {
  constant.clear_attribute();
  auto& attribute = *constant.add_attribute();
  attribute.set_name("value");
  attribute.set_type(onnx::AttributeProto::TENSOR);
  *attribute.mutable_t() = std::move(value);
}

// The replaceable tensors in the main graph of a model: positions in its lists of initializers and nodes.
class TensorIndex {
 public:
  static constexpr int kNone = -1;

  explicit TensorIndex(const onnx::GraphProto& graph) : graph_(graph) {
    for (int i = 0; i < graph.initializer_size(); ++i) initializers_[graph.initializer(i).name()] = i;
    for (int i = 0; i < graph.node_size(); ++i) {
      const onnx::NodeProto& node = graph.node(i);
      if (node.output_size() != 1) continue;
      if (is_op(node, "Constant")) constants_[node.output(0)] = i;
      if (is_op(node, "Identity") && node.input_size() == 1 && has_source(node.input(0))) {
        identities_[node.output(0)] = i;
        sources_[node.output(0)] = source_name(node.input(0));
      }
    }
  }

  int initializer(const std::string& name) const { return find(initializers_, name); }
  int constant(const std::string& name) const { return find(constants_, name); }
  int identity(const std::string& name) const { return find(identities_, name); }
  const std::unordered_map<std::string, int>& identities() const { return identities_; }

  /// The name of the initializer or Constant node behind a name and any Identity nodes in between.
  const std::string& source_name(const std::string& name) const {
    const auto it = sources_.find(name);
    return it == sources_.end() ? name : it->second;
  }
  bool has_source(const std::string& name) const {
    const std::string& source = source_name(name);
    return initializer(source) != kNone || constant(source) != kNone;
  }
  /// The tensor of `source_name(name)`.
  onnx::TensorProto source(const std::string& name) const {
    const std::string& source = source_name(name);
    const int i = initializer(source);
    return i != kNone ? graph_.initializer(i) : value_of(graph_.node(constant(source)));
  }
  DType source_type(const std::string& name) const {
    const int i = initializer(source_name(name));
    return static_cast<DType>(i != kNone ? graph_.initializer(i).data_type() : source(name).data_type());
  }

 private:
  static int find(const std::unordered_map<std::string, int>& map, const std::string& name) {
    auto it = map.find(name);
    return it == map.end() ? kNone : it->second;
  }

  const onnx::GraphProto& graph_;
  std::unordered_map<std::string, int> initializers_, constants_, identities_;
  std::unordered_map<std::string, std::string> sources_;  // of identities; nodes come after what they read
};

// One row of a tensor with equal rows, which the exporter expanded over the batch.
Tensor repeat_row(const Tensor& row, const Shape& shape) {
  Tensor result(row.dtype(), shape);
  for (std::size_t at = 0; at < result.bytes(); at += row.bytes())
    std::memcpy(static_cast<std::byte*>(result.raw()) + at, row.raw(), row.bytes());
  return result;
}

bool is_row_of(const Shape& row, const Shape& shape) {
  return row.rank() == shape.rank() && row.rank() > 1 && row[0] == 1 && row.count() > 0 &&
         std::equal(row.begin() + 1, row.end(), shape.begin() + 1);
}

// Calls `f` with the index of each finite element of `from` that is infinite in `to`, the same tensor in a half type.
template <class F>
void for_each_beyond(const Tensor& from, const Tensor& to, F&& f) {
  const std::vector<double> before = to_doubles(from), after = to_doubles(to);
  for (std::size_t i = 0; i < before.size(); ++i)
    if (std::isfinite(before[i]) && !std::isfinite(after[i])) f(i);
}

// The new tensor if its leading columns are trained: those of a bias whose other elements are zero.
bool leads_zeros(const Shape& leading, const onnx::TensorProto& whole) {
  const Tensor tensor = tensor_from_proto(whole);
  const Shape& shape = tensor.shape();
  if (leading.rank() != 2 || shape.rank() != 2 || leading[0] != shape[0] || 2 * leading[1] != shape[1]) return false;
  const std::vector<double> elements = to_doubles(tensor);
  for (std::size_t i = 0; i < elements.size(); ++i)
    if (static_cast<std::int64_t>(i) % shape[1] >= leading[1] && elements[i] != 0) return false;
  return true;
}

Tensor followed_by_zeros(const Tensor& leading) {
  const Shape& shape = leading.shape();
  Tensor result(leading.dtype(), Shape{shape[0], 2 * shape[1]});
  const std::size_t row = leading.bytes() / static_cast<std::size_t>(shape[0]);
  for (std::int64_t i = 0; i < shape[0]; ++i)
    std::memcpy(static_cast<std::byte*>(result.raw()) + static_cast<std::size_t>(2 * i) * row,
                static_cast<const std::byte*>(leading.raw()) + static_cast<std::size_t>(i) * row, row);
  return result;
}

onnx::TensorProto patched(const onnx::TensorProto& old_tensor, Tensor tensor, const std::string& name) {
  const Shape shape = shape_from_proto(old_tensor);
  if (shape != tensor.shape() && is_row_of(tensor.shape(), shape)) tensor = repeat_row(tensor, shape);
  if (shape != tensor.shape() && tensor.count() > 0 && leads_zeros(tensor.shape(), old_tensor))
    tensor = followed_by_zeros(tensor);
  if (shape != tensor.shape())
    throw_failure("parameter '" + name + "' in its shape of the source model, " + shape.to_string(),
                  tensor.shape().to_string(), "save with the model that was trained");
  const auto dtype = static_cast<DType>(old_tensor.data_type());
  onnx::TensorProto data = tensor_to_proto(as_stored(tensor, dtype), name);
  onnx::TensorProto result = old_tensor;
  result.clear_float_data();
  result.clear_int32_data();
  result.clear_int64_data();
  result.clear_double_data();
  result.clear_uint64_data();
  result.set_raw_data(std::move(*data.mutable_raw_data()));
  result.set_name(name);
  return result;
}

}  // namespace

std::vector<std::string> missing_tensors(const onnx::ModelProto& model, const std::vector<std::string>& names) {
  const TensorIndex index(model.graph());
  std::vector<std::string> missing;
  for (const std::string& name : names)
    if (!index.has_source(name)) missing.push_back(name);
  return missing;
}

std::map<std::string, DType> stored_types(const onnx::ModelProto& model, const std::vector<TensorInfo>& tensors) {
  const TensorIndex index(model.graph());
  std::map<std::string, DType> types;
  for (const TensorInfo& tensor : tensors)
    if (index.has_source(tensor.name)) types[tensor.name] = index.source_type(tensor.name);
  return types;
}

std::map<int, std::string> replaced_whole(const onnx::ModelProto& model, const std::vector<TensorInfo>& tensors) {
  const TensorIndex index(model.graph());
  std::unordered_set<std::string> merged;
  for (const auto& [name, _] : index.identities()) merged.insert(index.source_name(name));
  std::map<int, std::string> replaced;
  for (const TensorInfo& tensor : tensors) {
    const int i = index.initializer(tensor.name);
    if (i == TensorIndex::kNone || merged.contains(tensor.name)) continue;
    if (shape_from_proto(model.graph().initializer(i)) == tensor.shape) replaced[i] = tensor.name;
  }
  return replaced;
}

std::vector<std::string> sources_of(const onnx::ModelProto& model, const NamedTensors& tensors) {
  const TensorIndex index(model.graph());
  std::vector<std::string> names;
  for (const auto& [name, _] : tensors) names.push_back(index.source_name(name));
  return names;
}

Tensor as_stored(const Tensor& tensor, DType dtype) {
  if (tensor.dtype() == dtype) return tensor;
  Tensor result = convert(tensor, dtype);
  // The largest number precedes infinity, for either sign.
  if (is_half(dtype))
    for_each_beyond(tensor, result, [&](std::size_t i) { --static_cast<std::uint16_t*>(result.raw())[i]; });
  return result;
}

std::int64_t count_beyond(const Tensor& tensor, DType half) {
  std::int64_t count = 0;
  for_each_beyond(tensor, convert(tensor, half), [&](std::size_t) { ++count; });
  return count;
}

void replace_tensors(onnx::ModelProto& model, const NamedTensors& tensors) {
  onnx::GraphProto& graph = *model.mutable_graph();
  const TensorIndex index(graph);
  std::vector<std::pair<int, onnx::TensorProto>> changed, changed_constants;
  std::vector<onnx::TensorProto> separated;
  std::unordered_set<const onnx::NodeProto*> doomed;
  std::unordered_set<std::string> released, changed_names;
  auto separate = [&](int identity, onnx::TensorProto tensor) {
    separated.push_back(std::move(tensor));
    doomed.insert(&graph.node(identity));
    released.insert(graph.node(identity).input(0));
  };
  for (const auto& [name, tensor] : tensors) {
    if (const int i = index.initializer(name); i != TensorIndex::kNone) {
      changed.emplace_back(i, patched(graph.initializer(i), tensor, name));
      changed_names.insert(name);
    } else if (const int c = index.constant(name); c != TensorIndex::kNone) {
      changed_constants.emplace_back(c, patched(value_of(graph.node(c)), tensor, name));
      changed_names.insert(name);
    } else if (const int identity = index.identity(name); identity != TensorIndex::kNone) {
      separate(identity, patched(index.source(name), tensor, name));
    } else {
      throw_failure("every trained parameter to be in the source model", "'" + name + "' is not",
                    "save with the model that was trained");
    }
  }
  // An untrained parameter must not follow the trained one that it was merged with.
  for (const auto& [name, identity] : index.identities()) {
    if (tensors.contains(name) || !changed_names.contains(index.source_name(name))) continue;
    onnx::TensorProto own = index.source(name);
    own.set_name(name);
    separate(identity, std::move(own));
  }
  std::sort(separated.begin(), separated.end(), [](const auto& a, const auto& b) { return a.name() < b.name(); });
  for (auto& [i, tensor] : changed) *graph.mutable_initializer(i) = std::move(tensor);
  for (auto& [i, tensor] : changed_constants) set_value(*graph.mutable_node(i), std::move(tensor));
  remove_nodes(graph, doomed);
  for (onnx::TensorProto& tensor : separated) {
    remove_named(*graph.mutable_value_info(), {tensor.name()});
    add_initializer(model, std::move(tensor));
  }
  remove_unread(graph, released);
}

}  // namespace halfstep
