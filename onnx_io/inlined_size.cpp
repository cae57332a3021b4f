#include "onnx_io/inlined_size.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

// A few nested functions can multiply to any number of nodes; the largest real models have about ten thousand.
constexpr std::uint64_t kMaxNodes = 5'000'000;
// Graph traversals recurse into subgraphs and functions, and inference of nested loops multiplies.
constexpr int kMaxNesting = 16;
constexpr int kMaxCallDepth = 256;

// Sums stop here, far below what they could overflow at.
constexpr std::uint64_t kMany = std::uint64_t{1} << 62;

struct Size {
  std::uint64_t nodes = 0;
  std::uint64_t bytes = 0;  // of attributes, those of functions at each call
  int nesting = 0;          // subgraphs within subgraphs
};

class Measure {
 public:
  explicit Measure(const onnx::ModelProto& model) {
    for (const auto& f : model.functions()) functions_[key(f.domain(), f.name(), f.overload())] = &f;
  }

  Size of(const google::protobuf::RepeatedPtrField<onnx::NodeProto>& nodes, int calls = 0) {
    Size total;
    auto add = [&](const Size& part, int deeper) {
      total.nodes = std::min(total.nodes + part.nodes, kMaxNodes + 1);
      total.bytes = std::min(total.bytes + part.bytes, kMany);
      total.nesting = std::max(total.nesting, part.nesting + deeper);
    };
    for (const onnx::NodeProto& node : nodes) {
      const auto function = functions_.find(key(node.domain(), node.op_type(), node.overload()));
      add(function == functions_.end() ? Size{.nodes = 1} : of_function(*function->second, calls + 1), 0);
      for (const auto& attribute : node.attribute()) {
        if (attribute.has_g()) add(of(attribute.g().node(), calls), 1);
        for (const auto& graph : attribute.graphs()) add(of(graph.node(), calls), 1);
        if (!attribute.has_g()) add({.bytes = attribute.ByteSizeLong()}, 0);
      }
    }
    return total;
  }

 private:
  static std::string key(const std::string& domain, const std::string& name, const std::string& overload) {
    return domain + ':' + name + ':' + overload;
  }

  Size of_function(const onnx::FunctionProto& function, int calls) {
    if (calls > kMaxCallDepth)
      throw_input_error("functions that call functions at most " + std::to_string(kMaxCallDepth) + " levels deep",
                        "more, at '" + function.name() + "'", "export the model without nested functions");
    if (auto it = sizes_.find(&function); it != sizes_.end()) return it->second;
    return sizes_[&function] = of(function.node(), calls);
  }

  std::unordered_map<std::string, const onnx::FunctionProto*> functions_;
  std::unordered_map<const onnx::FunctionProto*, Size> sizes_;
};

}  // namespace

void check_inlined_size(const onnx::ModelProto& model) {
  const Size size = Measure(model).of(model.graph().node());
  if (size.nodes > kMaxNodes)
    throw_input_error("a model of at most " + std::to_string(kMaxNodes) + " nodes once its functions are inlined",
                      "more", "export the model without nested functions");
  if (size.bytes > model.ByteSizeLong() + kMaxInlinedGrowth)
    throw_input_error(
        fmt::format("a model that grows by at most {} bytes once its functions are inlined", kMaxInlinedGrowth), "more",
        "export the model with large constants as initializers, given to its functions");
  if (size.nesting > kMaxNesting)
    throw_input_error("subgraphs nested at most " + std::to_string(kMaxNesting) + " deep",
                      std::to_string(size.nesting) + " levels", "export the model with fewer nested If, Loop or Scan");
}

}  // namespace halfstep
