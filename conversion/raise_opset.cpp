#include "conversion/raise_opset.h"

#include <algorithm>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "conversion/lift_nodes.h"
#include "conversion/model_view.h"
#include "conversion/plan.h"
#include "onnx_io/convert.h"
#include "onnx_io/opset.h"
#include "onnx_io/proto_walk.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::conversion {
namespace {

// The first version in which a node can be half.
class Versions {
 public:
  Versions(const ModelView& view, DType half, std::int64_t now) : view_(view), half_(half), now_(now) {
    for (const ViewValue& value : view.values) values_.add({.wide = value.is_wide(), .half = value.dtype() == half});
  }

  /// The model's version if the node can already be half, or never can.
  std::int64_t first_half(const ViewNode& node) const {
    if (!node.domain.empty()) return now_;
    const OpDef* row = find_op(node.op);
    if (!row || row->precision == PrecisionClass::full) return now_;
    int seen = 0;
    for (std::int64_t version = now_; version <= kOnnxOpset; ++version) {
      const auto* schema = onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), "");
      if (!schema || schema->since_version() == seen) continue;
      seen = schema->since_version();
      PrecisionNode described;
      described.op = node.op;
      described.domain = node.domain;
      described.inputs = node.inputs;
      described.outputs = node.outputs;
      assign_roles(described, schema, half_, values_);
      if (described.has_tied()) return half_ == DType::bf16 ? std::max(version, row->traits.body_bf16_since) : version;
    }
    return now_;
  }

 private:
  const ModelView& view_;
  const DType half_;
  const std::int64_t now_;
  ValueMap<PrecisionValue> values_;
};

struct Need {
  std::int64_t version;
  std::string op;
};

// What becomes half in the newest relevant version, and the first version that supports it.
std::vector<Need> find_needs(ModelView view, const DetachedModel& source, const ConvertOptions& options,
                             std::int64_t now) {
  const Versions versions(view, options.half, now);
  std::vector<std::int64_t> first;
  for (const ViewNode& node : view.nodes) first.push_back(versions.first_half(node));
  const std::int64_t newest = first.empty() ? now : *std::max_element(first.begin(), first.end());
  const bool has_casts = now >= kFirstBf16Opset;
  if (newest <= now && has_casts) return {};
  view.opsets[""] = std::max(newest, kFirstBf16Opset);
  const ConversionPlan plan = plan_conversion(view, source, options);
  std::vector<Need> needs;
  if (!has_casts && std::find(plan.half_boundary.begin(), plan.half_boundary.end(), true) != plan.half_boundary.end())
    needs.push_back({kFirstBf16Opset, "Cast"});
  for (std::size_t i = 0; i < view.nodes.size(); ++i)
    if (plan.choice.half[i] && first[i] > now) needs.push_back({std::max(first[i], kFirstBf16Opset), view.nodes[i].op});
  return needs;
}

const Need* largest_need(const std::vector<Need>& needs, std::int64_t at_most) {
  const Need* largest = nullptr;
  for (const Need& need : needs)
    if (need.version <= at_most && (!largest || need.version > largest->version)) largest = &need;
  return largest;
}

void rewrite_nodes(onnx::ModelProto& model, NodeLifter& lifter, std::int64_t target) {
  std::vector<onnx::GraphProto*> graphs;
  for_each_graph(*model.mutable_graph(), [&](onnx::GraphProto& graph) { graphs.push_back(&graph); });
  // Inner graphs first: the messages of their owners may be moved afterwards.
  for (auto graph = graphs.rbegin(); graph != graphs.rend(); ++graph) {
    google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
    for (auto& node : *(*graph)->mutable_node()) {
      auto lifted = node.domain().empty() ? lifter.lift(node, target) : std::nullopt;
      if (!lifted) {
        nodes.Add()->Swap(&node);
        continue;
      }
      for (auto& next : lifted->nodes) nodes.Add()->Swap(&next);
      for (auto& tensor : lifted->initializers) (*graph)->add_initializer()->Swap(&tensor);
    }
    (*graph)->mutable_node()->Swap(&nodes);
  }
}

}  // namespace

void raise_opset(onnx::ModelProto& model, const DetachedModel& source, const ConvertOptions& options,
                 std::vector<std::string>& notes) {
  if (model.functions_size() > 0) return;  // their bodies have separate opsets
  const auto import = std::find_if(model.mutable_opset_import()->begin(), model.mutable_opset_import()->end(),
                                   [](const auto& candidate) { return candidate.domain().empty(); });
  if (import == model.mutable_opset_import()->end()) return;
  const std::int64_t now = import->version();
  const std::vector<Need> needs = find_needs(view_model(model), source, options, now);
  const Need* wanted = largest_need(needs, kOnnxOpset);
  if (!wanted) return;

  NodeLifter lifter(model, source, now);
  std::int64_t reached = wanted->version;
  std::string stopped_by;
  for_each_node(*model.mutable_graph(), [&](const onnx::NodeProto& node) {
    if (!node.domain().empty()) return;
    const std::int64_t reach = lifter.reach(node, reached);
    if (reach < reached) stopped_by = node.op_type();
    reached = std::min(reached, reach);
  });
  const Need* target = largest_need(needs, reached);
  const std::string half(name_of(options.half));
  if (target != wanted)
    notes.push_back(
        fmt::format("{} needs operator set {} for {}, but {} cannot be written in {}: nodes without {} in "
                    "operator set {} stay f32",
                    wanted->op, wanted->version, half, stopped_by, reached + 1, half, target ? target->version : now));
  if (!target) return;
  rewrite_nodes(model, lifter, target->version);
  import->set_version(target->version);
  model.set_ir_version(std::max<std::int64_t>(model.ir_version(), ir_version_of(target->version)));
  notes.push_back(fmt::format("operator set {} instead of {}, since {} supports {} only from that version on",
                              target->version, now, target->op, half));
}

}  // namespace halfstep::conversion
