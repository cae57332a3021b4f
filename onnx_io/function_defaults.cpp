#include "onnx_io/function_defaults.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "onnx_io/convert.h"
#include "onnx_io/inlined_size.h"
#include "onnx_io/proto_walk.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr const char* kGiveThem = "export the model with these attributes given in each call";

struct Call {
  const onnx::FunctionProto* within;  ///< null: the main graph
  onnx::NodeProto* node;
  const onnx::FunctionProto* callee;
};

std::string key(const std::string& domain, const std::string& name, const std::string& overload) {
  return canonical_domain(domain) + ':' + name + ':' + overload;
}

const onnx::AttributeProto* given(const onnx::NodeProto& call, const std::string& name) {
  const auto found = std::find_if(call.attribute().begin(), call.attribute().end(),
                                  [&](const onnx::AttributeProto& a) { return a.name() == name; });
  return found == call.attribute().end() ? nullptr : &*found;
}

std::vector<Call> calls_of(onnx::ModelProto& model) {
  std::unordered_map<std::string, const onnx::FunctionProto*> functions;
  for (const auto& f : model.functions()) functions[key(f.domain(), f.name(), f.overload())] = &f;
  std::vector<Call> calls;
  const auto collect = [&](auto& owner, const onnx::FunctionProto* within) {
    for_each_node(owner, [&](onnx::NodeProto& node) {
      const auto callee = functions.find(key(node.domain(), node.op_type(), node.overload()));
      if (callee != functions.end()) calls.push_back({within, &node, callee->second});
    });
  };
  collect(*model.mutable_graph(), nullptr);
  for (auto& function : *model.mutable_functions()) collect(function, &function);
  return calls;
}

void fill(const std::vector<Call>& calls) {
  std::uint64_t added = 0;
  for (const Call& call : calls)
    for (const onnx::AttributeProto& by_default : call.callee->attribute_proto()) {
      if (given(*call.node, by_default.name())) continue;
      if (by_default.has_g() || by_default.graphs_size() > 0)
        throw_input_error("defaults of a function's attributes that are no graphs",
                          fmt::format("'{}' of '{}'", by_default.name(), call.callee->name()), kGiveThem);
      added += by_default.ByteSizeLong();
      if (added > kMaxInlinedGrowth)
        throw_input_error(fmt::format("defaults of attributes of at most {} bytes in all calls", kMaxInlinedGrowth),
                          fmt::format("more, at '{}'", call.callee->name()), kGiveThem);
      *call.node->add_attribute() = by_default;
    }
}

/// Attributes without a default that some call leaves out: themselves, or by an attribute of the caller's that one of
/// its own calls leaves out.
using Absent = std::set<std::pair<const onnx::FunctionProto*, std::string>>;

bool may_be_absent(const Absent& absent, const Call& call, const std::string& name) {
  const onnx::AttributeProto* attribute = given(*call.node, name);
  return !attribute || (call.within && absent.contains({call.within, attribute->ref_attr_name()}));
}

void refuse_defaults_in_doubt(const std::vector<Call>& calls) {
  Absent absent;
  for (bool grown = true; grown;) {
    grown = false;
    for (const Call& call : calls)
      for (const std::string& name : call.callee->attribute())
        if (may_be_absent(absent, call, name)) grown |= absent.emplace(call.callee, name).second;
  }
  for (const Call& call : calls)
    for (const onnx::AttributeProto& by_default : call.callee->attribute_proto())
      if (may_be_absent(absent, call, by_default.name()))
        throw_input_error(
            fmt::format("a value for '{}' wherever '{}' is called", by_default.name(), call.callee->name()),
            fmt::format("an attribute of '{}' that a call leaves out", call.within->name()), kGiveThem);
}

}  // namespace

void fill_function_defaults(onnx::ModelProto& model) {
  const std::vector<Call> calls = calls_of(model);
  fill(calls);
  refuse_defaults_in_doubt(calls);
}

}  // namespace halfstep
