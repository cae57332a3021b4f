#include "conversion/rewrite.h"

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "conversion/stored_tensors.h"
#include "onnx_io/module_scope.h"
#include "ops/proto.h"

namespace halfstep::conversion {
namespace {

using onnx::NodeProto;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

void set_element_type(onnx::ValueInfoProto& info, DType dtype) {
  if (info.type().has_tensor_type()) info.mutable_type()->mutable_tensor_type()->set_elem_type(static_cast<int>(dtype));
}

class Rewriter {
 public:
  Rewriter(const ModelView& view, const ConversionPlan& plan, DType half)
      : view_(view), plan_(plan), half_(half), values_(view.values.size()) {
    for (const ViewValue& value : view.values) taken_.insert(value.name);
    for (const ViewNode& node : view.nodes) taken_.insert(node.proto->name());
  }

  RewrittenConstants run() {
    for (const ValueId v : values_.ids()) {
      values_[v].name = view_.values[v].name;
      values_[v].half = plan_.made_half[v];
    }
    collect_wishes();
    name_copies();
    RewrittenConstants constants{ValueMap<bool>(values_.size()), ValueMap<bool>(values_.size())};
    for (const ValueId v : values_.ids()) {
      const bool constant = plan_.values[v].kind == PrecisionValue::Kind::constant;
      constants.half[v] = constant && values_[v].wants_half;
      constants.f32[v] = constant && (values_[v].wants_f32 || !values_[v].wants_half);
    }
    for (std::size_t s = 0; s < view_.scopes.size(); ++s) rewrite_scope(static_cast<int>(s));
    return constants;
  }

 private:
  struct ValueState {
    std::string name;   ///< of the value in its stored type
    std::string copy;   ///< of its copy in the other type
    bool half = false;  ///< an f32 value that is now stored in half
    bool wants_half = false, wants_f32 = false;
    bool given_half = false;  ///< as an output of its graph
    int narrowing = kNone;    ///< a Cast of the source that produces the copy
    bool gone = false;        ///< the name no longer exists
  };

  NodeKind kind_of_producer(ValueId v) const {
    const int p = view_.values[v].producer;
    return p == kNone ? NodeKind::ordinary : plan_.kinds[index(p)];
  }
  bool is_constant(ValueId v) const { return plan_.values[v].kind == PrecisionValue::Kind::constant; }

  void wish(ValueId v, bool half) {
    ValueState& state = values_[plan_.same_as[v]];
    (half ? state.wants_half : state.wants_f32) = true;
  }

  void collect_wishes() {
    for (std::size_t i = 0; i < view_.nodes.size(); ++i) {
      const ViewNode& node = view_.nodes[i];
      const PrecisionNode& planned = plan_.nodes[i];
      switch (plan_.kinds[i]) {
        case NodeKind::constant:
        case NodeKind::widening:
          break;
        case NodeKind::narrowing:
          if (!planned.inputs.empty()) wish(node.inputs[0], true);
          break;
        default:
          for (std::size_t k = 0; k < node.inputs.size(); ++k)
            if (node.inputs[k] != kNoValue && view_.values[node.inputs[k]].is_wide())
              if (const Taken taken = plan_.taken(static_cast<int>(i), k); taken != Taken::any)
                wish(node.inputs[k], taken == Taken::half);
      }
    }
    for (std::size_t s = 0; s < view_.scopes.size(); ++s)
      for (std::size_t k = 0; k < view_.scopes[s].outputs.size(); ++k) {
        const ValueId v = view_.scopes[s].outputs[k];
        if (!view_.values[v].is_wide()) continue;
        const bool half = plan_.gives_half(view_, s, k);
        wish(v, half);
        if (half) values_[v].given_half = true;
      }
  }

  std::string fresh(const std::string& name, DType dtype) {
    std::string wanted = name + "." + std::string(name_of(dtype));
    std::string result = wanted;
    for (int i = 1; !taken_.insert(result).second; ++i) result = wanted + "_" + std::to_string(i);
    return result;
  }

  void name_copies() {
    for (std::size_t i = 0; i < view_.nodes.size(); ++i) {
      if (plan_.kinds[i] != NodeKind::narrowing) continue;
      const ViewNode& node = view_.nodes[i];
      const ValueId v = plan_.same_as[node.inputs[0]];
      ValueState& state = values_[v];
      const bool gives_copy = !plan_.nodes[i].inputs.empty() && !state.half && !is_constant(v) &&
                              kind_of_producer(v) != NodeKind::widening && state.narrowing == kNone &&
                              view_.values[v].scope == node.scope;
      if (gives_copy) {
        state.narrowing = static_cast<int>(i);
        state.copy = view_.values[node.outputs[0]].name;
      } else if (!is_scope_output(node.outputs[0])) {
        values_[node.outputs[0]].gone = true;
      }
    }
    for (const ValueId v : values_.ids()) {
      ValueState& state = values_[v];
      if (!view_.values[v].is_wide() || plan_.same_as[v] != v) continue;
      if (kind_of_producer(v) == NodeKind::widening) {
        state.gone = !state.wants_f32 && !is_scope_output(v);
        state.half = state.given_half;
        if (state.half && state.wants_f32) state.copy = fresh(state.name, DType::f32);
        continue;
      }
      const bool output = view_.values[v].scope == 0 && view_.is_output(v);
      if (is_constant(v)) {
        // The name belongs to the type that the model returns, else to f32 if that exists.
        state.half = state.wants_half && (!state.wants_f32 || (output && plan_.half_boundary[v]));
        if (state.wants_half && state.wants_f32) state.copy = fresh(state.name, state.half ? DType::f32 : half_);
        continue;
      }
      if (!(state.half ? state.wants_f32 : state.wants_half)) continue;
      if (output && plan_.half_boundary[v] != state.half && !view_.values[v].is_input) {
        state.copy = std::exchange(state.name, fresh(state.name, state.half ? half_ : DType::f32));
        // A Cast of the source with the same result is removed, unless it gives an output.
        if (state.narrowing != kNone) {
          const ValueId out = view_.nodes[index(state.narrowing)].outputs[0];
          values_[out].gone = !is_scope_output(out);
        }
        state.narrowing = kNone;
      } else if (state.copy.empty()) {
        state.copy = fresh(state.name, state.half ? DType::f32 : half_);
      }
    }
  }

  bool is_scope_output(ValueId v) const {
    const auto& outputs = view_.scopes[index(view_.values[v].scope)].outputs;
    return std::find(outputs.begin(), outputs.end(), v) != outputs.end();
  }

  /// The name of an f32 value of the source in half, or in f32.
  const std::string& wide_name(ValueId any, bool half) const {
    const ValueId v = plan_.same_as[any];
    const ValueState& state = values_[v];
    if (half && kind_of_producer(v) == NodeKind::widening)
      return plain_name(view_.nodes[index(view_.values[v].producer)].inputs[0]);
    return state.half == half ? state.name : state.copy;
  }
  /// Whether an f32 value of the source exists in half without a cast.
  bool is_stored_half(ValueId v) const {
    const ValueId same = plan_.same_as[v];
    return kind_of_producer(same) == NodeKind::widening || values_[same].half;
  }
  const std::string& stored_name(ValueId v) const { return wide_name(v, is_stored_half(v)); }
  /// The name of a value that was not f32.
  const std::string& plain_name(ValueId v) const {
    if (!values_[v].gone || kind_of_producer(v) != NodeKind::narrowing) return values_[v].name;
    return wide_name(view_.nodes[index(view_.values[v].producer)].inputs[0], true);
  }

  void rewrite_scope(int s) {
    const ViewScope& scope = view_.scopes[index(s)];
    onnx::GraphProto& graph = *scope.graph;
    rewrite_initializers(scope);
    std::vector<std::unique_ptr<NodeProto>> nodes(index(graph.node_size()));
    for (std::size_t i = nodes.size(); i-- > 0;) nodes[i].reset(graph.mutable_node()->ReleaseLast());
    for (std::size_t i = 0; i < nodes.size(); ++i)
      if (plan_.kinds[index(scope.nodes[i])] == NodeKind::narrowing) narrowings_[scope.nodes[i]] = nodes[i].get();
    for (const ValueId v : scope.inputs) add_copy(graph, v);
    for (std::size_t i = 0; i < nodes.size(); ++i) rewrite_node(graph, std::move(nodes[i]), scope.nodes[i]);
    for (std::size_t k = 0; k < scope.inputs.size(); ++k)
      if (values_[scope.inputs[k]].half) set_element_type(*graph.mutable_input(static_cast<int>(k)), half_);
    for (std::size_t k = 0; k < scope.outputs.size(); ++k) {
      const ValueId v = scope.outputs[k];
      auto& output = *graph.mutable_output(static_cast<int>(k));
      const bool wide = view_.values[v].is_wide(), half = wide && plan_.gives_half(view_, index(s), k);
      const ValueState& state = values_[v];
      output.set_name(!wide ? plain_name(v) : state.half == half ? state.name : state.copy);
      if (half) set_element_type(output, half_);
    }
    rewrite_value_info(scope);
  }

  void rewrite_initializers(const ViewScope& scope) {
    for (const auto* list : {&scope.inputs, &scope.initializers})
      for (const ValueId v : *list) {
        onnx::TensorProto* tensor = view_.values[v].initializer;
        if (!tensor || !view_.values[v].is_wide()) continue;
        const ValueState& state = values_[v];
        if (is_constant(v) && !state.copy.empty()) {
          onnx::TensorProto copy = *tensor;
          copy.set_name(state.copy);
          retype(copy, state.half ? DType::f32 : half_, plan_.choice.limit(v, !state.half));
          *scope.graph->add_initializer() = std::move(copy);
        }
        const double limit = plan_.choice.limit(v, state.half);
        if (state.half || limit > 0) retype(*tensor, state.half ? half_ : DType::f32, limit);
      }
  }

  void rewrite_node(onnx::GraphProto& graph, std::unique_ptr<NodeProto> proto, int i) {
    const ViewNode& node = view_.nodes[index(i)];
    switch (plan_.kinds[index(i)]) {
      case NodeKind::constant:
        return rewrite_constant(graph, std::move(proto), node.outputs[0]);
      case NodeKind::narrowing: {
        const ValueId out = node.outputs[0], in = plan_.same_as[node.inputs[0]];
        if (values_[out].gone || values_[in].narrowing == i) return;  // add_copy writes the latter
        // An output of the graph that already exists in half.
        make_identity(*proto);
        proto->set_input(0, wide_name(in, true));
        break;
      }
      case NodeKind::widening: {
        const ValueId out = node.outputs[0];
        if (plan_.same_as[out] != out || values_[out].gone) return;
        proto->set_input(0, plain_name(node.inputs[0]));
        if (values_[out].half) {  // an output of a graph whose type becomes half
          make_identity(*proto);
          if (!values_[out].copy.empty()) add_cast(graph, proto->input(0), values_[out].copy, DType::f32);
        }
        break;
      }
      default:
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
          const ValueId v = node.inputs[k];
          if (v == kNoValue) continue;
          const Taken taken = plan_.taken(i, k);
          proto->set_input(static_cast<int>(k), !view_.values[v].is_wide() ? plain_name(v)
                                                : taken == Taken::any      ? stored_name(v)
                                                                           : wide_name(v, taken == Taken::half));
        }
        set_result_type(*proto, i);
        if (plan_.kinds[index(i)] == NodeKind::copy)
          make_identity(*proto);
        else if (node.is("CastLike"))
          set_result_type_of_cast_like(*proto, i);
    }
    for (std::size_t k = 0; k < node.outputs.size(); ++k)
      if (node.outputs[k] != kNoValue) proto->set_output(static_cast<int>(k), values_[node.outputs[k]].name);
    const int place = graph.node_size();
    graph.mutable_node()->AddAllocated(proto.release());
    for (const ValueId v : node.outputs)
      if (v != kNoValue) add_copy(graph, v);
    for (int added = place + 1; added < graph.node_size(); ++added)
      if (graph.node(added).metadata_props().empty()) copy_module_scope(graph.node(place), *graph.mutable_node(added));
  }

  static void make_identity(NodeProto& cast) {
    cast.set_op_type("Identity");
    cast.clear_attribute();
    while (cast.input_size() > 1) cast.mutable_input()->RemoveLast();
  }

  // A Cast if the value that it refers to does not exist in the target type.
  void set_result_type_of_cast_like(NodeProto& proto, int i) const {
    const ValueId like = view_.nodes[index(i)].inputs[1];
    if (!view_.values[like].is_wide() || is_stored_half(like) == plan_.is_half(i)) return;
    proto.set_op_type("Cast");
    proto.mutable_input()->RemoveLast();
    *proto.add_attribute() = attribute_to_proto("to", static_cast<std::int64_t>(plan_.is_half(i) ? half_ : DType::f32));
  }

  // One of the two operators whose result type is set by an attribute.
  void set_result_type(NodeProto& node, int i) const {
    const ViewNode& viewed = view_.nodes[index(i)];
    const bool half = plan_.is_half(i);
    if (viewed.is("Cast") && half)
      for (auto& attribute : *node.mutable_attribute())
        if (attribute.name() == "to" && view_.values[viewed.outputs[0]].is_wide()) attribute = cast_to(half_);
    if (!viewed.is("ConstantOfShape")) return;
    const double limit = plan_.choice.limit(viewed.outputs[0], half);
    if (!half && limit == 0) return;
    onnx::AttributeProto value = attribute_to_proto("value", Tensor::of<float>({0}));
    for (const auto& attribute : node.attribute())
      if (attribute.name() == "value" && attribute.has_t()) value = attribute;
    retype(*value.mutable_t(), half ? half_ : DType::f32, limit);
    node.clear_attribute();
    *node.add_attribute() = std::move(value);
  }

  void rewrite_constant(onnx::GraphProto& graph, std::unique_ptr<NodeProto> proto, ValueId v) {
    const ValueState& state = values_[v];
    const auto write = [&](std::unique_ptr<NodeProto> node, const std::string& name, bool half) {
      const double limit = plan_.choice.limit(v, half);
      if (half || limit > 0) {
        if (!node->attribute(0).has_t()) {
          const Tensor elements = constant_of_attribute(node->attribute(0));
          node->clear_attribute();
          *node->add_attribute() = attribute_to_proto("value", elements);
        }
        retype(*node->mutable_attribute(0)->mutable_t(), half ? half_ : DType::f32, limit);
      }
      node->set_output(0, name);
      graph.mutable_node()->AddAllocated(node.release());
    };
    std::unique_ptr<NodeProto> copy;
    if (!state.copy.empty()) {
      copy = std::make_unique<NodeProto>(*proto);
      if (!copy->name().empty()) copy->set_name(fresh(copy->name(), state.half ? DType::f32 : half_));
    }
    write(std::move(proto), state.name, state.half);
    if (copy) write(std::move(copy), state.copy, !state.half);
  }

  static Tensor constant_of_attribute(const onnx::AttributeProto& attribute) {
    if (attribute.name() == "value_float") return Tensor::scalar(attribute.f());
    return Tensor::of(std::vector<float>(attribute.floats().begin(), attribute.floats().end()));
  }

  /// The Cast that produces the copy of `v` in the other type, if needed, after the producer of `v`.
  void add_copy(onnx::GraphProto& graph, ValueId v) {
    const ValueState& state = values_[v];
    if (state.copy.empty() || is_constant(v) || kind_of_producer(v) == NodeKind::widening) return;
    const DType to = state.half ? DType::f32 : half_;
    // From the value that it was itself cast from, so that no two casts follow each other.
    const bool from_cast = kind_of_producer(v) == NodeKind::cast;
    const ViewNode* producer = from_cast ? &view_.nodes[index(view_.values[v].producer)] : nullptr;
    const std::string from = producer ? plain_name(producer->inputs[0]) : state.name;
    if (state.narrowing == kNone) return add_cast(graph, from, state.copy, to);
    NodeProto& cast = *graph.add_node();
    cast = *narrowings_.at(state.narrowing);
    cast.set_input(0, from);
  }

  // Before opset 6 the type was a name.
  onnx::AttributeProto cast_to(DType to) const {
    const auto opset = view_.opsets.find("");
    if (opset != view_.opsets.end() && opset->second < 6)
      return attribute_to_proto("to", onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(to)));
    return attribute_to_proto("to", static_cast<std::int64_t>(to));
  }

  void add_cast(onnx::GraphProto& graph, const std::string& from, const std::string& name, DType to) const {
    NodeProto& cast = *graph.add_node();
    cast.set_op_type("Cast");
    cast.set_name(name);
    cast.add_input(from);
    cast.add_output(name);
    *cast.add_attribute() = cast_to(to);
  }

  void rewrite_value_info(const ViewScope& scope) {
    auto& infos = *scope.graph->mutable_value_info();
    int kept = 0;
    for (int i = 0; i < infos.size(); ++i) {
      auto it = scope.values.find(infos.Get(i).name());
      if (it != scope.values.end()) {
        const ValueId v = it->second;
        const ValueState& state = values_[v];
        if (state.gone || plan_.same_as[v] != v) continue;
        infos.Mutable(i)->set_name(state.name);
        if (state.half) set_element_type(*infos.Mutable(i), half_);
      }
      infos.SwapElements(kept++, i);
    }
    infos.DeleteSubrange(kept, infos.size() - kept);
  }

  const ModelView& view_;
  const ConversionPlan& plan_;
  const DType half_;
  ValueMap<ValueState> values_;
  std::unordered_set<std::string> taken_;
  std::unordered_map<int, const NodeProto*> narrowings_;  ///< of the source, until their position in the graph
};

}  // namespace

RewrittenConstants rewrite(const ModelView& view, const ConversionPlan& plan, DType half) {
  return Rewriter(view, plan, half).run();
}

}  // namespace halfstep::conversion
