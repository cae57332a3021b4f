#include "onnx_io/convert.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "conversion/content.h"
#include "conversion/drop_metadata.h"
#include "conversion/model_view.h"
#include "conversion/node_patterns.h"
#include "conversion/plan.h"
#include "conversion/raise_opset.h"
#include "conversion/rewrite.h"
#include "conversion/stored_tensors.h"
#include "onnx_io/message.h"
#include "onnx_io/normalize.h"
#include "onnx_io/proto_walk.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

using namespace conversion;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

DetachedModel prepared(DetachedModel model) {
  normalize_message(model.model);
  check_detached(model.model);
  return model;
}

int count_casts(onnx::ModelProto& model) {
  int casts = 0;
  for_each_node(*model.mutable_graph(), [&](const onnx::NodeProto& node) { casts += node.op_type() == "Cast"; });
  return casts;
}

std::int64_t opset_of(const onnx::ModelProto& model) {
  for (const auto& import : model.opset_import())
    if (canonical_domain(import.domain()).empty()) return import.version();
  return 0;
}

// The approximate size of the message with all its tensors inside.
std::uint64_t bytes_with_tensors(onnx::ModelProto& model, const OutsideTensors& outside) {
  std::uint64_t bytes = model.ByteSizeLong();
  for_each_tensor(model, [&](const onnx::TensorProto& tensor) {
    const std::uint64_t elements = outside.bytes(tensor);
    if (elements == 0) return;
    bytes += elements;
    for (const auto& entry : tensor.external_data()) bytes -= entry.ByteSizeLong();
  });
  return bytes;
}

// "" for the main graph, else the names of the owning nodes.
std::string path_of(const ModelView& view, const std::vector<std::string>& owners, int scope) {
  const int parent = view.scopes[index(scope)].parent;
  if (parent == kNone) return {};
  const std::string outer = path_of(view, owners, parent);
  return (outer.empty() ? "" : outer + "/") + owners[index(scope)];
}

void report_nodes(const ModelView& view, const ConversionPlan& plan, ConversionReport& report) {
  std::vector<std::string> owners(view.scopes.size());
  for (const ViewNode& node : view.nodes)
    for (std::size_t b = 0; b < node.bodies.size(); ++b)
      owners[index(node.bodies[b])] =
          fmt::format("{}.{}", label_of(*node.proto), view.scopes[index(node.bodies[b])].graph->name());
  for (std::size_t i = 0; i < view.nodes.size(); ++i) {
    const ViewNode& node = view.nodes[i];
    if (node.is("Constant")) continue;
    NodeReport& entry = report.nodes.emplace_back();
    entry.name = label_of(*node.proto);
    entry.op = operator_of(node);
    entry.graph = path_of(view, owners, node.scope);
    const PrecisionNode& planned = plan.nodes[i];
    const auto has_floats = [](const std::vector<Role>& roles) {
      return std::any_of(roles.begin(), roles.end(),
                         [](Role role) { return role == Role::tied || role == Role::fixed; });
    };
    entry.has_floats = has_floats(planned.input_roles) || has_floats(planned.output_roles);
    entry.half = plan.is_half(static_cast<int>(i)) && entry.has_floats;
    entry.reason = plan.kinds[i] == NodeKind::widening || plan.kinds[i] == NodeKind::narrowing ? "a cast of the source"
                                                                                               : plan.choice.reasons[i];
    const auto names = [&](const std::vector<ValueId>& values) {
      std::vector<std::string> result;
      for (const ValueId v : values)
        if (v != kNoValue) result.push_back(view.values[v].name);
      return result;
    };
    entry.inputs = names(node.inputs);
    entry.outputs = names(node.outputs);
  }
}

void report_tensors(const ModelView& view, const ConversionPlan& plan, const RewrittenConstants& constants,
                    ConversionReport& report) {
  for (const ValueId v : view.values.ids()) {
    const FloatRange* range = plan.values[v].range;
    if (!range) continue;
    const double limit = plan.choice.limits[v];
    if (limit > 0)
      report.notes.push_back(fmt::format(
          "'{}': elements beyond {:.6g} were clamped to it{} (a mask or a bound)", view.values[v].name, limit,
          constants.f32[v] && plan.choice.limit(v, false) == 0 ? fmt::format(" in {}", name_of(report.half)) : ""));
    if (plan.values[v].of_constant) continue;  // one element repeated
    TensorReport& entry = report.tensors.emplace_back();
    entry.name = view.values[v].name;
    entry.range = *range;
    const bool is_default = view.values[v].is_input && view.values[v].initializer;
    entry.is_constant = is_default || plan.values[v].kind == PrecisionValue::Kind::constant;
    if (!entry.is_constant) continue;
    const bool in_half = is_default ? plan.half_boundary[v] : constants.half[v];
    const bool in_f32 = is_default ? !in_half : constants.f32[v];
    const std::string half(name_of(report.half));
    entry.types = !in_half ? "f32" : in_f32 ? half + " and f32" : half;
    entry.bytes_before = range->count() * sizeof(float);
    entry.bytes_after = range->count() * ((in_half ? 2 : 0) + (in_f32 ? sizeof(float) : 0));
    entry.limit = limit;
  }
}

// Constants that keep a whole node in f32, or that lose small elements in half.
void warn_of_constants(const ModelView& view, const ConversionPlan& plan, ConversionReport& report) {
  const DType half = report.half;
  for (const ValueId v : view.values.ids()) {
    const PrecisionValue& value = plan.values[v];
    if (value.kind != PrecisionValue::Kind::constant || !value.range || plan.choice.limits[v] > 0) continue;
    const FloatRange& range = *value.range;
    if (!range.overflows(half) && !range.underflows_as_constant(half)) continue;
    const auto is_it = [&](ValueId in) { return in != kNoValue && (in == v || plan.choice.moved_from[in] == v); };
    std::string warning;
    for (std::size_t i = 0; i < view.nodes.size() && warning.empty(); ++i) {
      const PrecisionNode& node = plan.nodes[i];
      for (std::size_t k = 0; k < node.inputs.size() && warning.empty(); ++k) {
        if (node.input_roles[k] != Role::tied || !is_it(node.inputs[k])) continue;
        const std::string reader = fmt::format("{} '{}'", operator_of(view.nodes[i]), label_of(*view.nodes[i].proto));
        if (plan.choice.misfits[i] == Misfit::constant)
          warning =
              fmt::format("'{}' stays f32, and with it {}: {}", view.values[v].name, reader, plan.choice.reasons[i]);
        else if (plan.choice.half[i] && moves_data(node) && count_tied_inputs(node) > 1)
          warning = fmt::format(
              "'{}' is {} since {} combines it with other values: {} of {} elements below {:.2g}, the smallest normal "
              "{}",
              view.values[v].name, name_of(half), reader, range.below_normal(half), range.count(),
              smallest_normal(half), name_of(half));
      }
    }
    if (!warning.empty()) report.warnings.push_back(std::move(warning));
  }
}

void report_boundary(const ModelView& view, const ConversionPlan& plan, ConversionReport& report) {
  const ViewScope& main = view.scopes[0];
  for (const auto* list : {&main.inputs, &main.outputs})
    for (const ValueId v : *list) {
      if (!view.values[v].is_wide()) continue;
      BoundaryReport entry{
          .name = view.values[v].name, .is_input = list == &main.inputs, .half = plan.half_boundary[v], .reason = {}};
      if (const auto misfit = plan.boundary_misfits.find(v); misfit != plan.boundary_misfits.end()) {
        entry.reason = misfit->second.reason;
        const std::string what = fmt::format("{} '{}'", entry.is_input ? "input" : "output", entry.name);
        report.warnings.push_back(entry.half ? fmt::format("{} becomes {}, though {}: measure it, or keep its type",
                                                           what, name_of(report.half), entry.reason)
                                             : fmt::format("{} stays f32: {}", what, entry.reason));
      }
      const FloatRange* range = plan.values[v].range;
      if (!entry.is_input && range && range->nans + range->infinities > 0)
        report.warnings.push_back(
            fmt::format("output '{}' is infinite or not a number in f32 already: {} of {} elements", entry.name,
                        range->nans + range->infinities, range->count()));
      report.boundary.push_back(std::move(entry));
    }
}

// Warnings for nodes that are half because the user forced it.
void warn_of_forced(const ModelView& view, const ConversionPlan& plan, ConversionReport& report) {
  for (std::size_t i = 0; i < view.nodes.size(); ++i) {
    if (!plan.nodes[i].forced || !plan.choice.half[i]) continue;
    for (const ValueId out : view.nodes[i].outputs) {
      if (out == kNoValue || !plan.made_half[out]) continue;
      const FloatRange* range = plan.values[out].range;
      if (range && range->overflows(report.half))
        report.warnings.push_back(fmt::format(
            "'{}' becomes infinite: it reached {:.3g}, beyond the {:.5g} of {}, and {} '{}' is half as requested",
            view.values[out].name, range->max, largest(report.half), name_of(report.half), operator_of(view.nodes[i]),
            label_of(*view.nodes[i].proto)));
    }
  }
}

void tell_of_expectations(const ConversionPlan& plan, ConversionReport& report) {
  const auto count = std::count(plan.choice.misfits.begin(), plan.choice.misfits.end(), Misfit::expected);
  if (count > 0)
    report.notes.push_back(
        fmt::format("nodes that stay f32 because, judging by the weights, their values are likely outside of {}: {}; "
                    "measured ranges are more reliable",
                    name_of(report.half), count));
}

}  // namespace

ModelFile ModelFile::open(const std::filesystem::path& path) {
  ModelFile file;
  file.content_ = naming_file(path, [&] { return std::make_shared<const Content>(prepared(read_detached(path))); });
  return file;
}

ModelFile ModelFile::from_bytes(std::string_view bytes) {
  ModelFile file;
  file.content_ = std::make_shared<const Content>(prepared(detach(parse_message(bytes))));
  return file;
}

ModelFile ModelFile::parse(std::string_view text) {
  ModelFile file;
  file.content_ = std::make_shared<const Content>(prepared(detach(parse_text(text))));
  return file;
}

const std::vector<std::filesystem::path>& ModelFile::data_files() const { return content_->source.data_files; }

const ConversionReport& Conversion::report() const { return content_->report; }

std::string Conversion::bytes() const {
  onnx::ModelProto model = content_->model;
  attach(model, content_->source->source, true);
  content_->source->source.check_intact();
  return serialize_message(model);
}

std::uint64_t Conversion::save(const std::filesystem::path& path, ExternalData external) const {
  const DetachedModel& source = content_->source->source;
  std::error_code ignored;
  std::vector<std::filesystem::path> files = source.data_files;
  if (!source.path.empty()) files.push_back(source.path);
  for (const std::filesystem::path& file : files)
    if (std::filesystem::equivalent(path, file, ignored))
      throw_input_error("another file than the model that is converted, whose f32 weights would be lost", path.string(),
                        "write it to a new file");
  const bool too_large = content_->report.bytes_after > kMaxMessageBytes;
  if (external == ExternalData::never ||
      (external == ExternalData::automatic && !too_large && source.data_files.empty())) {
    const std::string whole = bytes();
    write_model_in_one(whole, path, Durability::soon, source.data_files);
    return whole.size();
  }
  onnx::ModelProto model = content_->model;
  attach(model, source, false);
  return write_model_with_data(std::move(model), path, outside_tensors(source), source.data_files);
}

void load_schemas() {
  register_schemas();
  onnx::OpSchemaRegistry::Schema("Identity");
}

Conversion convert(const ModelFile& file, const ConvertOptions& options) {
  if (!is_half(options.half))
    throw_input_error("f16 or bf16 to convert to", std::string(name_of(options.half)), "choose one of these");
  auto result = std::make_shared<Conversion::Content>();
  result->source = file.shared_content();
  const DetachedModel& source = file.content().source;
  onnx::ModelProto& model = result->model;
  model = source.model;
  ConversionReport& report = result->report;
  report.model = source.path.empty() ? model.graph().name() : source.path.filename().string();
  report.half = options.half;
  report.bytes_before = source.bytes;
  report.casts_before = count_casts(model);
  report.opset_before = opset_of(model);
  if (!options.keep_metadata) {
    const std::size_t before = model.ByteSizeLong();
    drop_metadata(model);
    if (const std::size_t dropped = before - model.ByteSizeLong(); dropped > 0)
      report.notes.push_back(fmt::format("{} bytes of metadata and doc strings were dropped", dropped));
  }
  if (model.functions_size() > 0 && !options.keep_functions) {
    inline_functions(model);
    report.notes.push_back("local functions were inlined");
  }
  if (options.half == DType::bf16) raise_opset(model, source, options, report.notes);
  const ModelView view = view_model(model);
  const ConversionPlan plan = plan_conversion(view, source, options);
  report.warnings = plan.warnings;
  report_boundary(view, plan, report);
  warn_of_constants(view, plan, report);
  warn_of_forced(view, plan, report);
  tell_of_expectations(plan, report);
  report_nodes(view, plan, report);
  const RewrittenConstants constants = rewrite(view, plan, options.half);
  report_tensors(view, plan, constants, report);
  report.casts_after = count_casts(model);
  if (report.casts_after > report.casts_before && opset_of(model) == 0) {
    auto* import = model.add_opset_import();
    import->set_domain("");
    import->set_version(kFirstBf16Opset);
    report.notes.push_back(fmt::format("operator set {} of ai.onnx was added for Casts", kFirstBf16Opset));
  }
  report.opset_after = opset_of(model);
  report.bytes_after = bytes_with_tensors(model, outside_tensors(source));
  source.check_intact();
  try {
    check_detached(model);
  } catch (const Error& e) {
    if (e.kind() == Error::Kind::failure) throw;
    throw_failure("a converted model that the ONNX checker accepts", e.found(),
                  "this is a defect of halfstep: please report it with the model");
  }
  return Conversion(std::move(result));
}

int ConversionReport::half_nodes() const {
  return static_cast<int>(std::count_if(nodes.begin(), nodes.end(), [](const NodeReport& n) { return n.half; }));
}

std::vector<std::string> ConversionReport::overflowing_outputs() const {
  std::vector<std::string> names;
  for (const OutputError& error : errors)
    if (error.non_finite > 0) names.push_back(error.name);
  return names;
}

int ConversionReport::f32_nodes() const {
  return static_cast<int>(
      std::count_if(nodes.begin(), nodes.end(), [](const NodeReport& n) { return n.has_floats && !n.half; }));
}

}  // namespace halfstep
