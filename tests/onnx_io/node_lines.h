// What a graph consists of, as lines to compare.
#pragma once

#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include <halfstep/graph/graph.h>

namespace halfstep::test {

/// Writes a graph's nodes, one a line, with constants in place and values whose names are not `kept` numbered %1, %2,
/// ….
class NodeWriter {
 public:
  NodeWriter(const Graph& graph, std::set<std::string> kept) : graph_(graph), kept_(std::move(kept)) {}

  std::string write() {
    for (const Node& node : graph_.nodes) {
      for (std::size_t i = 0; i < node.outputs.size(); ++i) out_ << (i ? ", " : "") << name(node.outputs[i]);
      out_ << " = " << node.op;
      std::map<std::string, Attribute> attributes(node.attributes.begin(), node.attributes.end());
      if (!attributes.empty()) {
        out_ << "<";
        const char* separator = "";
        for (const auto& [key, value] : attributes) {
          out_ << std::exchange(separator, ", ") << key << "=";
          if (const auto* i = std::get_if<std::int64_t>(&value)) out_ << *i;
          if (const auto* f = std::get_if<float>(&value)) out_ << *f;
          if (const auto* s = std::get_if<std::string>(&value)) out_ << *s;
          if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) write_list(*list);
        }
        out_ << ">";
      }
      out_ << "(";
      for (std::size_t i = 0; i < node.inputs.size(); ++i) out_ << (i ? ", " : "") << name(node.inputs[i]);
      out_ << ")\n";
    }
    return out_.str();
  }

 private:
  template <class List>
  void write_list(const List& list) {
    out_ << "[";
    for (std::size_t i = 0; i < list.size(); ++i) out_ << (i ? " " : "") << list[i];
    out_ << "]";
  }

  std::string name(ValueId id) {
    if (id == kNoValue) return "_";
    const Value& value = graph_[id];
    if (value.is_constant()) {
      std::ostringstream text;
      text << name_of(value.dtype) << value.shape.to_string() << "{";
      const std::vector<double> elements = to_doubles(value.constant);
      for (std::size_t i = 0; i < elements.size(); ++i) text << (i ? " " : "") << elements[i];
      return text.str() + "}";
    }
    if (kept_.contains(value.name)) return value.name;
    auto [it, is_new] = made_.try_emplace(id, made_.size() + 1);
    return "%" + std::to_string(it->second);
  }

  const Graph& graph_;
  std::set<std::string> kept_;
  std::map<ValueId, std::size_t> made_;
  std::ostringstream out_;
};

inline std::string nodes_of(const Graph& graph, std::set<std::string> kept) {
  return NodeWriter(graph, std::move(kept)).write();
}

}  // namespace halfstep::test
